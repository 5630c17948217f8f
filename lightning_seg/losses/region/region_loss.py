"""What the per-region losses share: the sums that they are functions of, and the means over classes and images."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Unpack

import torch
from torch import Tensor

from lightning_seg.losses.engine.distributed import sum_over_processes
from lightning_seg.losses.engine.interface import Requirements
from lightning_seg.losses.engine.reduction import mean_over_classes
from lightning_seg.losses.engine.statistics import Statistics
from lightning_seg.losses.loss import Loss, not_negative
from lightning_seg.losses.options import Average, ClassOptions

# A sum of probabilities below this is of no pixel. The gradient of the ratio has its reciprocal, in the float32 of the
# logits, which is infinite from 3e-39 on.
_NOTHING = 1e-30


@dataclass(frozen=True)
class RegionSums:
    """The sums over valid pixels from which a per-region loss is computed, (G, C) each.

    With p the probabilities and t 1 where the label is the class: FP = Σ p·(1-t) = P - TP and FN = Σ (1-p)·t = T - TP
    are what a class has too much and too little, and TN = Σ (1-p)·(1-t) is the rest of the valid pixels. They are not
    below 0, where rounding would take them.

    Attributes:
        true_positive: TP = Σ p·t.
        probability: P = Σ p, or Σ p² for the squared form of a loss.
        target: T = Σ t, or Σ t².
        valid_count: the number of valid pixels.
    """

    true_positive: Tensor
    probability: Tensor
    target: Tensor
    valid_count: Tensor

    @property
    def false_positive(self) -> Tensor:
        """FP = P - TP."""
        return (self.probability - self.true_positive).clamp(min=0)

    @property
    def false_negative(self) -> Tensor:
        """FN = T - TP."""
        return (self.target - self.true_positive).clamp(min=0)

    @property
    def true_negative(self) -> Tensor:
        """TN: the valid pixels without TP, FP and FN."""
        return (self.valid_count - self.probability - self.target + self.true_positive).clamp(min=0)

    def pooled(self, weights: Tensor) -> "RegionSums":
        """The weighted sums over the classes, (G, 1) each."""
        return RegionSums(
            *(
                (weights * values).sum(1, keepdim=True)
                for values in (self.true_positive, self.probability, self.target, self.valid_count)
            )
        )


class RegionLoss(Loss):
    """A loss of TP, P, T and the number of valid pixels of each class; a subclass writes `class_losses`.

    The sums are taken over the batch, or over each image. average="macro" is the mean of the loss over the classes that
    count, "micro" the loss of their summed sums; after either comes the mean over images, if per image.

    Args:
        smooth: s ≥ 0, which the formula adds to the overlap as if there were more true positives.
        average: macro or micro.
        options: classes, task, ignore_index, class_weights, per_image and sync_dist; see `Loss`.

    Raises:
        ValueError: smooth or average is out of range, or as `Loss` says.
    """

    sums_suffice = True

    squared = False

    def from_statistics(self, statistics: Statistics) -> Tensor:
        """The loss; called with autocast off."""
        sums = self._sums(statistics)
        counted = self.counted_classes(sums.target > 0, sums.valid_count)
        weights = self.weights_for(statistics)
        if self.average == "micro":
            factor = counted * self.pooling_weights(sums, counted)
            sums = sums.pooled(factor if weights is None else factor * weights)
            counted, weights = counted.any(1, keepdim=True), None
        loss = mean_over_classes(self.class_losses(sums), counted, weights, self.per_image, self.syncs)
        return loss.to(statistics.pixels.dtype)

    def __init__(self, *, smooth: float = 1.0, average: Average = "macro", **options: Unpack[ClassOptions]) -> None:
        super().__init__(**options)
        if average not in ("macro", "micro"):
            raise ValueError(f"average={average!r} is neither macro nor micro.")
        self.smooth = not_negative(smooth, "smooth")
        self.average = average

    @abstractmethod
    def class_losses(self, sums: RegionSums) -> Tensor:
        """The loss of each group and class, (G, C); finite, as is its gradient, also where all sums are 0."""

    def pooling_weights(self, sums: RegionSums, counted: Tensor) -> Tensor:
        """What the sums of each class are multiplied by before average="micro" sums them: (G, C), or (C,)."""
        return torch.ones_like(sums.target)

    @property
    def requires(self) -> Requirements:
        """The squared form reads the sum of p², and none a log-probability."""
        return Requirements(squares=self.squared, log_probabilities=False)

    def _sums(self, statistics: Statistics) -> RegionSums:
        sums = (
            statistics.true_positive,
            statistics.probability_square_sum if self.squared else statistics.probability_sum,
            statistics.target_square_sum if self.squared else statistics.target_sum,
            statistics.valid_count,
        )
        if self.per_image:
            return RegionSums(*sums)
        if self.syncs:
            return RegionSums(*sum_over_processes(torch.stack(sums).sum(1, keepdim=True)))
        return RegionSums(*(values.sum(0, keepdim=True) for values in sums))


def index(overlap: Tensor, total: Tensor) -> Tensor:
    """overlap / total, and 1 where both are 0: a class that no pixel has and that is predicted nowhere is right."""
    nothing = total <= _NOTHING  # false of NaN, which must show
    return (overlap / total.masked_fill(nothing, 1)).masked_fill(nothing, 1)
