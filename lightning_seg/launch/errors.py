"""One clear line for a mistake, and the whole traceback for a defect of ours."""

import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
from hydra.errors import HydraException
from lightning.fabric.utilities.exceptions import MisconfigurationException
from omegaconf.errors import OmegaConfBaseException

from lightning_seg.launch.processes import ProcessError, print_any_character
from lightning_seg.text import say, say_lines

PACKAGE = Path(__file__).parents[1]
# These report a choice that cannot be met; whoever raises them, the traceback says nothing more.
_ABOUT_THE_CHOICE = (HydraException, OmegaConfBaseException, MisconfigurationException)


class JobError(RuntimeError):
    """The error of a job in one line, which can be pickled on its way from another process."""


def run_command(task: Callable[[Any], Any], config_name: str) -> None:
    """Runs a command: Hydra composes `config_name`, and `task` is called with it.

    A mistake in the configuration or in the data ends it with one line and exit status 1. `HYDRA_FULL_ERROR=1` shows
    the whole traceback, as does an error that is a defect of this package.
    """
    quiet_lightning()
    print_any_character()
    wants_all = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises errors instead of printing them its own way.
    try:
        hydra.main(config_path="pkg://lightning_seg.conf", config_name=config_name, version_base="1.3")(task)()
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
        say(f"{Path(sys.argv[0]).name}: {line}", error=True)


def one_line(error: BaseException) -> str | None:
    """What a person should read of an error, in one line; None if it is not a mistake of theirs."""
    if isinstance(error, ProcessError):
        return _of_traceback(error.callstack) if error.callstack else str(error)
    while isinstance(error, HydraException) and error.__cause__ is not None and _raised_by_us(error.__cause__):
        error = error.__cause__  # Hydra wraps what a constructor raised.
    if "Original Traceback (most recent call last):" in str(error):  # from a process of a DataLoader
        return _of_traceback(str(error))
    if isinstance(error, _ABOUT_THE_CHOICE) or _raised_by_us(error):
        return " ".join(str(error).split())
    return None


def _raised_by_us(error: BaseException) -> bool:
    """Whether a `raise` of this package raised it; a KeyError, say, that just happens there is a defect."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and _is_raise(frames[-1].filename, frames[-1].line or "")


def _is_raise(filename: str, line: str) -> bool:
    return Path(filename).is_relative_to(PACKAGE) and line.strip().startswith("raise ")


def _of_traceback(text: str) -> str | None:
    """The line of an error that comes as the text of its traceback from another process."""
    first, *_ = re.split(r"\n\n(?:The above exception|During handling)", text)
    frames = re.findall(r'^ *File "(.+?)", line \d+.*\n(.*)', first, flags=re.MULTILINE)
    message = re.findall(r"^ *\w[\w.]*(?:Error|Exception|Interrupt): (.*)", first, flags=re.MULTILINE)
    if not frames or not message or not _is_raise(*frames[-1]):
        return None
    return str(message[-1])


def quiet_lightning() -> None:
    """Silences advice of Lightning that does not apply here."""
    for message in (
        r".*recommended to use `self.log\(.*sync_dist=True.*",  # our metrics have synchronized already
        r".*it is recommended to use `Trainer\(devices=1.*",  # our module counts each image once
        r".*does not have many workers.*",  # measured: the embedded data set needs none
        r".*The `srun` command is available.*",
        r".*your dataloader is not resumable.*",  # ours asks the trainer where to resume
        r"Checkpoint directory .* exists and is not empty.*",  # as whenever a run is resumed
    ):
        warnings.filterwarnings("ignore", message=message)
