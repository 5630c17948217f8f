"""Cross-entropy of the pixels that are not yet well predicted."""

import math
from typing import Unpack

import torch
from torch import Tensor

from lightning_seg.losses.engine.interface import Requirements
from lightning_seg.losses.engine.statistics import Statistics
from lightning_seg.losses.loss import Loss
from lightning_seg.losses.options import LossOptions
from lightning_seg.losses.pixel.hard_examples import hard_example_weights


class OhemCrossEntropyLoss(Loss):
    """Cross-entropy with online hard example mining (Shrivastava et al. 2016, https://arxiv.org/abs/1604.03540).

        Σ_{i kept} -w_y log p_{i,y} / Σ_{i kept} w_y        kept: p_{i,y} < threshold, and the min_kept worst

    Shapes: logits (N, C, *spatial), target labels (N, *spatial) if multiclass, else 0 and 1 in the logits' shape, whose
    channels are then pixels of their own; the result is a scalar.
    Void pixels are never kept; a batch of them alone gives 0.
    Absent classes need no care: a pixel counts by its cost alone.
    Soft targets are refused: p_y needs one label y.

    Args:
        threshold: pixels whose label has this probability or more are left out; above 0 and at most 1.
        min_kept: pixels of the batch that are kept at least, the highest loss first; 0 or more. The default is a fifth
            of a 512 × 512 image.
        task: multiclass, multilabel or binary.
        ignore_index: the label of void pixels.
        class_weights: one number w for each class; they weigh the mean, and do not change which pixels are kept. Not in
            the binary task.
        sync_dist: over all processes; min_kept is then of all their batches together.

    Raises:
        ValueError: threshold or min_kept is out of range, or as `Loss` says.
    """

    def from_statistics(self, statistics: Statistics) -> Tensor:
        """The loss; called with autocast off."""
        log_probability, weights = statistics.weighted_log_probability(self.weights_for(statistics))
        valid, own = statistics.pixels.valid, statistics.label_log_probability.detach()
        kept = torch.full((), self.min_kept, dtype=torch.int64, device=own.device)
        chosen = hard_example_weights(-own, valid, kept, self.syncs)
        chosen = torch.where(valid & (own < math.log(self.threshold)), 1, chosen)
        return self.reduce_map(-log_probability * chosen, weights * chosen, statistics)

    def __init__(self, *, threshold: float = 0.7, min_kept: int = 50_000, **options: Unpack[LossOptions]) -> None:
        super().__init__(**options)
        if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 < threshold <= 1:
            raise ValueError(f"threshold={threshold!r} is not a probability above 0 and at most 1.")
        if isinstance(min_kept, bool) or not isinstance(min_kept, int) or min_kept < 0:
            raise ValueError(f"min_kept={min_kept!r} is not a number of pixels, 0 or more.")
        self.threshold = float(threshold)
        self.min_kept = min_kept

    @property
    def requires(self) -> Requirements:
        """The cost of each pixel."""
        return Requirements(label_map=True)
