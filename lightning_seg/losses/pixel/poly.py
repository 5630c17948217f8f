"""Poly-1 cross-entropy: cross-entropy with another weight of its first term in 1 - p."""

from typing import Unpack

import torch
from torch import Tensor

from lightning_seg.losses.engine.statistics import Statistics
from lightning_seg.losses.loss import Loss
from lightning_seg.losses.options import PixelOptions


class PolyCrossEntropyLoss(Loss):
    """Poly-1 cross-entropy (Leng et al. 2022, https://arxiv.org/abs/2204.12511, equation 2).

        -log p_y + ε (1 - p_y)        averaged over valid pixels (and channels, if multilabel)

    with p_y the probability of the pixel's label: softmax over the classes if multiclass, else the sigmoid, or 1 minus
    it where the label is 0. Since -log p = Σ_j (1 - p)^j / j, it changes the weight of j = 1 from 1 to 1 + ε.

    Shapes: logits (N, C, *spatial), target labels (N, *spatial) if multiclass, else 0 and 1 in the logits' shape; the
    result is a scalar, or with reduction="none" the map in the shape of the labels.
    Void pixels count neither in the sum nor in what it is divided by; a batch of them alone gives 0.
    Absent classes need no care: every pixel counts once.
    Soft targets are refused: p_y needs one label y.

    Args:
        epsilon: ε, -1 or more, so that a better prediction never costs more; 0 is cross-entropy.
        task: multiclass, multilabel or binary.
        ignore_index: the label of void pixels.
        class_weights: one number for each class, by which the mean is divided, too; not in the binary task.
        per_image: average over images rather than over the pixels of the batch.
        reduction: mean, sum or none.
        sync_dist: over all processes.

    Raises:
        ValueError: epsilon is out of range, or as `Loss` says.
    """

    sums_suffice = True

    def from_statistics(self, statistics: Statistics) -> Tensor:
        """The loss; called with autocast off."""
        if self.reduction == "none":
            log_probability, weights = statistics.weighted_log_probability(self.weights_for(statistics))
            wrong = -weights * torch.expm1(statistics.label_log_probability)
            return self.reduce_map(self.epsilon * wrong - log_probability, weights, statistics)
        count = statistics.label_count
        wrong = count - statistics.label_probability_sum
        values = self.epsilon * wrong - statistics.label_log_probability_sum
        return self.reduce_sums(self.weighted(values, statistics), self.weighted(count, statistics), statistics)

    def __init__(self, *, epsilon: float = 1.0, **options: Unpack[PixelOptions]) -> None:
        super().__init__(**options)
        if isinstance(epsilon, bool) or not isinstance(epsilon, int | float) or not -1 <= epsilon < float("inf"):
            raise ValueError(f"epsilon={epsilon!r} is not a finite number of -1 or more.")
        self.epsilon = float(epsilon)
