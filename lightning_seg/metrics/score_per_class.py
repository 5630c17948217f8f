"""Scores of single classes under their names, as loggers want them."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from lightning_seg.metrics.confusion import ConfusionMatrixMetric
from lightning_seg.metrics.ratios import Ratio, average_ratio
from lightning_seg.task import Task


class ScorePerClass(ConfusionMatrixMetric):
    """One score of each class, as a dict of scalars that can be logged: `{"iou/road": ..., "iou/sky": ...}`.

    A class that is in neither the prediction nor the target is NaN.

    Args:
        score_name: what stands before the slash.
        ratio: `iou_ratio`, `dice_ratio`, `accuracy_ratio`, or a function of the confusion matrix, the task and
            `ignore_index` that gives a numerator and a denominator (C,).
        class_names: one name per class, all different; None names them "0", "1", ...
        task: "multiclass", "multilabel" or "binary".
        num_classes: number of logit channels, 1 in the binary task.
        ignore_index: value of the target that marks pixels not to be counted, or None.
        kwargs: torchmetrics' own, such as `sync_on_compute`.

    Raises:
        ValueError: an argument is unknown, `num_classes` does not fit the task, or the names are too many, too few
            or not all different.
    """

    def __init__(
        self,
        *,
        score_name: str,
        ratio: Ratio,
        class_names: Sequence[str] | None = None,
        task: Task = "multiclass",
        num_classes: int,
        ignore_index: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(task=task, num_classes=num_classes, ignore_index=ignore_index, **kwargs)
        self.score_name = score_name
        self.ratio = ratio
        self.class_names = _checked_names(class_names, num_classes)

    def compute(self) -> dict[str, Tensor]:
        """Score of each class, over everything counted since the last reset and over all processes."""
        scores = average_ratio(*self.ratio(self.confusion_matrix, self.task, self.ignore_index), "none")
        return {f"{self.score_name}/{name}": score for name, score in zip(self.class_names, scores, strict=True)}


def _checked_names(class_names: Sequence[str] | None, num_classes: int) -> list[str]:
    if class_names is None:
        return [str(index) for index in range(num_classes)]
    if isinstance(class_names, str):
        raise ValueError(f"class_names={class_names!r} is one string; give a list of {num_classes} names.")
    names = [str(name) for name in class_names]
    if len(names) != num_classes:
        raise ValueError(f"class_names has {len(names)} names, but num_classes={num_classes}; give one for each class.")
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"class_names holds {repeated[0]!r} more than once; scores are logged by name, so rename one.")
    return names
