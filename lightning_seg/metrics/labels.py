"""From what a network and a data set give to hard labels that can be counted."""

from torch import Tensor

from lightning_seg.task import Task, check_labels

_EXPECTED_SHAPES = {
    "multiclass": "logits (N, {num_classes}, *spatial) with target (N, *spatial)",
    "multilabel": "logits (N, {num_classes}, *spatial) with target (N, {num_classes}, *spatial)",
    "binary": "logits (N, 1, *spatial) with target (N, *spatial) or (N, 1, *spatial), or both (N, *spatial)",
}


def hard_labels(
    logits: Tensor, target: Tensor, *, task: Task, num_classes: int, ignore_index: int | None
) -> tuple[Tensor, Tensor]:
    """Predicted and true labels, checked, both int64 and of the target's shape; the inputs stay as they are.

    `logits` are floating scores (the largest channel wins; in the binary and multilabel tasks a channel is on
    where its logit is above 0, a probability above one half) or integer labels of the target's shape.

    Raises:
        ValueError: the shapes do not fit the task, the target is floating, or a label of a valid pixel is out of range;
            see `check_labels`.
    """
    check_shapes(logits, target, task, num_classes)
    if not logits.is_floating_point():
        prediction = logits.long()
    elif task == "multiclass":
        prediction = logits.argmax(dim=1)
    else:
        prediction = (logits > 0).long().reshape(target.shape)
    labels = target.long()
    valid = None if ignore_index is None else labels != ignore_index
    label_count = num_classes if task == "multiclass" else 2
    check_labels(labels, label_count, ignore_index, valid=valid)
    if not logits.is_floating_point():
        check_labels(prediction, label_count, ignore_index, valid=valid, name="prediction")
    return prediction, labels


def check_shapes(logits: Tensor, target: Tensor, task: Task, num_classes: int) -> None:
    """Checks that logits, or labels in their place, and target fit the task.

    Raises:
        ValueError: their shapes do not, or the target is floating.
    """
    if target.is_floating_point() or target.is_complex():
        raise ValueError(f"target is {target.dtype}, but scores count hard labels; give integers or booleans.")
    if not _shapes_fit(logits, target, task, num_classes):
        expected = _EXPECTED_SHAPES[task].format(num_classes=num_classes)
        raise ValueError(
            f"{logits.dtype} logits {tuple(logits.shape)} and target {tuple(target.shape)} do not fit task={task!r}; "
            f"expected {expected}, or integer labels of the target's shape in place of the logits."
        )


def _shapes_fit(logits: Tensor, target: Tensor, task: Task, num_classes: int) -> bool:
    has_batch = target.ndim >= 1
    if task == "multilabel":
        return target.ndim >= 2 and target.shape[1] == num_classes and logits.shape == target.shape
    if not logits.is_floating_point():
        return has_batch and logits.shape == target.shape
    with_channel = (*target.shape[:1], num_classes, *target.shape[1:])
    return has_batch and (logits.shape == with_channel or (task == "binary" and logits.shape == target.shape))
