"""The folders of runs: each is made once, found again, and never overwritten."""

import hashlib
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

from lightning_seg.files import atomic_write
from lightning_seg.reading import as_yaml, open_regular, read_yaml
from lightning_seg.runs.contents import BEST, CONFIG, DATA, LAST, LOCK, RESULT, has_finished, read_result
from lightning_seg.runs.identity import changed_machine, is_place, key_of, raised_length
from lightning_seg.runs.kept import as_kept
from lightning_seg.runs.plain import check_plain


def open_run(
    config: Mapping[str, Any],
    overrides: Sequence[str],
    kept_in: Callable[[Path], Mapping[str, Any]] | None = None,
) -> tuple[Path, bool]:
    """The folder of a run, and whether it existed before.

    Named by the user (`run=NAME`), or by what was chosen on the command line, with a number after it if that is taken.
    `resume=auto` resumes in the folder of the same name, the one with the highest number, if there is one.

    Args:
        config: composed and resolved.
        overrides: the choices of the command line.
        kept_in: the configuration of a run in a folder, whose paths lead into it; None: the same in any.

    Raises:
        FileExistsError: `run=NAME` exists, and `resume` is not auto.
        ValueError: `resume` is neither never nor auto, or the run that exists was made with another configuration.
    """
    if config["resume"] not in ("never", "auto"):
        raise ValueError(f"resume={config['resume']} is not one of never, auto.")
    runs = Path(config["runs"]).expanduser().absolute()
    name = config["run"]
    names = _numbered(run_name(overrides)) if name is None else [_plain_name(config)]

    if config["resume"] == "auto":
        existing = _existing(runs, run_name(overrides) if name is None else str(name), numbered=name is None)
        if existing is not None:
            changes(existing, config, overrides)
            return existing, True
    for name in names:
        folder = runs / name
        if folder.exists():
            continue
        own = config if kept_in is None else kept_in(folder)
        if _make(folder, {**own, "folder": str(folder), "run_id": uuid4().hex}):
            return folder, False
    if config["resume"] == "auto":  # another command has made it meanwhile
        changes(folder, config, overrides)
        return folder, True
    raise FileExistsError(f"{folder} exists: resume=auto continues it, run=ANOTHER starts another.")


def sweep_path(config: Mapping[str, Any], overrides: Sequence[str]) -> Path:
    """The folder of all runs and the name of a sweep: the user's (`run=NAME`), or one of what was chosen.

    Raises:
        ValueError: it is not a plain name.
    """
    name = run_name(overrides) if config["run"] is None else _plain_name(config)
    return Path(config["runs"]).expanduser().absolute() / name


def changes(folder: Path, config: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, tuple[Any, Any]]:
    """What is new in a resumed run, by key, with the value before and now: of the machine, and a greater length.

    Raises:
        ValueError: it was made with another configuration.
    """
    before, config = kept_config(folder), as_kept(config)
    longer = raised_length(before, config)
    trainer = {**(before.get("trainer") or {}), **{key.split(".")[1]: now for key, (_, now) in longer.items()}}
    return {**longer, **changed_machine(folder, {**before, "trainer": trainer}, config, overrides)}


def finished_result(folder: Path, config: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any] | None:
    """The scores of a run if it has finished; None if not, or if it is to be longer than it was.

    Raises:
        ValueError: it has finished, but was made with another configuration.
    """
    result = read_result(folder)
    if result is None or not has_finished(result, config):
        return None
    changes(folder, config, overrides)
    return None if raised_length(kept_config(folder), config) else result


def keep_changes(folder: Path, config: Mapping[str, Any]) -> None:
    """Keeps the configuration that a run resumes with; a result that it has is that of a shorter training."""
    before = kept_config(folder)
    now = as_kept(config) | {name: before[name] for name in ("folder", "run_id") if name in before}
    if raised_length(before, config):
        (folder / RESULT).unlink(missing_ok=True)
    if now != before:
        _write_config(folder, now, overwrite=True)


def is_restarted() -> bool:
    """Whether SLURM has requeued this job, after a preemption or a time limit; it then resumes its run."""
    return int(os.environ.get("SLURM_RESTART_COUNT") or 0) > 0


def run_id(folder: Path) -> str | None:
    """What names a run to a logger, the same whenever it is resumed."""
    name = kept_config(folder).get("run_id")
    return None if name is None else str(name)


def checkpoint_to_resume(folder: Path) -> Path | None:
    """The checkpoint that a run resumes from, the last one; None to start.

    Raises:
        OSError: it is not a file that can be read.
        ValueError: it is damaged or no plain data, or there is only the best, which has no optimizer's state.
    """
    last, best = folder / LAST, folder / BEST
    if last.is_dir():  # FSDP writes one file a process.
        check_plain(last)
        return last
    if not os.path.lexists(last):
        if best.exists():
            raise ValueError(
                f"{folder} has {BEST} and no {LAST}, which a run resumes from: choose another run=NAME, or remove "
                f"{best} to start again."
            )
        return None
    with open_regular(last):
        pass  # a named pipe, say, would be waited for
    if not _is_whole(last):
        kept = f"; the best weights are in {best}" if best.exists() else ""
        raise ValueError(f"{last}: damaged, so the run cannot be resumed{kept}. Remove both to start again.")
    check_plain(last)
    return last


def _is_whole(path: Path) -> bool:
    """Whether a checkpoint is as it was written, by the checksums within it."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except zipfile.BadZipFile:
        return False


def run_name(overrides: Sequence[str], swept: Collection[str] = ()) -> str:
    """A folder's name for the choices of a command line, without those that do not change the result.

    Args:
        overrides: the choices.
        swept: keys that are part of the name in any case.
    """
    chosen = sorted(
        override
        for override in overrides
        if (key := key_of(override)) in swept or (key != "data.root" and not is_place(key))
    )
    if not chosen:
        return "default"
    name = ",".join(chosen)
    readable = re.sub(r"[^\w.,=+-]+", "_", name).strip("._")
    if readable == name and len(readable) <= 100:
        return readable
    return f"{readable[:90]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def discard_empty_run(folder: Path) -> None:
    """Frees the name of a run that ended before it had anything to keep."""
    if {path.name for path in folder.iterdir()} <= {CONFIG, DATA, LOCK}:
        shutil.rmtree(folder)


def _make(folder: Path, config: Mapping[str, Any]) -> bool:
    """Makes a run's folder with its configuration in it, at once; False if another job has made it."""
    partial = folder.with_name(f".{uuid4().hex}.partial")
    partial.mkdir(parents=True)
    _write_config(partial, as_kept(config))
    try:
        partial.rename(folder)
    except OSError:
        shutil.rmtree(partial)
        if not folder.exists():
            raise
        return False
    return True


def _plain_name(config: Mapping[str, Any]) -> str:
    name = str(config["run"])
    if Path(name).name != name or name in ("", ".."):
        raise ValueError(
            f"run={name} must be a plain name, without folders; the folder of all runs is runs={config['runs']}."
        )
    return name


def _numbered(name: str) -> Any:
    return (name if number == 1 else f"{name}-{number}" for number in count(1))


def _existing(runs: Path, name: str, *, numbered: bool) -> Path | None:
    if not numbered:
        return runs / name if (runs / name).is_dir() else None
    last = None
    for candidate in _numbered(name):
        if not (runs / candidate).is_dir():
            return last
        last = runs / candidate
    return None


def kept_config(folder: Path) -> dict[str, Any]:
    """The configuration that a run was started with, or last resumed.

    Raises:
        ValueError: the folder is not a run's.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise ValueError(f"{folder} has no {CONFIG}, so it is not a run: choose another name, run=ANOTHER.")
    before = read_yaml(path)
    if not isinstance(before, dict):
        raise ValueError(f"{path} is not the configuration of a run: choose another name, run=ANOTHER.")
    return {str(name): value for name, value in before.items()}


def _write_config(folder: Path, config: Mapping[str, Any], *, overwrite: bool = False) -> None:
    with atomic_write(folder / CONFIG, overwrite=overwrite) as temporary:
        temporary.write_text(as_yaml(config), encoding="utf-8")
