"""Jaccard loss."""

from typing import Unpack

from torch import Tensor

from lightning_seg.losses.options import RegionOptions
from lightning_seg.losses.region.region_loss import RegionLoss, RegionSums, index


class JaccardLoss(RegionLoss):
    """One minus the Jaccard index, the intersection over union (Rahman and Wang 2016,
    https://doi.org/10.1007/978-3-319-50835-1_22).

        1 - (TP + s) / (P + T - TP + s)     TP = Σ p·t    P = Σ p    T = Σ t     (squared: P = Σ p²  T = Σ t²)

    over the valid pixels of the batch, or of each image; p is the softmax or sigmoid of the logits and t is 1 where the
    label is the class. It is `TverskyLoss(alpha=1, beta=1)`, and 2·d / (1 + d) of the Dice loss d if s = 0. The squared
    form is Σ (p - t)² / (Σ (p - t)² + TP + s).

    Shapes: logits (N, C, *spatial), target labels (N, *spatial) if multiclass, else 0 and 1 in the logits' shape; the
    result is a scalar.
    Void pixels enter none of the sums; a batch of them alone gives 0.
    Absent classes count with classes="all": their index is s / (P + s), so that false positives are penalized. With
    "present" they are left out and add nothing. A class with P = T = s = 0 has loss 0.
    Soft targets: probabilities (N, C, *spatial) as t, with squared=True, whose loss is 0 where p = t and nowhere else.
    The linear form refuses them: it is least at hard predictions (Wang et al. 2023, https://arxiv.org/abs/2302.05666),
    and the intersection Σ min(p, t) that would repair it is not one of the sums that this loss is a function of.

    Args:
        smooth: s ≥ 0, added once to both sides of the ratio.
        squared: sums of squares in the denominator.
        average: macro, the mean of the classes' losses, or micro, the loss of their summed sums.
        classes: all, present, or a list of the class indices that count.
        task: multiclass, multilabel or binary.
        ignore_index: the label of void pixels.
        class_weights: one number for each class, a weight in the mean (macro) or of its sums (micro); not in the binary
            task.
        per_image: average over images rather than take the sums over the batch.
        sync_dist: over all processes.

    Raises:
        ValueError: smooth or average is out of range, or as `Loss` says.
        TypeError: when called with a soft target and squared=False.
    """

    def class_losses(self, sums: RegionSums) -> Tensor:
        """One minus the Jaccard index of each class."""
        union = sums.probability + sums.target - sums.true_positive
        return 1 - index(sums.true_positive + self.smooth, union + self.smooth)

    def __init__(self, *, squared: bool = False, **options: Unpack[RegionOptions]) -> None:
        super().__init__(**options)
        self.squared = squared
        self.soft_targets = squared
