"""Labels of hard targets: which pixels are void, and whether all others hold a class."""

import torch
from torch import Tensor


def valid_labels(target: Tensor, ignore_index: int | None) -> tuple[Tensor, Tensor | None]:
    """Labels, int64, 0 at void pixels; and which pixels are valid, None if there is no `ignore_index`."""
    labels = target.long()  # first: a uint8 of 255 equals -1 in its own arithmetic
    if ignore_index is None:
        return labels, None
    valid = labels != ignore_index
    return labels.where(valid, 0), valid


def check_labels(labels: Tensor, classes: int, ignore_index: int | None) -> None:
    """Raises if a label, 0 at void pixels, is no class.

    On CUDA, where looking would make the host wait, the device asserts it.

    Raises:
        ValueError: a label is out of range.
    """
    if labels.numel() == 0:
        return
    lowest, highest = labels.aminmax()
    if labels.is_cuda or torch.compiler.is_compiling():
        message = f"target holds a value out of range: expected labels from 0 to {classes - 1}"
        torch._assert_async((lowest >= 0) & (highest < classes), f"{message}, and void pixels as ignore_index.")
    elif lowest < 0 or highest >= classes:
        label = int(lowest if lowest < 0 else highest)
        of = f" for {classes} classes" if classes > 2 else ""
        raise ValueError(
            f"label {label} is out of range: expected labels from 0 to {classes - 1}{of}, "
            f"with ignore_index={ignore_index}; if {label} marks void pixels, pass ignore_index={label}."
        )
