"""What losses read: sums for each image and class, histograms of errors, and maps.

The sums come from one pass over the logits, in `class_sums` or, of soft targets, in `soft_sums`, which a compound makes
once for all its terms. Maps are computed by torch operations on the whole batch.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_seg.losses.engine.class_sums import sigmoid_sums, softmax_sums
from lightning_seg.losses.engine.dtypes import sum_dtype
from lightning_seg.losses.engine.interface import ClassSums, Errors, Requirements
from lightning_seg.losses.engine.lazy_property import lazy_property
from lightning_seg.losses.engine.pixels import Pixels
from lightning_seg.losses.engine.soft_sums import SoftSums, soft_sums
from lightning_seg.task import Task


class Statistics:
    """The statistics of a batch, each computed when it is first read.

    Maps are in `pixels.dtype`, with 0 at void pixels: (N, S) in the multiclass task, (N, C, S) in the others, whose
    channels are independent. Sums over an image are in `sum_dtype`: (N, C), or by label (N, C) in the multiclass task
    and (N, C, 2), of the labels 0 and 1, in the others.

    Args:
        pixels: the batch.
        requires: what losses will read, so that one pass over the logits gives all of it.
    """

    def __init__(self, pixels: Pixels, requires: Requirements | None = None) -> None:
        self.pixels = pixels
        self.requires = Requirements() if requires is None else requires
        self.sum_dtype = sum_dtype(pixels.raw_logits)

    @classmethod
    def of_sums(cls, sums: ClassSums, task: Task) -> "Statistics":
        """The statistics of pixels whose sums alone are known; what needs maps is not available."""
        pixels = Pixels(
            task,
            raw_logits=sums.by_channel.new_empty(0, sums.by_channel.shape[1], 0),
            raw_target=sums.error_counts.new_empty(0, 0),
            ignore_index=None,
            map_shape=(0,),
            spatial=(0,),
            target=sums.error_counts.new_empty(0, 0),
        )
        statistics = cls(pixels, sums.requires)
        statistics.sums = sums
        return statistics

    @lazy_property
    def sums(self) -> ClassSums:
        """The sums of a hard target that `requires` names."""
        return self._sums(self.requires)

    def _sums(self, requires: Requirements) -> ClassSums:
        pixels = self.pixels
        sums = softmax_sums if self._multiclass else sigmoid_sums
        return sums(pixels.raw_logits, pixels.raw_target, ignore_index=pixels.ignore_index, requires=requires)

    @lazy_property
    def soft_sums(self) -> SoftSums:
        """The sums of a soft target that `requires` names."""
        pixels = self.pixels
        return soft_sums(
            pixels.raw_logits,
            pixels.raw_target,
            ignore_index=pixels.ignore_index,
            softmax=self._multiclass,
            requires=self.requires,
        )

    @property
    def label_count(self) -> Tensor:
        """The number of pixels of each label."""
        return self.sums.by_label[..., 0].detach()

    @property
    def label_log_probability_sum(self) -> Tensor:
        """Σ ℓ over the pixels of each label, if `requires` names it."""
        if not self.requires.log_probabilities:
            raise ValueError("Σ ℓ was not asked for: Requirements(log_probabilities=True) names it.")
        return self.sums.by_label[..., 1]

    @property
    def label_probability_sum(self) -> Tensor:
        """Σ p_y over the pixels of each label."""
        return self.sums.by_label[..., 2]

    def focal_sum(self, gamma: float) -> Tensor:
        """Σ (1 - p_y)^γ ℓ over the pixels of each label, for a γ that `requires` names."""
        return self.sums.by_label[..., 3 + self.requires.gammas.index(gamma)]

    @property
    def uniform_log_probability_sum(self) -> Tensor:
        """Σ log p of each class, if `requires` names it; of a sigmoid, Σ ½(log p + log(1 - p))."""
        return self.sums.by_channel[..., -1]

    def error_histogram(self, errors: Errors, per_image: bool) -> tuple[Tensor, Tensor]:
        """The sum and the number of errors, (G, C, 2, bins), for each image, or (G = 1) for all."""
        requires = Requirements(errors=errors, errors_per_image=per_image, log_probabilities=False)
        sums = self.sums if self.requires.errors == errors else self._sums(requires)
        parts = sums.error_sums, sums.error_counts
        return parts if per_image else (parts[0].sum(0, keepdim=True), parts[1].sum(0, keepdim=True))

    @lazy_property
    def log_probabilities(self) -> Tensor:
        """Log-softmax over the classes, (N, C, S); multiclass only."""
        return F.log_softmax(self.pixels.logits, 1)

    @lazy_property
    def probabilities(self) -> Tensor:
        """Softmax or sigmoid of the logits, (N, C, S), with some value at void pixels."""
        return self.log_probabilities.exp() if self._multiclass else self.pixels.logits.sigmoid()

    @lazy_property
    def label_log_probability(self) -> Tensor:
        """ℓ: the log-probability of each pixel's label, a map; of soft targets, its mean over the labels."""
        if self.requires.label_map and not self.pixels.soft:
            return self.sums.label_map
        labels, soft, logits = self.pixels.labels, self.pixels.target_probabilities, self.pixels.logits
        if soft is not None:
            if self._multiclass:
                return (soft * self.log_probabilities).sum(1)
            return self.mask(soft * logits - F.softplus(logits))
        assert labels is not None
        if self._multiclass:
            return self.mask(self.log_probabilities.gather(1, labels.unsqueeze(1)).squeeze(1))
        return self.mask(F.logsigmoid(torch.where(labels == 1, logits, -logits)))

    def weighted_log_probability(self, class_weights: Tensor | None) -> tuple[Tensor, Tensor]:
        """ℓ with the log-probability of each class times its weight; and the weights of the pixels. Two maps."""
        labels, soft = self.pixels.labels, self.pixels.target_probabilities
        if class_weights is not None and soft is not None and self._multiclass:
            weighted = soft * class_weights[:, None]
            return (weighted * self.log_probabilities).sum(1), weighted.sum(1)
        if class_weights is None:
            return self.label_log_probability, self.pixels.valid.to(self.pixels.logits.dtype)
        if self._multiclass:
            assert labels is not None
            weights = self.mask(class_weights[labels])
        else:
            weights = self.mask(class_weights[:, None].expand_as(self.pixels.logits))
        return weights * self.label_log_probability, weights

    def uniform_log_probability(self, class_weights: Tensor | None) -> Tensor:
        """What `weighted_log_probability` gives for the target that holds every class alike, a map."""
        logits = self.pixels.logits
        if not self._multiclass:
            weights = 1 if class_weights is None else class_weights[:, None]
            return self.mask(weights * (logits / 2 - F.softplus(logits)))
        if class_weights is None:
            return self.mask(self.log_probabilities.mean(1))
        return self.mask((self.log_probabilities * class_weights[:, None]).mean(1))

    @lazy_property
    def valid_count(self) -> Tensor:
        """The number of valid pixels of each image and class."""
        if self.pixels.soft:
            return self.soft_sums.valid
        if self._multiclass:
            return self.label_count.sum(1, keepdim=True).expand(-1, self.pixels.num_classes)
        return self.label_count.sum(-1)

    @lazy_property
    def true_positive(self) -> Tensor:
        """TP: the sum of p where the label is the class; of soft targets t, the sum of p·t."""
        if self.pixels.soft:
            return self.soft_sums.overlap
        return self.sums.by_label[..., 2] if self._multiclass else self.sums.by_label[:, :, 1, 2]

    @lazy_property
    def probability_sum(self) -> Tensor:
        """P: the sum of p."""
        return self.soft_sums.probability if self.pixels.soft else self.sums.by_channel[..., 0]

    @lazy_property
    def probability_square_sum(self) -> Tensor:
        """The sum of p²."""
        if self.requires.squares:
            return self.soft_sums.probability_square if self.pixels.soft else self.sums.by_channel[..., 1]
        return self._mask_channels(self.probabilities).square().sum(-1, dtype=self.sum_dtype)

    @lazy_property
    def target_sum(self) -> Tensor:
        """T: the number of pixels whose label is the class; of soft targets t, the sum of t."""
        if self.pixels.soft:
            return self.soft_sums.target
        return self.label_count if self._multiclass else self.label_count[..., 1]

    @lazy_property
    def target_square_sum(self) -> Tensor:
        """The sum of t², which of hard targets is T."""
        if not self.pixels.soft:
            return self.target_sum
        if self.requires.squares:
            return self.soft_sums.target_square
        soft = self.pixels.target_probabilities
        assert soft is not None
        return soft.square().sum(-1, dtype=self.sum_dtype)

    def mask(self, values: Tensor) -> Tensor:
        """A map with 0 at void pixels."""
        return torch.where(self.pixels.valid, values, 0)

    def _mask_channels(self, values: Tensor) -> Tensor:
        valid = self.pixels.valid
        return torch.where(valid.unsqueeze(1) if self._multiclass else valid, values, 0)

    @property
    def _multiclass(self) -> bool:
        return self.pixels.task == "multiclass"
