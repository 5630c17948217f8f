"""The scores that a segmentation run reports."""

from collections.abc import Sequence
from typing import Any

from torchmetrics import Metric, MetricCollection

from lightning_seg.metrics.dice_score import DiceScore
from lightning_seg.metrics.mean_iou import MeanIoU
from lightning_seg.metrics.pixel_accuracy import PixelAccuracy
from lightning_seg.metrics.ratios import dice_ratio, iou_ratio
from lightning_seg.metrics.score_per_class import ScorePerClass
from lightning_seg.metrics.without_background import MeanWithoutBackground
from lightning_seg.task import Task


def segmentation_metrics(
    task: Task,
    num_classes: int,
    ignore_index: int | None = None,
    class_names: Sequence[str] | None = None,
    background: int | None = None,
) -> MetricCollection:
    """IoU, Dice and accuracy, overall and by class name, from one confusion matrix.

    `update(logits, target)` counts a batch once for all of them; `compute()` gives float32 scalars under "iou",
    "dice" (macro means over the classes that occur), "accuracy" (share of right pixels), "iou/<class name>" and
    "dice/<class name>". `.clone(prefix="val/")` gives an independent collection for another split. Prefer
    `update` to calling the collection, which counts each batch once per score.

    Args:
        task: "multiclass", "multilabel" or "binary".
        num_classes: number of logit channels, 1 in the binary task.
        ignore_index: value of the target that marks pixels not to be counted, or None.
        class_names: one name per class, all different, in the binary task the foreground's; None names them "0", ...
        background: a class that "iou_without_background" and "dice_without_background" leave out; None: no such means.

    Raises:
        ValueError: an argument is unknown, `num_classes` does not fit the task, or the names are too many, too few
            or not all different.
    """
    spec: dict[str, Any] = {"task": task, "num_classes": num_classes, "ignore_index": ignore_index}
    metrics: dict[str, Metric | MetricCollection] = {
        "iou": MeanIoU(**spec),
        "dice": DiceScore(**spec),
        "accuracy": PixelAccuracy(**spec),
        "iou_per_class": ScorePerClass(score_name="iou", ratio=iou_ratio, class_names=class_names, **spec),
        "dice_per_class": ScorePerClass(score_name="dice", ratio=dice_ratio, class_names=class_names, **spec),
    }
    if background is not None:
        for name, ratio in (("iou", iou_ratio), ("dice", dice_ratio)):
            metrics[f"{name}_without_background"] = MeanWithoutBackground(ratio=ratio, background=background, **spec)
    # Named, the group holds from the first batch on; found by torchmetrics, it would hold from the second.
    return MetricCollection(metrics, compute_groups=[list(metrics)])
