"""What the operators of `class_sums` and their back ends share: what is asked for, the sums, and their gradients."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from lightning_seg.losses.engine.dtypes import sum_dtype, wide_dtype
from lightning_seg.losses.engine.error_bins import MARGIN_BINS, PROBABILITY_BINS, ErrorBins

Errors = Literal["none", "probability", "margin"]


@dataclass(frozen=True)
class Requirements:
    """What a loss reads of the logits beyond the sums that all have: Σ 1, Σ p_y and Σ p_c.

    Args:
        gammas: the exponents γ whose Σ (1 - p_y)^γ ℓ are read.
        squares: Σ p_c².
        uniform: Σ log p_c, or in tasks with a sigmoid Σ ½(log p_c + log(1 - p_c)).
        label_map: ℓ of each pixel.
        errors: the histogram of the errors of probabilities, |p_c - [y = c]|, or of margins, max(0, 1 ∓ z_c).
        errors_per_image: a histogram for each image, instead of one of the batch.
        log_probabilities: Σ ℓ.
    """

    gammas: tuple[float, ...] = ()
    squares: bool = False
    uniform: bool = False
    label_map: bool = False
    errors: Errors = "none"
    errors_per_image: bool = False
    log_probabilities: bool = True

    def __or__(self, other: "Requirements") -> "Requirements":
        """What two losses read together; if their histograms are of different errors, the first one's."""
        return Requirements(
            gammas=tuple(sorted({*self.gammas, *other.gammas})),
            squares=self.squares or other.squares,
            uniform=self.uniform or other.uniform,
            label_map=self.label_map or other.label_map,
            errors=other.errors if self.errors == "none" else self.errors,
            errors_per_image=self.errors_per_image or other.errors_per_image,
            log_probabilities=self.log_probabilities or other.log_probabilities,
        )

    @property
    def bins(self) -> ErrorBins:
        """The bins of the histogram."""
        return MARGIN_BINS if self.errors == "margin" else PROBABILITY_BINS


@dataclass(frozen=True)
class ClassSums:
    """What the operators return; what `Requirements` does not name has no elements. Sums are `sum_dtype(logits)`.

    Σ ℓ has its place also where it is not named, with some number.

    Attributes:
        by_label: (N, *labels, 3 + len(gammas)): Σ 1, Σ ℓ, Σ p_y and Σ (1 - p_y)^γ ℓ; labels are (C,) of the softmax,
            and (C, 2) of the sigmoid, the labels 0 and 1 of each channel.
        by_channel: (N, C, 1 + squares + uniform): Σ p_c, Σ p_c², Σ log p_c.
        label_map: ℓ in the target's shape, float32 or float64, 0 at void pixels.
        error_sums: (G, C, 2, bins), the sums of errors of label other, label own, over G = N or 1 images.
        error_counts: int64 of the same shape, their number; it has no gradient.
        requires: what they were asked for.
    """

    by_label: Tensor
    by_channel: Tensor
    label_map: Tensor
    error_sums: Tensor
    error_counts: Tensor
    requires: Requirements

    def map(self, function: Callable[[Tensor], Tensor]) -> "ClassSums":
        """The function of each tensor."""
        return ClassSums(
            function(self.by_label),
            function(self.by_channel),
            function(self.label_map),
            function(self.error_sums),
            function(self.error_counts),
            self.requires,
        )

    def over_images(self) -> "ClassSums":
        """The sums over all images, as those of one; the map of pixels is gone."""
        sums = self.map(lambda sums: sums.sum(0, keepdim=True))
        return replace(sums, label_map=self.label_map.new_empty(0))

    def __add__(self, other: "ClassSums") -> "ClassSums":
        """The sums of the pixels of both, for which `over_images` was called."""
        return ClassSums(
            self.by_label + other.by_label,
            self.by_channel + other.by_channel,
            self.label_map,
            self.error_sums + other.error_sums,
            self.error_counts + other.error_counts,
            self.requires,
        )


@dataclass(frozen=True)
class Gradients:
    """The gradients of `ClassSums`, each None where it is 0."""

    by_label: Tensor | None
    by_channel: Tensor | None
    label_map: Tensor | None
    error_sums: Tensor | None


class Outputs(NamedTuple):
    """What a pass over the logits writes: the fields of `ClassSums`, and what it keeps for the gradient.

    Attributes:
        by_label: as in `ClassSums`.
        by_channel: as in `ClassSums`.
        label_map: as in `ClassSums`.
        error_sums: as in `ClassSums`.
        error_counts: as in `ClassSums`.
        normalizer: log Σ exp z of each pixel, (N, S), inf at void pixels; of the sigmoid without elements.
    """

    by_label: Tensor
    by_channel: Tensor
    label_map: Tensor
    error_sums: Tensor
    error_counts: Tensor
    normalizer: Tensor


Forward = Callable[[Tensor, Tensor, int | None, Requirements, Outputs], None]
Backward = Callable[[Gradients, Tensor, Tensor, Tensor, int | None, Requirements], Tensor]
Confusion = Callable[[Tensor, Tensor, int | None, bool, Tensor], bool]


@dataclass(frozen=True)
class BackEnd:
    """What computes the sums and their gradients.

    Attributes:
        name: torch, triton or numba.
        softmax_forward: writes the sums of logits, target, ignore_index and requirements to outputs.
        softmax_backward: the gradient of the logits, contiguous and in their dtype, from the gradients of the sums,
            logits, target, normalizer, ignore_index and requirements.
        sigmoid_forward: the same, of channels that are independent.
        sigmoid_backward: the same.
        add_confusion: adds the confusion counts of logits, target, ignore_index and whether channels exclude each other
            to counts, as `confusion_counts` returns them; whether all labels are known, where looking costs no wait.
    """

    name: str
    softmax_forward: Forward
    softmax_backward: Backward
    sigmoid_forward: Forward
    sigmoid_backward: Backward
    add_confusion: Confusion


def empty_softmax_outputs(logits: Tensor, requires: Requirements) -> Outputs:
    """Unwritten tensors for the sums of a softmax."""
    images, classes, pixels = logits.shape
    return _empty_outputs(logits, requires, (classes,), (images, pixels), (images, pixels))


def empty_sigmoid_outputs(logits: Tensor, requires: Requirements) -> Outputs:
    """Unwritten tensors for the sums of sigmoids."""
    return _empty_outputs(logits, requires, (logits.shape[1], 2), tuple(logits.shape), (0,))


def _empty_outputs(
    logits: Tensor,
    requires: Requirements,
    labels: tuple[int, ...],
    map_shape: tuple[int, ...],
    normalizer_shape: tuple[int, ...],
) -> Outputs:
    images, classes, _ = logits.shape
    dtype, maps = sum_dtype(logits), wide_dtype(logits)
    groups = 0 if requires.errors == "none" else images if requires.errors_per_image else 1
    return Outputs(
        logits.new_empty(images, *labels, 3 + len(requires.gammas), dtype=dtype),
        logits.new_empty(images, classes, 1 + requires.squares + requires.uniform, dtype=dtype),
        logits.new_empty(map_shape if requires.label_map else (0,), dtype=maps),
        logits.new_empty(groups, classes, 2, requires.bins.count, dtype=dtype),
        logits.new_empty(groups, classes, 2, requires.bins.count, dtype=torch.int64),
        logits.new_empty(normalizer_shape, dtype=maps),
    )
