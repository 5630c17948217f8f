"""What is reported: scores of a segmentation, counted exactly and the same on any number of processes.

.. include:: README.md
"""

from lightning_seg.metrics.collection import segmentation_metrics
from lightning_seg.metrics.confusion import ConfusionMatrixMetric
from lightning_seg.metrics.dice_score import DiceScore
from lightning_seg.metrics.functional import iou, iou_binary
from lightning_seg.metrics.image_scores import ImageDiceScore, ImageMeanIoU
from lightning_seg.metrics.mean_iou import MeanIoU
from lightning_seg.metrics.pixel_accuracy import PixelAccuracy
from lightning_seg.metrics.pixel_mean import PixelMean
from lightning_seg.metrics.ratios import accuracy_ratio, dice_ratio, iou_ratio
from lightning_seg.metrics.score_per_class import ScorePerClass

__all__ = [
    "ConfusionMatrixMetric",
    "DiceScore",
    "ImageDiceScore",
    "ImageMeanIoU",
    "MeanIoU",
    "PixelAccuracy",
    "PixelMean",
    "ScorePerClass",
    "accuracy_ratio",
    "dice_ratio",
    "iou",
    "iou_binary",
    "iou_ratio",
    "segmentation_metrics",
]
