"""What the classes of a segmentation are to each other, which arguments go together, and which labels there are."""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

Task = Literal["binary", "multilabel", "multiclass"]

_TORCH_IGNORES = -100  # the default of PyTorch's losses, which stands for nothing


def check_task(task: str, num_classes: int, ignore_index: int | None) -> None:
    """Checks that three arguments describe a task.

    Args:
        task: multiclass, multilabel or binary.
        num_classes: channels of the logits.
        ignore_index: the label of void pixels.

    Raises:
        ValueError: one is unknown, or they do not go together.
    """
    check_task_name(task)
    if not isinstance(num_classes, int) or isinstance(num_classes, bool) or num_classes < 1:
        raise ValueError(f"num_classes={num_classes!r} must be an integer of at least 1: the logits' channels.")
    if task == "binary" and num_classes != 1:
        raise ValueError(
            f"num_classes={num_classes} does not fit task='binary', which has one channel; use num_classes=1, or "
            "task='multiclass' to score the background too."
        )
    if task == "multiclass" and num_classes < 2:
        raise ValueError("num_classes=1 does not fit task='multiclass'; use at least 2, or task='binary'.")
    check_ignore_index(ignore_index)


def check_classes(task: str, num_classes: int, ignore_index: int | None, class_names: Sequence[str]) -> None:
    """Checks that four arguments describe the classes of a task.

    Args:
        task: see `check_task`, as the two that follow.
        num_classes: channels of the logits.
        ignore_index: the label of void pixels.
        class_names: one for each class.

    Raises:
        ValueError: as `check_task`, names are missing or too many, or a class would be both scored and ignored.
    """
    check_task(task, num_classes, ignore_index)
    if len(class_names) != num_classes:
        raise ValueError(f"{len(class_names)} class_names were given for num_classes={num_classes}: give one for each.")
    labels = num_classes if task == "multiclass" else 2
    if ignore_index is not None and 0 <= ignore_index < labels:
        name = f' "{class_names[ignore_index]}"' if task == "multiclass" else ""
        raise ValueError(
            f"ignore_index={ignore_index} is also class {ignore_index}{name}; "
            "a class cannot be both scored and ignored."
        )


def check_same_task(loss: object, task: str, ignore_index: int | None) -> None:
    """Checks that a loss, as far as it has them, was made with the module's `task` and `ignore_index`.

    Raises:
        ValueError: it was made with others.
    """
    for name, ours in (("task", task), ("ignore_index", ignore_index)):
        theirs = getattr(loss, name, ours)
        if theirs != ours and not (name == "ignore_index" and ours is None and theirs == _TORCH_IGNORES):
            raise ValueError(
                f"the loss was built with {name}={theirs}, the module with {name}={ours}: give both the same "
                f"(loss.{name}={'null' if ours is None else ours} in a configuration)."
            )


def check_task_name(task: str) -> None:
    """Checks that `task` is one.

    Raises:
        ValueError: it is not.
    """
    if task not in get_args(Task):
        raise ValueError(f"task={task!r} is unknown; expected one of 'binary', 'multilabel', 'multiclass'.")


def check_ignore_index(ignore_index: int | None) -> None:
    """Checks that `ignore_index` is a label or None.

    Raises:
        ValueError: it is neither.
    """
    if ignore_index is not None and (not isinstance(ignore_index, int) or isinstance(ignore_index, bool)):
        raise ValueError(f"ignore_index={ignore_index!r} must be an integer, or None to count every pixel.")


def may_look(tensor: Tensor) -> bool:
    """Whether values may be looked at: not on CUDA, where the host would wait, nor while torch.compile traces."""
    return not tensor.is_cuda and not torch.compiler.is_compiling()


def check_labels(
    labels: Tensor, label_count: int, ignore_index: int | None, *, valid: Tensor | None = None, name: str = "target"
) -> None:
    """Checks that labels are 0 to `label_count` - 1.

    Args:
        labels: int64, of any shape.
        label_count: how many labels there are: the classes of a multiclass task, otherwise 2.
        ignore_index: the label of void pixels, for the message.
        valid: bool, of the labels' shape; labels elsewhere may be anything. None: all are valid.
        name: what holds the labels, for the message.

    Raises:
        ValueError: a label is out of range. On CUDA, where looking would make the host wait, the device asserts it.
    """
    if labels.numel() == 0:
        return
    counted = labels if valid is None else labels.where(valid, 0)
    lowest, highest = counted.aminmax()
    if not may_look(labels):
        torch._assert_async(
            (lowest >= 0) & (highest < label_count),
            f"{name} holds a label out of range: expected 0 to {label_count - 1}, and ignore_index={ignore_index}.",
        )
    elif lowest < 0 or highest >= label_count:
        label = int(lowest if lowest < 0 else highest)
        raise ValueError(f"{name} holds {out_of_range(label, label_count, ignore_index)}")


def out_of_range(label: int, label_count: int, ignore_index: int | None, *, where: str = "") -> str:
    """What is wrong with a label, and what to do.

    Args:
        label: the label that is out of range.
        label_count: how many labels there are.
        ignore_index: the label of void pixels.
        where: how many pixels hold it, for example " in 3 pixels".
    """
    return (
        f"label {label}{where}, which is out of range: expected labels from 0 to {label_count - 1}, with "
        f"ignore_index={ignore_index}; correct the labels, set num_classes, or set ignore_index={label} if it marks "
        "void pixels."
    )
