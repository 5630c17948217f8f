"""Intersection over union as plain functions, for a few masks at hand."""

import math

import torch
from torch import Tensor

from lightning_seg.metrics.confusion import batch_confusion
from lightning_seg.metrics.labels import check_shapes
from lightning_seg.metrics.ratios import iou_ratio
from lightning_seg.task import Task, check_task


def iou(
    prediction: Tensor,
    target: Tensor,
    *,
    num_classes: int,
    empty: float = math.nan,
    ignore_index: int | None = None,
    per_image: bool = False,
) -> Tensor:
    """Intersection over union of each class, a float32 tensor (C,) of fractions.

    After `iou` of Berman et al., The Lovász-Softmax loss, CVPR 2018, https://arxiv.org/abs/1705.08790.

    Args:
        prediction: integer labels (N, *spatial), or logits (N, C, *spatial).
        target: class indices (N, *spatial).
        num_classes: number of classes C, at least 2.
        empty: score of a class that is in neither prediction nor target; NaN leaves it out of means.
        ignore_index: value of the target that marks pixels not to be counted. If it is itself one of the classes, that
            class has no score and is NaN whatever `empty` is.
        per_image: False counts all images as one; True gives each class the mean of its scores in the single images,
            NaNs left out.

    Raises:
        ValueError: an argument or a shape does not fit, or a label is out of range.
    """
    scores = _scores(prediction, target, "multiclass", num_classes, empty, ignore_index, per_image)
    if ignore_index is not None and 0 <= ignore_index < num_classes:
        scores[:, ignore_index] = math.nan
    return scores.nanmean(0)


def iou_binary(
    prediction: Tensor,
    target: Tensor,
    *,
    empty: float = 1.0,
    ignore_index: int | None = None,
    per_image: bool = True,
) -> Tensor:
    """Intersection over union of the foreground, a float32 scalar, a fraction.

    After `iou_binary` of Berman et al., The Lovász-Softmax loss, CVPR 2018, https://arxiv.org/abs/1705.08790.

    Args:
        prediction: integer or boolean labels of the target's shape, or logits (N, *spatial) or (N, 1, *spatial), which
            are foreground above 0.
        target: 0/1 (N, *spatial) or (N, 1, *spatial).
        empty: score where neither prediction nor target has foreground; NaN leaves it out of the mean over images.
        ignore_index: value of the target that marks pixels not to be counted.
        per_image: True gives the mean of the single images' scores, NaNs left out; False counts all images as one.

    Raises:
        ValueError: an argument or a shape does not fit, or a label is neither 0 nor 1.
    """
    return _scores(prediction, target, "binary", 1, empty, ignore_index, per_image).nanmean()


def _scores(
    prediction: Tensor,
    target: Tensor,
    task: Task,
    num_classes: int,
    empty: float,
    ignore_index: int | None,
    per_image: bool,
) -> Tensor:
    """IoU (images, C), or (1, C) of all images as one."""
    check_task(task, num_classes, ignore_index)
    check_shapes(prediction, target, task, num_classes)
    images = [slice(index, index + 1) for index in range(len(target))] if per_image else [slice(None)]
    matrices = [
        batch_confusion(prediction[image], target[image], task=task, num_classes=num_classes, ignore_index=ignore_index)
        for image in images
    ]
    if not matrices:
        raise ValueError("prediction holds no image; a mean over images needs at least one.")
    intersection, union = iou_ratio(torch.stack(matrices), task, ignore_index)
    return torch.where(union > 0, intersection.float() / union.float(), empty)
