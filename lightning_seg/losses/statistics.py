"""What the per-pixel and per-region losses read: label log-probabilities, and sums for each image and class.

With p the probabilities and y the label of a valid pixel, these losses are functions of

    ℓ_i     = log p_{i,y_i}                       one channel
    m_{n,c} = Σ_{valid i of image n} p_{i,c}      one number for each image and class

because TP_{n,c} = Σ_{i: y_i=c} exp ℓ_i. They read nothing else of the logits, so how ℓ and m are made is decided here
alone, and a compound makes them once for all its terms.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_seg.losses.pixels import Pixels


class _once:
    """A property computed once; functools.cached_property takes a lock, which torch.compile cannot trace."""

    def __init__(self, compute: Callable[["Statistics"], Tensor]) -> None:
        self.compute = compute
        self.__doc__ = compute.__doc__

    def __get__(self, statistics: "Statistics", owner: type) -> Tensor:
        value = self.compute(statistics)
        setattr(statistics, self.compute.__name__, value)
        return value


class Statistics:
    """The statistics of a batch, each computed when it is first read.

    Maps are in the logits' dtype, float32 or float64, with 0 at void pixels: (N, S) in the multiclass task, (N, C, S)
    in the others, whose channels are independent. Sums over an image are (N, C), in float64, because float32 sums of
    ones stop at 2²⁴; on a device without float64 they are float32.
    """

    def __init__(self, pixels: Pixels) -> None:
        self.pixels = pixels
        self.sum_dtype = torch.float32 if pixels.logits.device.type == "mps" else torch.float64

    @_once
    def log_probabilities(self) -> Tensor:
        """Log-softmax over the classes, (N, C, S); multiclass only."""
        return F.log_softmax(self.pixels.logits, 1)

    @_once
    def probabilities(self) -> Tensor:
        """Softmax or sigmoid of the logits, (N, C, S), with some value at void pixels."""
        return self.log_probabilities.exp() if self._multiclass else self.pixels.logits.sigmoid()

    @_once
    def label_log_probability(self) -> Tensor:
        """ℓ: the log-probability of each pixel's label, a map; of soft targets, its mean over the labels."""
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

    @_once
    def valid_count(self) -> Tensor:
        """The number of valid pixels of each image and class."""
        count = self.pixels.valid.sum(-1, dtype=self.sum_dtype)
        return count.unsqueeze(1).expand(-1, self.pixels.num_classes) if self._multiclass else count

    @_once
    def true_positive(self) -> Tensor:
        """TP: the sum of p where the label is the class; of soft targets t, the sum of p·t."""
        labels, soft = self.pixels.labels, self.pixels.target_probabilities
        if soft is not None:
            return (self.probabilities * soft).sum(-1, dtype=self.sum_dtype)
        assert labels is not None
        if not self._multiclass:
            return (self.probabilities * labels).sum(-1, dtype=self.sum_dtype)
        return self._sum_by_label(self.mask(self.label_log_probability.exp()))

    @_once
    def probability_sum(self) -> Tensor:
        """P: the sum of p."""
        return self._mask_channels(self.probabilities).sum(-1, dtype=self.sum_dtype)

    @_once
    def probability_square_sum(self) -> Tensor:
        """The sum of p²."""
        return self._mask_channels(self.probabilities).square().sum(-1, dtype=self.sum_dtype)

    @_once
    def target_sum(self) -> Tensor:
        """T: the number of pixels whose label is the class; of soft targets t, the sum of t."""
        labels, soft = self.pixels.labels, self.pixels.target_probabilities
        if soft is not None:
            return soft.sum(-1, dtype=self.sum_dtype)
        assert labels is not None
        return self._sum_by_label(self.pixels.valid) if self._multiclass else labels.sum(-1).to(self.sum_dtype)

    @_once
    def target_square_sum(self) -> Tensor:
        """The sum of t², which of hard targets is T."""
        soft = self.pixels.target_probabilities
        return self.target_sum if soft is None else soft.square().sum(-1, dtype=self.sum_dtype)

    def mask(self, values: Tensor) -> Tensor:
        """A map with 0 at void pixels."""
        return torch.where(self.pixels.valid, values, 0)

    def _mask_channels(self, values: Tensor) -> Tensor:
        valid = self.pixels.valid
        return torch.where(valid.unsqueeze(1) if self._multiclass else valid, values, 0)

    def _sum_by_label(self, values: Tensor) -> Tensor:
        labels = self.pixels.labels
        assert labels is not None
        sums = torch.zeros(len(labels), self.pixels.num_classes, dtype=self.sum_dtype, device=labels.device)
        return sums.scatter_add(1, labels, values.to(self.sum_dtype))

    @property
    def _multiclass(self) -> bool:
        return self.pixels.task == "multiclass"
