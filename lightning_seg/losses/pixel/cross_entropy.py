"""Cross-entropy: softmax for exclusive classes, a sigmoid for each channel otherwise."""

from typing import Unpack

from torch import Tensor

from lightning_seg.losses.engine.interface import Requirements
from lightning_seg.losses.engine.statistics import Statistics
from lightning_seg.losses.loss import Loss, not_negative
from lightning_seg.losses.options import PixelOptions


class CrossEntropyLoss(Loss):
    """Cross-entropy of exclusive classes, and the numerically stable BCE with logits of independent ones.

        multiclass           -Σ_i w_{y_i} log p_{i,y_i} / Σ_i w_{y_i}          p = softmax(logits)
        multilabel, binary   the same over all pixels and channels            p = sigmoid(logits), or 1 - p where y = 0

    over valid pixels i. Label smoothing ε replaces the target t by (1 - ε)·t + ε/C, in the multilabel and binary tasks
    by (1 - ε)·t + ε/2 (Szegedy et al. 2016, https://arxiv.org/abs/1512.00567). The log-probabilities are computed from
    the logits, never as the logarithm of a rounded probability.

    Shapes: logits (N, C, *spatial), target labels (N, *spatial) if multiclass, else 0 and 1 in the logits' shape; the
    result is a scalar, or with reduction="none" the map that torch gives: the shape of the labels.
    Void pixels count neither in the sum nor in what it is divided by; a batch of them alone gives 0.
    Absent classes need no care: every pixel counts once.
    Soft targets: probabilities (N, C, *spatial); the class weights then also weigh the mean, so that a one-hot target
    gives what its labels give.

    Args:
        label_smoothing: ε, from 0 and below 1.
        task: multiclass, multilabel or binary.
        ignore_index: the label of void pixels.
        class_weights: one number w for each class; not in the binary task.
        per_image: average over images rather than over the pixels of the batch.
        reduction: mean, sum or none.
        sync_dist: over all processes.

    Raises:
        ValueError: label_smoothing is out of range, or as `Loss` says.
    """

    sums_suffice = True

    soft_targets = True

    def from_statistics(self, statistics: Statistics) -> Tensor:
        """The loss; called with autocast off."""
        if self.reduction == "none":
            return self._from_maps(statistics)
        if statistics.pixels.soft:
            return self._from_soft_sums(statistics)
        log_probability = self.weighted(statistics.label_log_probability_sum, statistics)
        if self.label_smoothing > 0:
            uniform = statistics.uniform_log_probability_sum
            if self.task == "multiclass":
                uniform = self.weighted(uniform, statistics) / statistics.pixels.num_classes
            else:
                uniform = self.weighted(uniform.unsqueeze(2), statistics) / 2  # the two labels share it
            log_probability = (1 - self.label_smoothing) * log_probability + self.label_smoothing * uniform
        return self.reduce_sums(-log_probability, self.weighted(statistics.label_count, statistics), statistics)

    def __init__(self, *, label_smoothing: float = 0.0, **options: Unpack[PixelOptions]) -> None:
        super().__init__(**options)
        self.label_smoothing = not_negative(label_smoothing, "label_smoothing")
        if label_smoothing >= 1:
            raise ValueError(f"label_smoothing={label_smoothing} leaves nothing of the target; it must be less than 1.")

    @property
    def requires(self) -> Requirements:
        """Label smoothing reads the log-probabilities of all classes."""
        return Requirements(uniform=self.label_smoothing > 0)

    def _from_soft_sums(self, statistics: Statistics) -> Tensor:
        sums, multiclass = statistics.soft_sums, self.task == "multiclass"
        log_probability = self.weighted(sums.log_probability, statistics)
        if self.label_smoothing > 0:
            uniform = self.weighted(sums.uniform, statistics) / (statistics.pixels.num_classes if multiclass else 1)
            log_probability = (1 - self.label_smoothing) * log_probability + self.label_smoothing * uniform
        if multiclass:  # each pixel counts once, or with the weights of its classes
            weights = sums.valid[:, :1] if self.class_weights is None else self.weighted(sums.target, statistics)
        else:
            weights = self.weighted(sums.valid, statistics)
        return self.reduce_sums(-log_probability, weights, statistics)

    def _from_maps(self, statistics: Statistics) -> Tensor:
        class_weights = self.weights_for(statistics)
        log_probability, weights = statistics.weighted_log_probability(class_weights)
        if self.label_smoothing > 0:
            uniform = statistics.uniform_log_probability(class_weights)
            log_probability = (1 - self.label_smoothing) * log_probability + self.label_smoothing * uniform
        return self.reduce_map(-log_probability, weights, statistics)
