"""The share of pixels that are right."""

from typing import Any

from torch import Tensor

from lightning_seg.metrics.confusion import ConfusionMatrixMetric
from lightning_seg.metrics.ratios import Average, accuracy_ratio, average_ratio, check_average
from lightning_seg.task import Task


class PixelAccuracy(ConfusionMatrixMetric):
    """Share of the valid pixels of the whole data set whose prediction is right.

    `compute` gives a float32 fraction from 0 to 1, NaN when nothing was counted. In the multilabel task a pixel is
    one decision per channel, and both a right 1 and a right 0 count, as in the binary task.

    Args:
        task: "multiclass", "multilabel" or "binary".
        num_classes: number of logit channels, 1 in the binary task.
        ignore_index: value of the target that marks pixels not to be counted, or None.
        average: "micro" (right pixels over all pixels, the default), "none" (of each class: in the multiclass task the
            share of the class's true pixels found, NaN for a class not in the target; in multilabel the channel's own
            accuracy) or "macro" (mean of these that exist, known as mean accuracy). All agree in the binary task.
        kwargs: torchmetrics' own, such as `sync_on_compute`.

    Raises:
        ValueError: an argument is unknown, or `num_classes` does not fit the task.

    Example:
        >>> import torch
        >>> metric = PixelAccuracy(num_classes=3, ignore_index=255)
        >>> metric.update(torch.tensor([[0, 2, 1, 1]]), torch.tensor([[0, 255, 1, 2]]))
        >>> metric.compute()
        tensor(0.6667)
    """

    def __init__(
        self,
        *,
        task: Task = "multiclass",
        num_classes: int,
        ignore_index: int | None = None,
        average: Average = "micro",
        **kwargs: Any,
    ) -> None:
        check_average(average)
        super().__init__(task=task, num_classes=num_classes, ignore_index=ignore_index, **kwargs)
        self.average: Average = average

    def compute(self) -> Tensor:
        """Accuracy of everything counted since the last reset, over all processes."""
        return average_ratio(*accuracy_ratio(self.confusion_matrix, self.task, self.ignore_index), self.average)
