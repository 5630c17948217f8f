"""One clear line for a mistake, and the whole traceback for a defect of ours."""

import builtins
import errno
import logging
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import hydra
from hydra.errors import HydraException, InstantiationException

from lightning_seg.launch.composition import CONFIG, explained
from lightning_seg.launch.ending import ProcessError
from lightning_seg.text import print_any_character, say, say_lines

PACKAGE = Path(__file__).parents[1]
# These report a choice that cannot be met; whoever raises them, the traceback says nothing more.
_ABOUT_THE_CHOICE = ("HydraException", "OmegaConfBaseException", "MisconfigurationException")
# What this package raises on purpose, with a sentence; a KeyError, say, is a defect wherever it comes from.
_ON_PURPOSE = (
    "ValueError",
    "TypeError",
    "RuntimeError",
    "ImportError",
    "OSError",
    "FloatingPointError",
    "JobError",
    "TrainingDiverged",
)

_LESS_MEMORY = (
    "use a smaller data.batch_size (trainer.accumulate_grad_batches makes up for it), a smaller augment.crop_size or "
    "data.scale, or trainer.precision=bf16-mixed"
)
_RESUMES = "; a training resumes with resume=auto"
_FREE_SPACE = f"free some space or choose another disk{_RESUMES}"
# What the system says of a file, in words that say what to do.
_OF_FILES = {
    errno.EACCES: "you may not read or write it: change its permissions, or choose another place",
    errno.EPERM: "you may not read or write it: change its permissions, or choose another place",
    errno.EROFS: "the file system is read-only: choose another place",
    errno.ENOENT: "does not exist",
    errno.EEXIST: "exists, but is not a folder that can be used: choose another name, or move it away",
    errno.ENOTDIR: "a part of the path is a file, not a folder: choose another name, or move the file away",
    errno.EISDIR: "is a folder, where a file is needed",
    errno.ELOOP: "is a link that leads to itself",
    errno.ENAMETOOLONG: "the name is too long: choose a shorter one, run=NAME for a run",
    errno.ENOSPC: f"the disk is full: {_FREE_SPACE}",
    errno.EDQUOT: f"your quota of the disk is used up: {_FREE_SPACE}",
    errno.EFBIG: "the file is larger than the limit allows: raise it (ulimit -f unlimited)",
    errno.EIO: "the disk could not be read or written: check it",
    errno.ESTALE: "the network file system lost the file: check it, and start again with resume=auto",
    errno.EMFILE: "too many files are open: raise the limit (ulimit -n), or use a smaller data.num_workers",
    errno.ENOMEM: f"memory ran out: {_LESS_MEMORY}",
}
# What libraries say of memory, processes and weights, in the words of our options. The first that fits counts.
_OF_LIBRARIES: tuple[tuple[str, str], ...] = (
    (
        r"DataLoader worker.*(?:Bus error|shared memory|shm)|unable to (?:write to|open|allocate) shared memory"
        r"|unable to (?:write to|open) file </torch_|unable to mmap \d+ bytes from file <",
        "the shared memory through which processes hand over images (/dev/shm) is too small: start the container "
        "with more (docker run --shm-size=8g, or --ipc=host), or use data.num_workers=0",
    ),
    (
        r"DataLoader worker \(pid\(?s?\)? ([\d, ]+)\).*(?:exited unexpectedly|killed by signal: (\w[\w ]*))",
        "a data loading worker (pid {0}) was killed, most likely because memory ran out: use a smaller "
        "data.num_workers or data.batch_size, or ask for more memory",
    ),
    (r"DataLoader timed out", "loading a batch took too long: check the disk, or use another data.num_workers"),
    (
        r"(?:CUDA|MPS|HIP) (?:backend )?out of memory(?:.*?Tried to allocate ([\d.]+ \w+))?",
        f"the GPU ran out of memory: {_LESS_MEMORY}",
    ),
    (
        r"(?:can't|not enough memory: you tried to) allocate (?:memory)?.*?([\d.]+ ?\w*B\w*|\d+)",
        f"memory ran out: {_LESS_MEMORY}",
    ),
    (
        r"(\S+): failed to map segment from shared object",
        "memory ran out while {0} was loaded: raise the limit (ulimit -v unlimited), or use a machine with more",
    ),
    (r"(?:bad_alloc|Cannot allocate memory)", f"memory ran out: {_LESS_MEMORY}"),
    (r"No space left on device|disk is full", f"the disk is full: {_FREE_SPACE}"),
    (
        r"No supported gpu backend found",
        "trainer.accelerator=gpu, and torch finds no GPU here: use trainer.accelerator=auto or cpu, or install a "
        "torch that supports this one",
    ),
    (
        r"`(\w+)Accelerator` can not run on your system",
        "trainer.accelerator={0} is not on this machine: use trainer.accelerator=auto or cpu",
    ),
    (r"Neither `tensorboard` nor", "the logger needs tensorboard: pip install tensorboard"),
    (r"Requirement '([\w.-]+?)[<>=!~][^']*' not met", "this choice needs {0}: pip install {0}"),
    (r"File too large \(os error", "the file is larger than the limit allows: raise it (ulimit -f unlimited)"),
    (
        r"PytorchStreamWriter|inline_container\.cc.*unexpected pos|iostream error|file write failed",
        f"a checkpoint could not be written: the disk is full, or a limit on the size of files is reached; "
        f"{_FREE_SPACE}",
    ),
    (
        r"Error\(s\) in loading state_dict for (\w+):(.*)",
        "the weights of the checkpoint do not fit {0}: {1}. Build the network as it was trained",
    ),
    (
        r"parameters that were not used in producing the loss|Expected to have finished reduction in the prior",
        "a parameter got no gradient, which distributed training must be told to expect: use "
        "trainer.strategy=ddp_find_unused_parameters_true, or build the network without it",
    ),
    (
        r"Expected more than 1 value per channel when training, got input size (?:torch\.Size\()?(\[[\d, ]+\])",
        "batch normalization cannot train on one value per channel (it got {0}): use a larger data.batch_size, "
        "larger images or augment.crop_size, or a network without batch normalization at one pixel",
    ),
    (
        r"expected input.*? to have (\d+) channels, but got (\d+) channels",
        "the network takes images of {0} channels, and got images of {1}: set backbone.in_channels={1}, or change "
        "the images",
    ),
)


class JobError(RuntimeError):
    """The error of a job in one line, which can be pickled on its way from another process."""


def run_command(task: Callable[[Any], Any], config_name: str) -> None:
    """Runs a command: Hydra composes `config_name`, and `task` is called with it.

    What goes wrong ends it as `errors_in_one_line` says.
    """
    failed: list[Exception] = []

    @wraps(task)
    def kept(config: Any) -> Any:
        try:
            return task(config)
        except Exception as error:  # Hydra would print all overrides before it.
            failed.append(error)

    with errors_in_one_line():
        quiet_lightning()
        print_any_character()
        try:
            hydra.main(config_path=f"pkg://{CONFIG}", config_name=config_name, version_base="1.3")(kept)()
            if failed:
                raise failed[0]
        except Exception as error:
            line = explained(error, config_name, sys.argv[1:]) if _is_about_the_choice(error) else None
            line = line or _of_hydras_own(error, sys.argv[1:])
            if line is None:
                raise
            raise ValueError(line) from error


def _of_hydras_own(error: Exception, arguments: Sequence[str]) -> str | None:
    """The line of an error that settings of Hydra's own have led to, before any of this package was called."""
    settings = [word for word in arguments if word.lstrip("+~").startswith(("hydra=", "hydra."))]
    frames = {Path(frame.filename) for frame in traceback.extract_tb(error.__traceback__)} - {Path(__file__)}
    if not settings or any(file.is_relative_to(PACKAGE) and file.name != "console.py" for file in frames):
        return None
    return f"{' '.join(settings)} cannot be used: {' '.join(str(error).split()).rstrip('.')}."


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Ends the command with one line and exit status 1 at a mistake, or where the machine gave out.

    `HYDRA_FULL_ERROR=1` shows the whole traceback, as does an error that is nobody's mistake but ours.
    """
    wants_all = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises errors instead of printing them its own way.
    try:
        yield
    except KeyboardInterrupt:
        if wants_all:
            raise
        say(f"{_command()}: interrupted", error=True)
        sys.exit(130)
    except Exception as error:
        if wants_all or one_line(error) is None:
            raise
        print_error(error)
        sys.exit(1)
    finally:
        if not wants_all:
            del os.environ["HYDRA_FULL_ERROR"]


def print_error(error: BaseException) -> None:
    """Prints an error, in one line where that says enough."""
    line = one_line(error)
    if line is None:
        say_lines("".join(traceback.format_exception(error)), error=True)
    else:
        say(f"{_command()}: {line}", error=True)


def one_line(error: BaseException) -> str | None:
    """What a person should read of an error, in one line; None if it is a defect of this package, or of their code."""
    line = _one_line(error)
    return line if line is None or _command() == "lightning-seg-train" else line.replace(_RESUMES, "")


def _one_line(error: BaseException) -> str | None:
    if isinstance(error, ProcessError):
        return _of_traceback(error.callstack) if error.callstack else str(error)
    if isinstance(error, HydraException) and error.__cause__ is not None:  # Hydra wraps what a constructor raised.
        line = _one_line(error.__cause__)
        if line is not None or not isinstance(error, InstantiationException):
            return line
        built = re.search(r"call to target '(?:\S*\.)?(\w+)'", str(error))
        said = " ".join(str(error.__cause__).split())
        kind = type(error.__cause__).__name__
        # The message of a KeyError is the key alone.
        return f"{built[1] if built else 'a part'}: {said if kind in _ON_PURPOSE and said else f'{kind}: {said}'}"
    if "Original Traceback (most recent call last):" in str(error):  # from a process of a DataLoader
        return _of_traceback(str(error))
    frames = traceback.extract_tb(error.__traceback__)
    kinds = [kind.__name__ for kind in type(error).__mro__]
    line = _line(kinds, str(error), frames[-1].filename if frames else "", (frames[-1].line or "") if frames else "")
    if line is None and _is_about_the_choice(error):
        return re.sub(r" (full_key: \S+ )?object_type=\S+", r"", " ".join(str(error).split()))
    return line


def _is_about_the_choice(error: BaseException) -> bool:
    return any(kind.__name__ in _ABOUT_THE_CHOICE for kind in type(error).__mro__)


def _line(kinds: Sequence[str], message: str, filename: str, code: str) -> str | None:
    """The line of an error.

    Args:
        kinds: its class and those that this is derived from.
        message: what it says.
        filename: where it was raised.
        code: the line that raised it.
    """
    on_purpose = code.strip().startswith("raise ") and Path(filename).is_relative_to(PACKAGE)
    if on_purpose and any(kind in _ON_PURPOSE for kind in kinds):
        return " ".join(message.split())
    if "MemoryError" in kinds:
        return f"memory ran out: {_LESS_MEMORY}."
    of_file = re.match(r"\[Errno (\d+)\] ([^:]*)(?:: (.*))?", message, re.DOTALL)
    if of_file:
        number, said, name = int(of_file[1]), of_file[2], of_file[3]
        sentence = _OF_FILES.get(number, said[:1].lower() + said[1:])
        where = " and ".join(part.strip("'\"") for part in name.split(" -> ")) if name else None
        return f"{where}: {sentence}." if where else f"{sentence[:1].upper()}{sentence[1:]}."
    for pattern, sentence in _OF_LIBRARIES:
        found = re.search(pattern, " ".join(message.split()))
        if found:
            return sentence.format(*(group.strip(" .,") if group else "?" for group in found.groups())) + "."
    return None


def _of_traceback(text: str) -> str | None:
    """The line of an error that comes as the text of its traceback from another process."""
    first, *_ = re.split(r"\n\n(?:The above exception|During handling)", text)
    frames = re.findall(r'^ *File "(.+?)", line \d+.*\n(.*)', first, flags=re.MULTILINE)
    raised = re.search(
        r"^ *(\w[\w.]*(?:Error|Exception|Interrupt|Diverged)): (.*)", first[first.rfind("  File ") :], re.M | re.S
    )
    if not frames or raised is None:
        return None
    module, _, kind = raised[1].rpartition(".")
    known = getattr(sys.modules.get(module, builtins), kind, None)
    kinds = [kind, *(base.__name__ for base in known.__mro__)] if isinstance(known, type) else [kind]
    return _line(kinds, raised[2], *frames[-1])


def _command() -> str:
    return Path(sys.argv[0]).name


def quiet_lightning() -> None:
    """Silences what Lightning says of itself, and advice of it that does not hold here."""
    for name in ("lightning.pytorch", "lightning.fabric"):  # devices it found, tips, where it reads a checkpoint
        logging.getLogger(name).setLevel(logging.WARNING)
    for kind in (DeprecationWarning, FutureWarning):
        warnings.filterwarnings("ignore", category=kind, module=r"(lightning|torch)\.")
    warnings.filterwarnings("ignore", message=r".*LeafSpec.* is deprecated.*")
    for message in (
        r".*recommended to use `self.log\(.*sync_dist=True.*",  # our metrics have synchronized already
        r".*it is recommended to use `Trainer\(devices=1.*",  # our module counts each image once
        r".*does not have many workers.*",  # measured: the embedded data set needs none
        r".*The `srun` command is available.*",
        r".*your dataloader is not resumable.*",  # ours asks the trainer where to resume
        r"Checkpoint directory .* exists and is not empty.*",  # as whenever a run is resumed
    ):
        warnings.filterwarnings("ignore", message=message)
