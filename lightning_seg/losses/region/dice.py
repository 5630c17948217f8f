"""Dice loss."""

from typing import Unpack

from torch import Tensor

from lightning_seg.losses.options import RegionOptions
from lightning_seg.losses.region.region_loss import RegionLoss, RegionSums, index


class DiceLoss(RegionLoss):
    """One minus the Dice coefficient (Milletari et al. 2016, https://arxiv.org/abs/1606.04797).

        1 - (2·TP + s) / (P + T + s)        TP = Σ p·t    P = Σ p    T = Σ t     (squared: P = Σ p²  T = Σ t²)

    over the valid pixels of the batch, or of each image; p is the softmax or sigmoid of the logits and t is 1 where the
    label is the class. average="macro" is the mean of this over the classes, "micro" one ratio of their summed
    statistics.

    Shapes: logits (N, C, *spatial), target labels (N, *spatial) if multiclass, else 0 and 1 in the logits' shape; the
    result is a scalar.
    Void pixels enter none of the sums; a batch of them alone gives 0.
    Absent classes count with classes="all": their ratio is s / (P + s), so that false positives are penalized, and the
    lower s, the more a single one is. With "present" they are left out of the mean, or of the summed statistics.
    A class with P = T = s = 0 has loss 0.
    Soft targets: probabilities (N, C, *spatial) as t. The linear form is then least at hard predictions, not at p = t.

    Args:
        smooth: s ≥ 0, added once to both sides of the ratio.
        squared: sums of squares in the denominator.
        average: macro or micro.
        classes: all, present, or a list of the class indices that count.
        task: multiclass, multilabel or binary.
        ignore_index: the label of void pixels.
        class_weights: one number for each class, a weight in the mean (macro) or of its statistics (micro); not in the
            binary task.
        per_image: average over images rather than take the sums over the batch.
        sync_dist: over all processes.

    Raises:
        ValueError: smooth or average is out of range, or as `Loss` says.
    """

    soft_targets = True

    def class_losses(self, sums: RegionSums) -> Tensor:
        """One minus the Dice coefficient of each class."""
        return 1 - dice(sums, self.smooth)

    def __init__(self, *, squared: bool = False, **options: Unpack[RegionOptions]) -> None:
        super().__init__(**options)
        self.squared = squared


def dice(sums: RegionSums, smooth: float) -> Tensor:
    """The Dice coefficient, and 1 where the sums and `smooth` are 0."""
    return index(2 * sums.true_positive + smooth, sums.probability + sums.target + smooth)
