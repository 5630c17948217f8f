"""The one state behind every data-set score: a confusion matrix of integer pixel counts."""

import math
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_seg.losses.engine.bin_count import bin_count
from lightning_seg.losses.engine.predictions import confusion_counts
from lightning_seg.metrics.labels import check_shapes, hard_labels
from lightning_seg.task import Task, check_task


def confusion_shape(task: Task, num_classes: int) -> tuple[int, ...]:
    """Shape of the task's confusion matrix: (C, C) multiclass, (C, 2, 2) multilabel, (2, 2) binary."""
    return {"multiclass": (num_classes, num_classes), "multilabel": (num_classes, 2, 2), "binary": (2, 2)}[task]


def batch_confusion(
    logits: Tensor, target: Tensor, *, task: Task, num_classes: int, ignore_index: int | None
) -> Tensor:
    """The confusion matrix of a batch, int64, rows the target, columns the prediction.

    That of logits comes from one pass over them, on the CPU and on CUDA.

    Args:
        logits: as `hard_labels` takes them.
        target: likewise.
        task: multiclass, multilabel or binary.
        num_classes: channels of the logits.
        ignore_index: the label of pixels that are not counted.

    Raises:
        ValueError: as `hard_labels`.
    """
    if not (logits.is_floating_point() and logits.device.type in ("cpu", "cuda")):
        labels = hard_labels(logits, target, task=task, num_classes=num_classes, ignore_index=ignore_index)
        return count_confusion(*labels, task=task, num_classes=num_classes, ignore_index=ignore_index)
    check_shapes(logits, target, task, num_classes)
    softmax = task == "multiclass"
    images, size = len(target), math.prod(target.shape[1 if task != "multilabel" else 2 :])
    counts = confusion_counts(
        logits.detach().reshape(images, num_classes, size),
        target.reshape((images, size) if softmax else (images, num_classes, size)),
        ignore_index=ignore_index,
        softmax=softmax,
    )
    return counts.view(confusion_shape(task, num_classes))


def count_confusion(
    prediction: Tensor, target: Tensor, *, task: Task, num_classes: int, ignore_index: int | None
) -> Tensor:
    """The confusion matrix of labels, int64, rows the target, columns the prediction, without a device synchronization.

    Args:
        prediction: int64, of the target's shape.
        target: int64, (N, C, *spatial) in the multilabel task, otherwise of any shape.
        task: multiclass, multilabel or binary.
        num_classes: channels of the logits.
        ignore_index: the label of pixels that are not counted, whatever the prediction holds there.
    """
    shape = confusion_shape(task, num_classes)
    labels = shape[-1]
    cell = target * labels + prediction
    if task == "multilabel":
        channels = torch.arange(num_classes, device=cell.device) * labels**2
        cell = cell + channels.view(-1, *[1] * (cell.ndim - 2))
    count = math.prod(shape)
    if ignore_index is not None:
        cell = torch.where(target == ignore_index, count, cell)  # the last cell is that of void pixels
    return bin_count(cell.flatten(), count + 1)[:count].view(shape)


class ConfusionMatrixMetric(Metric):
    """Base of all scores that are a function of one confusion matrix summed over the data set.

    A subclass adds `compute`. The state `confusion_matrix` is int64, rows the target and columns the prediction:
    (C, C) in the multiclass task, (C, 2, 2) in multilabel, (2, 2) in binary. It is summed over processes, so any
    split of the images gives the same score to the last digit.

    Args:
        task: "multiclass", "multilabel" or "binary".
        num_classes: number of logit channels, 1 in the binary task.
        ignore_index: value of the target that marks pixels not to be counted, or None. Any value will do, also one
            inside 0 to C - 1: in the multiclass task that class then has no score.
        kwargs: torchmetrics' own, such as `sync_on_compute`.

    Raises:
        ValueError: an argument is unknown, or `num_classes` does not fit the task.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0

    confusion_matrix: Tensor

    def __init__(
        self, *, task: Task = "multiclass", num_classes: int, ignore_index: int | None = None, **kwargs: Any
    ) -> None:
        check_task(task, num_classes, ignore_index)
        super().__init__(**kwargs)
        self.task: Task = task
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        empty = torch.zeros(confusion_shape(task, num_classes), dtype=torch.int64)
        self.add_state("confusion_matrix", empty, dist_reduce_fx="sum")

    def update(self, logits: Tensor, target: Tensor) -> None:
        """Count the pixels of a batch.

        Args:
            logits: scores (N, C, *spatial), in the binary task also (N, *spatial); or integer labels of the target's
                shape. A binary or multilabel channel is on where its logit is above 0.
            target: integers or booleans: class indices (N, *spatial), 0/1 (N, C, *spatial) in the multilabel task,
                0/1 (N, *spatial) or (N, 1, *spatial) in the binary task.

        Raises:
            ValueError: the shapes do not fit the task, the target is floating, or a label is out of range.
        """
        self.confusion_matrix = self.confusion_matrix + batch_confusion(
            logits, target, task=self.task, num_classes=self.num_classes, ignore_index=self.ignore_index
        )
