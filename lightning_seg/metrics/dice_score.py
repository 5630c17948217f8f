"""The Dice coefficient, also called the F1 score of the pixels."""

from typing import Any

from torch import Tensor

from lightning_seg.metrics.confusion import ConfusionMatrixMetric
from lightning_seg.metrics.ratios import Average, average_ratio, check_average, dice_ratio
from lightning_seg.task import Task


class DiceScore(ConfusionMatrixMetric):
    """Dice coefficient of each class over the whole data set, 2·TP / (P + T), averaged over classes.

    TP, P and T count the valid pixels of all images together. For the mean over images, common in medicine, see
    `ImageDiceScore`. `compute` gives a float32 fraction from 0 to 1. A class that is in neither the prediction
    nor the target has no score: NaN with average="none", left out of the mean; the result is NaN when no class has a
    score. In the binary task it is the foreground's Dice. No smoothing is added.

    Args:
        task: "multiclass", "multilabel" or "binary".
        num_classes: number of logit channels, 1 in the binary task.
        ignore_index: value of the target that marks pixels not to be counted, or None.
        average: "macro" (mean of the class scores), "micro" (one ratio of counts summed over classes) or "none" (a
            tensor (C,), a scalar in the binary task).
        kwargs: torchmetrics' own, such as `sync_on_compute`.

    Raises:
        ValueError: an argument is unknown, or `num_classes` does not fit the task.

    Example:
        >>> import torch
        >>> metric = DiceScore(task="binary", num_classes=1)
        >>> metric.update(torch.tensor([[2.0, 0.3, -1.0]]), torch.tensor([[1, 0, 1]]))
        >>> metric.compute()
        tensor(0.5000)
    """

    def __init__(
        self,
        *,
        task: Task = "multiclass",
        num_classes: int,
        ignore_index: int | None = None,
        average: Average = "macro",
        **kwargs: Any,
    ) -> None:
        check_average(average)
        super().__init__(task=task, num_classes=num_classes, ignore_index=ignore_index, **kwargs)
        self.average: Average = average

    def compute(self) -> Tensor:
        """Dice of everything counted since the last reset, over all processes."""
        return average_ratio(*dice_ratio(self.confusion_matrix, self.task, self.ignore_index), self.average)
