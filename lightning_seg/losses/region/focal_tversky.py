"""Focal Tversky loss."""

from typing import Unpack

import torch
from torch import Tensor

from lightning_seg.losses.loss import not_negative
from lightning_seg.losses.options import RegionOptions
from lightning_seg.losses.region.region_loss import RegionLoss, RegionSums
from lightning_seg.losses.region.tversky import error_weights, tversky


class FocalTverskyLoss(RegionLoss):
    """The Tversky loss of each class to a power (Abraham and Khan 2018, https://arxiv.org/abs/1810.07842).

        (1 - (TP + s) / (TP + α·FP + β·FN + s))^(1/γ)     TP = Σ p·t    FP = Σ p - TP    FN = Σ t - TP

    over the valid pixels of the batch, or of each image; p is the softmax or sigmoid of the logits and t is 1 where the
    label is the class. The exponent is 1/γ as in the paper, whose choice γ = 4/3 makes it 3/4; where others call the
    exponent itself γ, give its inverse. With γ = 1 it is `TverskyLoss`. With γ > 1 a class that is nearly
    right keeps a steep loss; with γ < 1 the classes that are still wrong count most. The paper's α weighs false
    negatives and its β false positives; here, as in `TverskyLoss`, it is the other way round.

    Shapes: logits (N, C, *spatial), target labels (N, *spatial) if multiclass, else 0 and 1 in the logits' shape; the
    result is a scalar.
    Void pixels enter none of the sums; a batch of them alone gives 0.
    Absent classes count with classes="all": their index is s / (α·P + s), so that false positives are penalized. With
    "present" they are left out and add nothing. A class whose denominator is 0 has loss 0.
    Soft targets are refused: the loss is least at hard predictions, not where p equals them.

    Args:
        alpha: α ≥ 0, the weight of false positives.
        beta: β ≥ 0, the weight of false negatives; the higher, the fewer pixels of the class are missed. To leave
            either out is deprecated; they are then 0.3 and 0.7.
        gamma: γ > 0.
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
        ValueError: alpha, beta, gamma, smooth or average is out of range, or as `Loss` says.
    """

    def class_losses(self, sums: RegionSums) -> Tensor:
        """The Tversky loss of each class to the power of 1/γ."""
        loss = 1 - tversky(sums, self.alpha, self.beta, self.smooth)
        # tiny: at 0 the derivative of x^(1/γ) is infinite for γ > 1.
        return loss.clamp(min=torch.finfo(loss.dtype).tiny) ** (1 / self.gamma)

    def __init__(
        self,
        *,
        alpha: float | None = None,
        beta: float | None = None,
        gamma: float = 4 / 3,
        **options: Unpack[RegionOptions],
    ) -> None:
        super().__init__(**options)
        self.alpha, self.beta = error_weights(self, alpha, beta, former=(0.3, 0.7))
        self.gamma = not_negative(gamma, "gamma")
        if self.gamma == 0:
            raise ValueError(f"gamma={gamma!r} must be more than 0: the loss is to the power of 1/gamma.")
