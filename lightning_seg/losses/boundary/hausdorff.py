"""Hausdorff distance loss."""

from typing import Unpack

import torch
from torch import Tensor

from lightning_seg.losses.boundary.distance_loss import DistanceLoss
from lightning_seg.losses.engine.statistics import Statistics
from lightning_seg.losses.loss import not_negative
from lightning_seg.losses.options import DistanceOptions


class HausdorffDistanceLoss(DistanceLoss):
    """Errors weighted by their distance from the outlines (Karimi and Salcudean 2019, https://arxiv.org/abs/1904.10030).

        mean of (p_c - t_c)²·(d(p_c)^α + d(t_c)^α)        d: the distance to the outline, on both sides of it

    over the valid pixels of the batch, or of each image, and then over the classes; p is the softmax or sigmoid of the
    logits and t is 1 where the label is the class. It is the paper's estimate by distance transforms. d(p) is that of
    the predicted class (the greatest p; in the multilabel and binary tasks p > 1/2) and, as d(t), a constant: the
    gradient is that of (p - t)². A perfect prediction has loss 0.

    Distances are in pixels, or in the unit of `spacing`, from the center of a pixel to that of the nearest pixel of the
    other side: 1 at both sides of an outline (see `signed_distance`). They are not normalized, so with α = 2 an error
    20 pixels away counts 400 times one at the outline: weigh the loss accordingly, or begin with a region loss alone.

    Shapes: logits (N, C, *spatial), target labels (N, *spatial) if multiclass, else 0 and 1 in the logits' shape; the
    result is a scalar.
    Void pixels add nothing and belong to no side, whatever is predicted there; distances go straight across them, so
    they are not as if cut out. A batch of them alone gives 0.
    Absent classes, and classes that fill the image, have no outline: d = 0, in the prediction and in the target, each
    for itself. Where neither has one the loss is 0, even for one class predicted everywhere in place of another, so
    this loss goes with a loss that sees that. Absent classes count in the mean with classes="all"; with "present" those
    absent from the batch do not, and are free.
    Soft targets are refused.
    Cost: four distance transforms on the CPU for each image and class that is present and predicted, about 55 ms on one
    core at 512 × 512 and 400 ms at 96 × 96 × 96, spread over torch.get_num_threads() threads. Those of the target, the
    half, may come from the processes that load the images (`distances=True` of the data module), or from
    `target_distances` with a target that carries them, see `with_distances`; those of the prediction change with every
    step.

    Args:
        alpha: α > 0.
        spacing: the distance of neighbors in each spatial dimension, for voxels that are not cubes; None is 1 in all.
        classes: all, present, or a list of the class indices that count.
        task: multiclass, multilabel or binary.
        ignore_index: the label of void pixels.
        class_weights: one number for each class, a weight in the mean; not in the binary task.
        per_image: average over images rather than over the pixels of the batch.
        sync_dist: over all processes.

    Raises:
        TypeError: the target is soft.
        ValueError: alpha or spacing is out of range, or as `Loss` says.
    """

    def pixel_losses(self, statistics: Statistics, mask: Tensor, scope: Tensor, distances: Tensor) -> Tensor:
        """(p - t)²·(d(p)^α + d(t)^α) of each pixel and class."""
        predicted = self.distances_of(predicted_mask(statistics), scope, statistics)
        weights = predicted.abs() ** self.alpha + distances.where(scope, 0).abs() ** self.alpha
        errors = statistics.probabilities.where(scope, 0) - (mask & scope).to(weights.dtype)
        return errors.square() * weights

    def __init__(self, *, alpha: float = 2.0, **options: Unpack[DistanceOptions]) -> None:
        super().__init__(**options)
        self.alpha = not_negative(alpha, "alpha")
        if self.alpha == 0:
            raise ValueError("alpha=0 makes every distance 1; give a number above 0.")


def predicted_mask(statistics: Statistics) -> Tensor:
    """Where the class is predicted, bool, (N, C, S); at void pixels any value."""
    probabilities = statistics.probabilities.detach()
    if statistics.pixels.task != "multiclass":
        return probabilities > 0.5
    classes = torch.arange(probabilities.shape[1], device=probabilities.device)
    return probabilities.argmax(1, keepdim=True) == classes[:, None]
