"""Log-cosh Dice loss."""

from torch import Tensor

from lightning_seg.losses.region.dice import dice
from lightning_seg.losses.region.region_loss import RegionLoss, RegionSums


class LogCoshDiceLoss(RegionLoss):
    """The logarithm of the hyperbolic cosine of the Dice loss (Jadon 2020, https://arxiv.org/abs/2006.14822).

        log cosh d     d = 1 - (2·TP + s) / (P + T + s)     TP = Σ p·t    P = Σ p    T = Σ t

    over the valid pixels of the batch, or of each image; p is the softmax or sigmoid of the logits and t is 1 where the
    label is the class. It is about d²/2, at most log cosh 1 = 0.434, and its derivative is tanh d: the gradient of a
    class that is nearly right goes to 0.

    Shapes: logits (N, C, *spatial), target labels (N, *spatial) if multiclass, else 0 and 1 in the logits' shape; the
    result is a scalar.
    Void pixels enter none of the sums; a batch of them alone gives 0.
    Absent classes count with classes="all": d = 1 - s / (P + s), so that false positives are penalized. With "present"
    they are left out and add nothing. A class with P = T = s = 0 has loss 0.
    Soft targets are refused: d is least at hard predictions, not where p equals them.

    Args:
        smooth: s ≥ 0, added once to both sides of the ratio.
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
        """Log cosh of the Dice loss of each class."""
        return (1 - dice(sums, self.smooth)).cosh().log()
