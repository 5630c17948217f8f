"""Tversky loss."""

import warnings
from typing import Unpack

from torch import Tensor

from lightning_seg.losses.loss import not_negative
from lightning_seg.losses.options import RegionOptions
from lightning_seg.losses.region.region_loss import RegionLoss, RegionSums, index


class TverskyLoss(RegionLoss):
    """One minus the Tversky index, which weighs too much against too little (Salehi et al. 2017,
    https://arxiv.org/abs/1706.05721).

        1 - (TP + s) / (TP + α·FP + β·FN + s)     TP = Σ p·t    FP = Σ p - TP    FN = Σ t - TP

    over the valid pixels of the batch, or of each image; p is the softmax or sigmoid of the logits and t is 1 where the
    label is the class. With α = β = 1/2 it is `DiceLoss` with twice the smoothing, with α = β = 1 `JaccardLoss`. In the
    multiclass task average="micro" over all classes does not tell α from β: each false positive of one class is a false
    negative of another.

    Shapes: logits (N, C, *spatial), target labels (N, *spatial) if multiclass, else 0 and 1 in the logits' shape; the
    result is a scalar.
    Void pixels enter none of the sums; a batch of them alone gives 0.
    Absent classes count with classes="all": their index is s / (α·P + s), so that false positives are penalized. With
    "present" they are left out and add nothing. A class whose denominator is 0 has loss 0.
    Soft targets are refused: the loss is least at hard predictions, not where p equals them.

    Args:
        alpha: α ≥ 0, the weight of false positives.
        beta: β ≥ 0, the weight of false negatives; the higher, the fewer pixels of the class are missed. To leave
            either out is deprecated; it is then 0.5.
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
        ValueError: alpha, beta, smooth or average is out of range, or as `Loss` says.
    """

    def class_losses(self, sums: RegionSums) -> Tensor:
        """One minus the Tversky index of each class."""
        return 1 - tversky(sums, self.alpha, self.beta, self.smooth)

    def __init__(
        self, *, alpha: float | None = None, beta: float | None = None, **options: Unpack[RegionOptions]
    ) -> None:
        super().__init__(**options)
        self.alpha, self.beta = error_weights(self, alpha, beta, former=(0.5, 0.5))


def tversky(sums: RegionSums, alpha: float, beta: float, smooth: float) -> Tensor:
    """The Tversky index, and 1 where its denominator is 0."""
    errors = alpha * sums.false_positive + beta * sums.false_negative
    return index(sums.true_positive + smooth, sums.true_positive + errors + smooth)


def error_weights(
    loss: RegionLoss, alpha: float | None, beta: float | None, former: tuple[float, float]
) -> tuple[float, float]:
    """α and β, if at least one of them penalizes errors; where they are left out, those of the former release."""
    if alpha is None or beta is None:
        alpha, beta = former[0] if alpha is None else alpha, former[1] if beta is None else beta
        warnings.warn(
            f"{type(loss).__name__} will need alpha and beta from the next release on: "
            f"give alpha={alpha}, beta={beta} for what it is now.",
            FutureWarning,
            stacklevel=4,
        )
    weights = not_negative(alpha, "alpha"), not_negative(beta, "beta")
    if not any(weights):
        raise ValueError("alpha=0 and beta=0 penalize no prediction; give a weight to one of the errors.")
    return weights
