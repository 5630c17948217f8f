"""Labels of hard targets: which pixels are void, and whether all others hold a class."""

from torch import Tensor

from lightning_seg.task import check_labels, may_look


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
    looks = may_look(labels)
    void_is_class = ignore_index is not None and 0 <= ignore_index < classes
    if looks and not void_is_class and _within(labels, classes):
        return labels, None
    valid = None
    if ignore_index is not None:
        valid = labels != ignore_index
        labels = labels.where(valid, 0)
    check_labels(labels, classes, ignore_index)
    return labels if looks else labels.clamp(0, classes - 1), valid


def _within(labels: Tensor, classes: int) -> bool:
    lowest, highest = labels.aminmax()
    return bool(lowest >= 0) and bool(highest < classes)
