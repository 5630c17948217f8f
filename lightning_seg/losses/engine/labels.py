"""Labels of hard targets: which pixels are void, and whether all others hold a class."""

import torch
from torch import Tensor


def valid_labels(target: Tensor, ignore_index: int | None, classes: int) -> tuple[Tensor, Tensor | None]:
    """Labels, int64, 0 at void pixels; and which pixels are valid, None if all are known to be.

    Args:
        target: bool or integers, of any shape.
        ignore_index: the label of void pixels.
        classes: labels are 0 to classes - 1.

    Raises:
        ValueError: a label is out of range. On CUDA, where looking would make the host wait, the device asserts it.
    """
    labels = target.long()  # first: a uint8 of 255 equals -1 in its own arithmetic
    if labels.numel() == 0:
        return labels, None
    looks = not labels.is_cuda and not torch.compiler.is_compiling()
    void_is_class = ignore_index is not None and 0 <= ignore_index < classes
    if looks and not void_is_class and _within(labels, classes):
        return labels, None
    valid = None
    if ignore_index is not None:
        valid = labels != ignore_index
        labels = labels.where(valid, 0)
    if not looks:
        message = f"target holds a value out of range: expected labels from 0 to {classes - 1}"
        lowest, highest = labels.aminmax()
        torch._assert_async((lowest >= 0) & (highest < classes), f"{message}, and void pixels as ignore_index.")
        return labels.clamp(0, classes - 1), valid
    if not _within(labels, classes):
        lowest, highest = labels.aminmax()
        label = int(lowest if lowest < 0 else highest)
        of = f" for {classes} classes" if classes > 2 else ""
        raise ValueError(
            f"label {label} is out of range: expected labels from 0 to {classes - 1}{of}, "
            f"with ignore_index={ignore_index}; if {label} marks void pixels, pass ignore_index={label}."
        )
    return labels, valid


def _within(labels: Tensor, classes: int) -> bool:
    lowest, highest = labels.aminmax()
    return bool(lowest >= 0) and bool(highest < classes)
