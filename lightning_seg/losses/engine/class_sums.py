"""One pass over the logits: every sum over pixels that a per-pixel, region or Lovász loss reads, and its gradient.

With p the probabilities and ℓ = log p_y the log-probability of a pixel's label y, over the valid pixels i of an image:

    by label      Σ 1,  Σ ℓ,  Σ p_y,  Σ (1 - p_y)^γ ℓ             of the pixels of each label
    by channel    Σ p_c,  Σ p_c²,  Σ log p_c                       over all pixels
    by bin        the number of errors |p_c - [y = c]| and their sum, for each class, label and bin of `error_bins`

The gradient is written in closed form. With a_i = ∂L/∂ℓ_i, h_{i,c} = ∂L/∂p_{i,c} through the sums by channel and by
bin, and u_c = ∂L/∂(Σ log p_c),

    ∂L/∂z_{i,c} = a_i (δ_{c,y_i} - p_{i,c}) + p_{i,c} (h_{i,c} - Σ_k h_{i,k} p_{i,k}) + u_c - p_{i,c} Σ_k u_k

for the softmax, and each channel by itself for the sigmoid; it is 0 at void pixels, whatever logits they hold. The
logits are read once forward, and read and written once backward. `torch_backend` computes this, on CUDA
`triton_backend`; here it becomes one differentiable operator, which torch.compile takes as it is. Its gradient has
no gradient of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor

from lightning_seg.losses.engine import torch_backend
from lightning_seg.losses.engine.error_bins import MARGIN_BINS, PROBABILITY_BINS, ErrorBins

Errors = Literal["none", "probability", "margin"]


@dataclass(frozen=True)
class Reads:
    """What a loss reads of the logits beyond the sums that all have: Σ 1, Σ ℓ, Σ p_y and Σ p_c.

    Args:
        gammas: the exponents γ whose Σ (1 - p_y)^γ ℓ are read.
        squares: Σ p_c².
        uniform: Σ log p_c, or in tasks with a sigmoid Σ ½(log p_c + log(1 - p_c)).
        label_map: ℓ of each pixel.
        errors: the histogram of the errors of probabilities, |p_c - [y = c]|, or of margins, max(0, 1 ∓ z_c).
        errors_per_image: a histogram for each image, instead of one of the batch.
    """

    gammas: tuple[float, ...] = ()
    squares: bool = False
    uniform: bool = False
    label_map: bool = False
    errors: Errors = "none"
    errors_per_image: bool = False

    def __or__(self, other: "Reads") -> "Reads":
        """What two losses read together; if their histograms are of different errors, the first one's."""
        return Reads(
            gammas=tuple(sorted({*self.gammas, *other.gammas})),
            squares=self.squares or other.squares,
            uniform=self.uniform or other.uniform,
            label_map=self.label_map or other.label_map,
            errors=other.errors if self.errors == "none" else self.errors,
            errors_per_image=self.errors_per_image or other.errors_per_image,
        )

    @property
    def bins(self) -> ErrorBins:
        """The bins of the histogram."""
        return MARGIN_BINS if self.errors == "margin" else PROBABILITY_BINS


@dataclass(frozen=True)
class ClassSums:
    """What `class_sums` returns; what `Reads` does not name has no elements. Sums are `sum_dtype(logits)`.

    Attributes:
        by_label: (N, *labels, 3 + len(gammas)): Σ 1, Σ ℓ, Σ p_y and Σ (1 - p_y)^γ ℓ; labels are (C,) of the softmax,
            and (C, 2) of the sigmoid, the labels 0 and 1 of each channel.
        by_channel: (N, C, 1 + squares + uniform): Σ p_c, Σ p_c², Σ log p_c.
        label_map: ℓ in the target's shape, float32 or float64, 0 at void pixels.
        error_sums: (G, C, 2, bins), the sums of errors of label other, label own, over G = N or 1 images.
        error_counts: int64 of the same shape, their number; it has no gradient.
        reads: what they were asked for.
    """

    by_label: Tensor
    by_channel: Tensor
    label_map: Tensor
    error_sums: Tensor
    error_counts: Tensor
    reads: Reads

    def map(self, function: Callable[[Tensor], Tensor]) -> "ClassSums":
        """The function of each tensor."""
        return ClassSums(
            function(self.by_label),
            function(self.by_channel),
            function(self.label_map),
            function(self.error_sums),
            function(self.error_counts),
            self.reads,
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
            self.reads,
        )


def class_sums(logits: Tensor, target: Tensor, *, softmax: bool, ignore_index: int | None, reads: Reads) -> ClassSums:
    """The sums that `reads` names, differentiable in the logits once.

    Args:
        logits: (N, C, S), floating point; half precision is computed in float32.
        target: bool or integers, (N, S) class indices for the softmax, (N, C, S) of 0 and 1 for the sigmoid.
        softmax: whether classes exclude each other.
        ignore_index: the label of void pixels.
        reads: what is computed.

    Raises:
        ValueError: a label is out of range. On CUDA, where looking would make the host wait, the device asserts it.
    """
    by_label, by_channel, label_map, error_sums, error_counts, _ = _forward(
        logits,
        target,
        softmax,
        ignore_index,
        list(reads.gammas),
        reads.squares,
        reads.uniform,
        reads.label_map,
        reads.errors,
        reads.errors_per_image,
    )
    return ClassSums(by_label, by_channel, label_map, error_sums, error_counts, reads)


@torch.library.custom_op("lightning_seg::class_sums", mutates_args=())
def _forward(
    logits: Tensor,
    target: Tensor,
    softmax: bool,
    ignore_index: int | None,
    gammas: list[float],
    squares: bool,
    uniform: bool,
    label_map: bool,
    errors: str,
    errors_per_image: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    reads = Reads(tuple(gammas), squares, uniform, label_map, errors, errors_per_image)  # type: ignore[arg-type]
    outputs = empty_outputs(logits, softmax, reads)
    _back_end(logits.device.type).forward(logits, target, softmax, ignore_index, reads, outputs)
    return outputs


@torch.library.custom_op("lightning_seg::class_sums_backward", mutates_args=())
def _backward(
    by_label: Tensor | None,
    by_channel: Tensor | None,
    by_pixel: Tensor | None,
    by_bin: Tensor | None,
    logits: Tensor,
    target: Tensor,
    normalizer: Tensor,
    softmax: bool,
    ignore_index: int | None,
    gammas: list[float],
    squares: bool,
    uniform: bool,
    label_map: bool,
    errors: str,
    errors_per_image: bool,
) -> Tensor:
    reads = Reads(tuple(gammas), squares, uniform, label_map, errors, errors_per_image)  # type: ignore[arg-type]
    gradients = torch_backend.Gradients(
        by_label, by_channel, by_pixel if label_map else None, by_bin if errors != "none" else None
    )
    back_end = _back_end(logits.device.type)
    result: Tensor = back_end.backward(gradients, logits, target, normalizer, softmax, ignore_index, reads)
    return result


def _back_end(device: str) -> ModuleType:
    """What computes on a type of device: the Triton kernels on CUDA, elsewhere and without Triton torch operations."""
    return _cuda_back_end() if device == "cuda" else torch_backend


@cache
def _cuda_back_end() -> ModuleType:
    """Imported when the first CUDA tensor comes, not before."""
    try:
        from lightning_seg.losses.engine import triton_backend
    except ModuleNotFoundError:
        return torch_backend
    return triton_backend


def empty_outputs(logits: Tensor, softmax: bool, reads: Reads) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Unwritten tensors for the fields of `ClassSums`, and for log Σ exp z of each pixel, which the softmax keeps."""
    images, classes, pixels = logits.shape
    dtype = sum_dtype(logits)
    labels = (classes,) if softmax else (classes, 2)
    groups = 0 if reads.errors == "none" else images if reads.errors_per_image else 1
    maps = torch.float64 if logits.dtype == torch.float64 else torch.float32
    map_shape = (images, pixels) if softmax else (images, classes, pixels)
    return (
        logits.new_empty(images, *labels, 3 + len(reads.gammas), dtype=dtype),
        logits.new_empty(images, classes, 1 + reads.squares + reads.uniform, dtype=dtype),
        logits.new_empty(map_shape if reads.label_map else (0,), dtype=maps),
        logits.new_empty(groups, classes, 2, reads.bins.count, dtype=dtype),
        logits.new_empty(groups, classes, 2, reads.bins.count, dtype=torch.int64),
        logits.new_empty((images, pixels) if softmax else (0,), dtype=maps),
    )


def sum_dtype(logits: Tensor) -> torch.dtype:
    """float64, since float32 sums of ones stop at 2²⁴; float32 on a device that has no float64."""
    return torch.float32 if logits.device.type == "mps" else torch.float64


@_forward.register_fake
def _(
    logits: Tensor, target: Tensor, softmax: bool, ignore_index: int | None, *reads: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    gammas, *flags = reads
    return empty_outputs(logits, softmax, Reads(tuple(gammas), *flags))


@_backward.register_fake
def _(
    by_label: Tensor | None,
    by_channel: Tensor | None,
    by_pixel: Tensor | None,
    by_bin: Tensor | None,
    logits: Tensor,
    *arguments: Any,
) -> Tensor:
    return torch.empty(logits.shape, dtype=logits.dtype, device=logits.device)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    logits, target, *arguments = inputs
    *_, error_counts, normalizer = output
    ctx.mark_non_differentiable(error_counts, normalizer)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(logits, target, normalizer)
    ctx.arguments = arguments


def _gradient(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
    logits, target, normalizer = ctx.saved_tensors
    gradient = _backward(*gradients[:4], logits, target, normalizer, *ctx.arguments)
    return gradient, *[None] * (1 + len(ctx.arguments))


_forward.register_autograd(_gradient, setup_context=_keep)
