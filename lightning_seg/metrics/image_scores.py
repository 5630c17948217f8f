"""Scores of single images, averaged over images: every image weighs the same, however small its objects are."""

from typing import Any, Literal

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_seg.metrics.confusion import batch_confusion
from lightning_seg.metrics.labels import check_shapes
from lightning_seg.metrics.ratios import Ratio, average_ratio, check_average, dice_ratio, iou_ratio
from lightning_seg.task import Task, check_task

# Scores are summed as whole multiples of this, because a sum of integers does not depend on the order of the images.
_UNIT = 2.0**-30


class _ImageScore(Metric):
    """Mean over images of a ratio of counts; states have a fixed size however many images there are."""

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0

    score_sum: Tensor
    image_count: Tensor
    _ratio: Ratio

    def __init__(
        self,
        *,
        task: Task = "multiclass",
        num_classes: int,
        ignore_index: int | None = None,
        average: Literal["macro", "none"] = "macro",
        **kwargs: Any,
    ) -> None:
        check_task(task, num_classes, ignore_index)
        check_average(average, allowed=("macro", "none"))
        super().__init__(**kwargs)
        self.task: Task = task
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.average: Literal["macro", "none"] = average
        shape = () if average == "macro" else (num_classes,)
        self.add_state("score_sum", torch.zeros(shape, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("image_count", torch.zeros(shape, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, logits: Tensor, target: Tensor) -> None:
        """Score each image of a batch; inputs and errors as in `ConfusionMatrixMetric.update`."""
        check_shapes(logits, target, self.task, self.num_classes)
        matrices = [
            batch_confusion(
                logits[index : index + 1],
                target[index : index + 1],
                task=self.task,
                num_classes=self.num_classes,
                ignore_index=self.ignore_index,
            )
            for index in range(len(target))
        ]
        for matrix in matrices:  # of all images, or of none if a label is out of range
            score = average_ratio(*self._ratio(matrix, self.task, self.ignore_index), self.average)
            self.score_sum = self.score_sum + (score.nan_to_num(0.0) / _UNIT).round().long()
            self.image_count = self.image_count + ~score.isnan()

    def compute(self) -> Tensor:
        """Mean over all images since the last reset, over all processes."""
        return self.score_sum.float() * _UNIT / self.image_count.float()


class ImageMeanIoU(_ImageScore):
    """Intersection over union within each image, averaged over images (mIoU^I of Wang et al.).

    A class that is in neither the prediction nor the target of an image has no score there and is left out, and so is
    an image without any score (nothing but void; in the binary task no foreground at all). For the benchmark's number
    over the data set see `MeanIoU`, which differs: it weighs each pixel, not each image, the same.

    Wang et al., Revisiting Evaluation Metrics for Semantic Segmentation, NeurIPS 2023, https://arxiv.org/abs/2310.19252.

    Args:
        task: "multiclass", "multilabel" or "binary".
        num_classes: number of logit channels, 1 in the binary task.
        ignore_index: value of the target that marks pixels not to be counted, or None.
        average: "macro" (the mean over classes of each image, then over images) or "none" (for each class the mean
            over the images in which it has a score, (C,), NaN for a class that never has; their number is the state
            `image_count`).
        kwargs: torchmetrics' own, such as `sync_on_compute`.

    Raises:
        ValueError: an argument is unknown, or `num_classes` does not fit the task.
    """

    _ratio = staticmethod(iou_ratio)


class ImageDiceScore(_ImageScore):
    """Dice coefficient within each image, averaged over images, as medical challenges report it.

    A class that is in neither the prediction nor the target of an image has no score there and is left out, and so is
    an image without any score (nothing but void; in the binary task no foreground at all). For the number over the
    data set see `DiceScore`.

    Args:
        task: "multiclass", "multilabel" or "binary".
        num_classes: number of logit channels, 1 in the binary task.
        ignore_index: value of the target that marks pixels not to be counted, or None.
        average: "macro" (the mean over classes of each image, then over images) or "none" (for each class the mean
            over the images in which it has a score, (C,), NaN for a class that never has; their number is the state
            `image_count`).
        kwargs: torchmetrics' own, such as `sync_on_compute`.

    Raises:
        ValueError: an argument is unknown, or `num_classes` does not fit the task.
    """

    _ratio = staticmethod(dice_ratio)
