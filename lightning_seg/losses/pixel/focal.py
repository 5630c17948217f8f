"""Focal loss: cross-entropy that turns to the pixels it still gets wrong."""

from collections.abc import Iterable
from typing import Unpack

import torch
from torch import Tensor

from lightning_seg.losses.engine.interface import Requirements
from lightning_seg.losses.engine.statistics import Statistics
from lightning_seg.losses.loss import Loss, checked_weights, not_negative, per_class
from lightning_seg.losses.options import PixelOptions
from lightning_seg.task import Task


class FocalLoss(Loss):
    """Focal loss (Lin et al. 2017, https://arxiv.org/abs/1708.02002, equation 5).

        -α_y (1 - p_y)^γ log p_y        averaged over valid pixels (and channels, if multilabel)

    with p_y the plain probability of the pixel's label: softmax over the classes if multiclass, else the sigmoid, or 1
    minus it where the label is 0. α is not inside p_y and does not enter what the sum is divided by. With γ = 0 and no
    α it is cross-entropy.

    Shapes: logits (N, C, *spatial), target labels (N, *spatial) if multiclass, else 0 and 1 in the logits' shape; the
    result is a scalar, or with reduction="none" the map in the shape of the labels.
    Void pixels count neither in the sum nor in what it is divided by; a batch of them alone gives 0.
    Absent classes need no care: every pixel counts once.
    Soft targets are refused: p_y needs one label y.

    Args:
        gamma: γ ≥ 0; the higher, the less the pixels count that are right already.
        alpha: in the binary and multilabel tasks a number from 0 to 1, the weight of label 1, and 1 - alpha that of
            label 0; in the multiclass task a list of one weight for each class. None is 1 for all.
        task: multiclass, multilabel or binary.
        ignore_index: the label of void pixels.
        class_weights: one number for each class, which also enters what the sum is divided by; not in the binary task.
        per_image: average over images rather than over the pixels of the batch.
        reduction: mean, sum or none.
        sync_dist: over all processes.

    Raises:
        ValueError: gamma or alpha is out of range or of the wrong kind for the task, or as `Loss` says.
    """

    sums_suffice = True

    alpha: Tensor | None

    def from_statistics(self, statistics: Statistics) -> Tensor:
        """The loss; called with autocast off."""
        if self.reduction == "none":
            return self._map(statistics)
        values = -self.weighted(statistics.focal_sum(self.gamma), statistics)
        if self.alpha is not None:
            values = values * self._alpha_by_label(statistics).to(values.dtype)
        return self.reduce_sums(values, self.weighted(statistics.label_count, statistics), statistics)

    def __init__(
        self, *, gamma: float = 2.0, alpha: float | Iterable[float] | None = None, **options: Unpack[PixelOptions]
    ) -> None:
        super().__init__(**options)
        self.gamma = not_negative(gamma, "gamma")
        self.register_buffer("alpha", _checked_alpha(alpha, self.task), persistent=False)

    @property
    def requires(self) -> Requirements:
        """Its own sum over the pixels of each label."""
        return Requirements(gammas=(self.gamma,))

    def _map(self, statistics: Statistics) -> Tensor:
        log_probability = statistics.label_log_probability
        weighted, weights = statistics.weighted_log_probability(self.weights_for(statistics))
        # tiny: at p = 1 the derivative of x^γ is infinite for γ < 1.
        wrong = -torch.expm1(log_probability).clamp(max=-torch.finfo(log_probability.dtype).tiny)
        values = -weighted * wrong**self.gamma
        if self.alpha is not None:
            values = values * self._alpha_by_label(statistics)[statistics.pixels.labels]
        return self.reduce_map(values, weights, statistics)

    def _alpha_by_label(self, statistics: Statistics) -> Tensor:
        """(C,) if multiclass, else (2,): of the labels 0 and 1."""
        if self.task == "multiclass":
            alpha = per_class(self.alpha, "alpha", statistics)
            assert alpha is not None
            return alpha
        assert self.alpha is not None
        return torch.stack([1 - self.alpha, self.alpha]).to(
            statistics.pixels.raw_logits.device, statistics.pixels.dtype
        )


def _checked_alpha(alpha: float | Iterable[float] | None, task: Task) -> Tensor | None:
    if alpha is None:
        return None
    is_number = isinstance(alpha, int | float) and not isinstance(alpha, bool)
    if task == "multiclass":
        if is_number:
            raise ValueError(f"alpha={alpha} is ambiguous for several classes; give a list, one number for each class.")
        assert not isinstance(alpha, int | float)
        return checked_weights(alpha, "alpha")
    if not is_number or not 0 <= alpha <= 1:  # type: ignore[operator]
        raise ValueError(
            f"alpha={alpha!r} is not a number from 0 to 1, the weight of label 1 in the {task} task; "
            "to weigh the classes of the multilabel task use class_weights."
        )
    return torch.tensor(alpha, dtype=torch.float64).to(torch.get_default_dtype())
