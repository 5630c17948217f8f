"""One pass over the logits: every sum over pixels that a per-pixel, region or Lovász loss reads, and its gradient.

The mathematics stands in `lightning_seg.losses.engine`. A back end computes it, `torch_backend` or, on CUDA,
`triton_backend`; here it becomes one differentiable operator, which torch.compile takes as it is. Its gradient has no
gradient of its own.
"""

from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from lightning_seg.losses.engine import torch_backend
from lightning_seg.losses.engine.interface import ClassSums, Gradients, Requirements, empty_outputs


def class_sums(
    logits: Tensor, target: Tensor, *, softmax: bool, ignore_index: int | None, requires: Requirements
) -> ClassSums:
    """The sums that `requires` names, differentiable in the logits once.

    Args:
        logits: (N, C, S), floating point; half precision is computed in float32.
        target: bool or integers, (N, S) class indices for the softmax, (N, C, S) of 0 and 1 for the sigmoid.
        softmax: whether classes exclude each other.
        ignore_index: the label of void pixels.
        requires: what is computed.

    Raises:
        ValueError: a label is out of range. On CUDA, where looking would make the host wait, the device asserts it.
    """
    by_label, by_channel, label_map, error_sums, error_counts, _ = _forward(
        logits,
        target,
        softmax,
        ignore_index,
        list(requires.gammas),
        requires.squares,
        requires.uniform,
        requires.label_map,
        requires.errors,
        requires.errors_per_image,
    )
    return ClassSums(by_label, by_channel, label_map, error_sums, error_counts, requires)


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
    requires = Requirements(tuple(gammas), squares, uniform, label_map, errors, errors_per_image)  # type: ignore[arg-type]
    outputs = empty_outputs(logits, softmax, requires)
    _back_end(logits.device.type, logits.dtype, logits.numel()).forward(
        logits, target, softmax, ignore_index, requires, outputs
    )
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
    requires = Requirements(tuple(gammas), squares, uniform, label_map, errors, errors_per_image)  # type: ignore[arg-type]
    gradients = Gradients(by_label, by_channel, by_pixel if label_map else None, by_bin if errors != "none" else None)
    back_end = _back_end(logits.device.type, logits.dtype, logits.numel())
    result: Tensor = back_end.backward(gradients, logits, target, normalizer, softmax, ignore_index, requires)
    return result


def _back_end(device: str, dtype: torch.dtype, size: int) -> ModuleType:
    """The Triton kernels for float32 and half precision on CUDA; torch operations for all else."""
    kernels = device == "cuda" and dtype in (torch.float32, torch.bfloat16, torch.float16) and size > 0
    return _cuda_back_end() if kernels else torch_backend


@cache
def _cuda_back_end() -> ModuleType:
    """Imported when the first CUDA tensor comes, not before."""
    try:
        from lightning_seg.losses.engine import triton_backend
    except ModuleNotFoundError:
        return torch_backend
    return triton_backend


@_forward.register_fake
def _(
    logits: Tensor, target: Tensor, softmax: bool, ignore_index: int | None, *requires: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    gammas, *flags = requires
    return empty_outputs(logits, softmax, Requirements(tuple(gammas), *flags))


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
