"""Matthews correlation coefficient loss."""

import torch
from torch import Tensor

from lightning_seg.losses.region.region_loss import RegionLoss, RegionSums


class MCCLoss(RegionLoss):
    """One minus Matthews' correlation of prediction and target (Abhishek and Hamarneh 2021,
    https://arxiv.org/abs/2010.13454).

        1 - (TP·TN - FP·FN) / √((TP + FP)·(TP + FN)·(TN + FP)·(TN + FN))

        TP = s + Σ p·t    FP = Σ p·(1-t)    FN = Σ (1-p)·t    TN = s + Σ (1-p)·(1-t)

    over the valid pixels of the batch, or of each image; p is the softmax or sigmoid of the logits and t is 1 where the
    label is the class. It is 0 for a perfect prediction, with s = 0 it is 1 for one that does not depend on the target
    and 2 for its opposite, and it is the same for a class as for its complement: unlike Dice it counts what is rightly
    left out.

    Shapes: logits (N, C, *spatial), target labels (N, *spatial) if multiclass, else 0 and 1 in the logits' shape; the
    result is a scalar.
    Void pixels enter none of the sums; a batch of them alone gives 0.
    Absent classes count with classes="all". The paper's coefficient is 0/0 for a class that no pixel has, or every
    pixel; the s pixels of either side that are taken as right make it 1 if the prediction is right, too, and else

        √(s·(n - P + s) / ((P + s)·(n + s)))     P = Σ p, if no pixel has the class; n is the number of valid pixels

    so that false positives are penalized. With "present" absent classes are left out. With s = 0 the loss of a class
    whose target or prediction is constant is 0 if they are equal, to rounding, else 1, without gradient.
    Soft targets are refused: the loss is least at hard predictions, not where p equals them.

    Args:
        smooth: s ≥ 0, added to the true positives and the true negatives.
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
    """

    def class_losses(self, sums: RegionSums) -> Tensor:
        """One minus the correlation coefficient of each class."""
        true_positive, true_negative = sums.true_positive + self.smooth, sums.true_negative + self.smooth
        covariance = true_positive * true_negative - sums.false_positive * sums.false_negative
        # Not of the four above: where a target is constant, n - T is 0 and the rounded TN + FP may not be.
        variances = (
            (sums.probability + self.smooth)
            * (sums.target + self.smooth)
            * ((sums.valid_count - sums.probability).clamp(min=0) + self.smooth)
            * (sums.valid_count - sums.target + self.smooth)
        )
        is_constant = variances <= 0  # false of NaN, which must show
        # But for the rounding of p: whether a constant prediction of a constant target is right.
        right = sums.false_positive + sums.false_negative <= 1e-6 * sums.valid_count
        constant = right.to(variances.dtype)
        return 1 - torch.where(is_constant, constant, covariance * torch.where(is_constant, 1, variances).rsqrt())
