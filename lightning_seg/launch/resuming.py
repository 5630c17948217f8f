"""What goes wrong as a checkpoint is restored is about the checkpoint, whatever class of error it ends with."""

import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lightning_seg.launch.errors import one_line

# Where Lightning and this package do that, and what their functions begin with.
_FILES = ("checkpoint_connector.py", "last_checkpoint.py", "training_state.py", "resumed_schedule.py")
_FUNCTIONS = ("restore", "resume", "fit_schedule", "log_again", "on_train_start", "on_load_checkpoint")

# What Lightning's functions restore, by its key in a checkpoint.
_RESTORED = {
    "restore_model": "state_dict",
    "restore_callbacks": "callbacks",
    "restore_loops": "loops",
    "restore_optimizers": "optimizer_states",
    "restore_lr_schedulers": "lr_schedulers",
}


@contextmanager
def restoring(path: Path | None) -> Iterator[None]:
    """Names the checkpoint that a training resumes from where it cannot be restored.

    Args:
        path: the checkpoint; None: the training begins.

    Raises:
        ValueError: something was raised as it was restored, for which there is no better line.
    """
    try:
        yield
    except Exception as error:  # whatever is made of a damaged or a changed file
        frames = traceback.extract_tb(error.__traceback__)
        line = one_line(error)
        if path is None or not any(map(_restores, frames)):
            raise
        if line is not None:
            if str(path) in line or not isinstance(error, (RuntimeError, ValueError)) or not _part(frames):
                raise
            raise ValueError(f"{path} cannot be resumed from: {line}") from error
        reason = _reason(error, _part(frames))
        raise ValueError(
            f"{path} cannot be resumed from, as it was damaged, changed, or written by another version ({reason}). "
            "Choose another run=NAME, or remove it to start again."
        ) from error


def _part(frames: Sequence[traceback.FrameSummary]) -> str:
    """What of a checkpoint Lightning was restoring; "" if it was not."""
    names = [frame.name for frame in frames if Path(frame.filename).name == "checkpoint_connector.py"]
    return next((_RESTORED[name] for name in reversed(names) if name in _RESTORED), "")


def _reason(error: Exception, part: str) -> str:
    if part and isinstance(error, KeyError) and len(str(error)) < 40:
        return f"{part} lacks {error}"
    if part and isinstance(error, (AttributeError, IndexError, KeyError, TypeError)):
        return f"{part} does not hold what is expected there"
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _restores(frame: traceback.FrameSummary) -> bool:
    # An optimizer looks for its state at the first step.
    first_step = frame.name == "_init_group" and "optim" in Path(frame.filename).parts
    return first_step or (Path(frame.filename).name in _FILES and frame.name.lstrip("_").startswith(_FUNCTIONS))
