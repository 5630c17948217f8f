"""Cross-entropy of the share of the pixels with the highest loss."""

from typing import Unpack

import torch
from torch import Tensor

from lightning_seg.losses.engine.interface import Requirements
from lightning_seg.losses.engine.reduction import sum_if
from lightning_seg.losses.engine.statistics import Statistics
from lightning_seg.losses.loss import Loss
from lightning_seg.losses.options import LossOptions
from lightning_seg.losses.pixel.hard_examples import hard_example_weights


class TopKCrossEntropyLoss(Loss):
    """Cross-entropy of the share k of the valid pixels that cost most (Wu et al. 2016, https://arxiv.org/abs/1605.06885).

        Σ_{i chosen} -w_y log p_{i,y} / Σ_{i chosen} w_y

    over the K = max(1, ⌈k·V⌉) of the V valid pixels with the largest -log p_{i,y}.

    Shapes: logits (N, C, *spatial), target labels (N, *spatial) if multiclass, else 0 and 1 in the logits' shape, whose
    channels are then pixels of their own; the result is a scalar.
    Void pixels are neither chosen nor counted in V; a batch of them alone gives 0.
    Absent classes need no care: a pixel counts by its cost alone. Pixels that tie for the last places share them.
    Soft targets are refused: a pixel's cost needs one label.

    Args:
        k: the share, above 0 and at most 1; 1 is cross-entropy.
        task: multiclass, multilabel or binary.
        ignore_index: the label of void pixels.
        class_weights: one number w for each class; they weigh the mean, and do not change which pixels are chosen. Not
            in the binary task.
        sync_dist: choose among the pixels of all processes.

    Raises:
        ValueError: k is out of range, or as `Loss` says.
    """

    def from_statistics(self, statistics: Statistics) -> Tensor:
        """The loss; called with autocast off."""
        log_probability, weights = statistics.weighted_log_probability(self.weights_for(statistics))
        valid = statistics.pixels.valid
        # Not float32, which numbers no more than 2^24 pixels.
        count = sum_if(self.syncs, valid.sum()).to(statistics.sum_dtype)
        kept = torch.ceil(count * self.k).long().clamp(min=1)
        chosen = hard_example_weights(-statistics.label_log_probability.detach(), valid, kept, self.syncs)
        return self.reduce_map(-log_probability * chosen, weights * chosen, statistics)

    def __init__(self, *, k: float = 0.1, **options: Unpack[LossOptions]) -> None:
        super().__init__(**options)
        if isinstance(k, bool) or not isinstance(k, int | float) or not 0 < k <= 1:
            raise ValueError(f"k={k!r} is not a share of the pixels, above 0 and at most 1.")
        self.k = float(k)

    @property
    def requires(self) -> Requirements:
        """The cost of each pixel."""
        return Requirements(label_map=True)
