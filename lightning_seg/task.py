"""What the classes of a segmentation are to each other, and which of its arguments go together."""

from typing import Literal, get_args

Task = Literal["binary", "multilabel", "multiclass"]


def check_task(task: str, num_classes: int, ignore_index: int | None) -> None:
    """Raise ``ValueError`` unless the three arguments describe a task that can be scored."""
    if task not in get_args(Task):
        raise ValueError(f"task={task!r} is unknown; give one of 'binary', 'multilabel', 'multiclass'.")
    if not isinstance(num_classes, int) or isinstance(num_classes, bool) or num_classes < 1:
        raise ValueError(f"num_classes={num_classes!r} must be a whole number of at least 1: the logits' channels.")
    if task == "binary" and num_classes != 1:
        raise ValueError(
            f"num_classes={num_classes} does not fit task='binary', which has one channel; "
            "give num_classes=1, or task='multiclass' to score the background too."
        )
    if task == "multiclass" and num_classes < 2:
        raise ValueError("num_classes=1 does not fit task='multiclass'; give at least 2, or task='binary'.")
    if ignore_index is not None and (not isinstance(ignore_index, int) or isinstance(ignore_index, bool)):
        raise ValueError(f"ignore_index={ignore_index!r} must be a whole number, or None to count every pixel.")
