"""One pass over the logits: every sum over pixels that a per-pixel, region or Lovász loss reads, and its gradient.

The mathematics stands in `lightning_seg.losses.engine`. A back end computes it (see `back_ends`); here it becomes two
differentiable operators, of the softmax and of the sigmoid, which torch.compile takes as they are. Their gradient has
no gradient of its own.
"""

from collections.abc import Callable
from dataclasses import astuple
from typing import Any

import torch
from torch import Tensor

from lightning_seg.losses.engine import back_ends
from lightning_seg.losses.engine.interface import (
    BackEnd,
    Backward,
    ClassSums,
    Forward,
    Gradients,
    Outputs,
    Requirements,
    empty_sigmoid_outputs,
    empty_softmax_outputs,
)


def softmax_sums(logits: Tensor, target: Tensor, *, ignore_index: int | None, requires: Requirements) -> ClassSums:
    """The sums that `requires` names, of classes that exclude each other; differentiable in the logits once.

    Args:
        logits: (N, C, S), floating point; half precision is computed in float32.
        target: bool or integers, (N, S), class indices.
        ignore_index: the label of void pixels.
        requires: what is computed.

    Raises:
        ValueError: a label is out of range. On CUDA, where looking would make the host wait, the device asserts it.
    """
    return _class_sums(_softmax_sums, logits, target, ignore_index, requires)


def sigmoid_sums(logits: Tensor, target: Tensor, *, ignore_index: int | None, requires: Requirements) -> ClassSums:
    """The sums that `requires` names, of channels that are independent; differentiable in the logits once.

    Args:
        logits: (N, C, S), floating point; half precision is computed in float32.
        target: bool or integers, (N, C, S), 0 and 1.
        ignore_index: the label of void pixels.
        requires: what is computed.

    Raises:
        ValueError: a label is out of range. On CUDA, where looking would make the host wait, the device asserts it.
    """
    return _class_sums(_sigmoid_sums, logits, target, ignore_index, requires)


def _class_sums(
    operator: Callable[..., Any], logits: Tensor, target: Tensor, ignore_index: int | None, requires: Requirements
) -> ClassSums:
    by_label, by_channel, label_map, error_sums, error_counts, _ = operator(
        logits, target, ignore_index, *astuple(requires)
    )
    return ClassSums(by_label, by_channel, label_map, error_sums, error_counts, requires)


# The fields of `Requirements`, in types that torch knows.
_REQUIREMENTS = (
    "float[] gammas, bool squares, bool uniform, bool label_map, str errors, bool errors_per_image, "
    "bool log_probabilities"
)
_TENSORS = ", ".join(["Tensor"] * len(Outputs._fields))
_FORWARD = f"(Tensor logits, Tensor target, int? ignore_index, {_REQUIREMENTS}) -> ({_TENSORS})"
_BACKWARD = (
    "(Tensor? by_label, Tensor? by_channel, Tensor? by_pixel, Tensor? by_bin, Tensor logits, Tensor target, "
    f"Tensor normalizer, int? ignore_index, {_REQUIREMENTS}) -> Tensor"
)


def _requirements(gammas: list[float], *others: Any) -> Requirements:
    return Requirements(tuple(gammas), *others)


def _operator(
    name: str,
    empty_outputs: Callable[[Tensor, Requirements], Outputs],
    forward_of: Callable[[BackEnd], Forward],
    backward_of: Callable[[BackEnd], Backward],
) -> Callable[..., Any]:
    """Registers an operator `lightning_seg::<name>` and its gradient, whose arguments are of types that torch knows."""

    @torch.library.custom_op(f"lightning_seg::{name}", mutates_args=(), schema=_FORWARD)
    def forward(logits: Tensor, target: Tensor, ignore_index: int | None, *requirements: Any) -> Outputs:
        requires = _requirements(*requirements)
        outputs = empty_outputs(logits, requires)
        forward_of(_back_end(logits))(logits, target, ignore_index, requires, outputs)
        return outputs

    @torch.library.custom_op(f"lightning_seg::{name}_backward", mutates_args=(), schema=_BACKWARD)
    def backward(
        by_label: Tensor | None,
        by_channel: Tensor | None,
        by_pixel: Tensor | None,
        by_bin: Tensor | None,
        logits: Tensor,
        target: Tensor,
        normalizer: Tensor,
        ignore_index: int | None,
        *requirements: Any,
    ) -> Tensor:
        requires = _requirements(*requirements)
        of_map = by_pixel if requires.label_map else None
        of_errors = by_bin if requires.errors != "none" else None
        gradients = Gradients(by_label, by_channel, of_map, of_errors)
        return backward_of(_back_end(logits))(gradients, logits, target, normalizer, ignore_index, requires)

    @forward.register_fake
    def _(logits: Tensor, target: Tensor, ignore_index: int | None, *requirements: Any) -> Outputs:
        return empty_outputs(logits, _requirements(*requirements))

    @backward.register_fake
    def _(
        by_label: Tensor | None,
        by_channel: Tensor | None,
        by_pixel: Tensor | None,
        by_bin: Tensor | None,
        logits: Tensor,
        *arguments: Any,
    ) -> Tensor:
        return torch.empty(logits.shape, dtype=logits.dtype, device=logits.device)

    def gradient(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        logits, target, normalizer = ctx.saved_tensors
        result = backward(*gradients[:4], logits, target, normalizer, *ctx.arguments)
        return result, *[None] * (1 + len(ctx.arguments))

    forward.register_autograd(gradient, setup_context=_keep)
    return forward


def _back_end(logits: Tensor) -> BackEnd:
    return back_ends.choose_back_end(logits.device, logits.dtype, logits.numel())


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    logits, target, *arguments = inputs
    *_, error_counts, normalizer = output
    ctx.mark_non_differentiable(error_counts, normalizer)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(logits, target, normalizer)
    ctx.arguments = arguments


_softmax_sums = _operator(
    "softmax_sums",
    empty_softmax_outputs,
    lambda back_end: back_end.softmax_forward,
    lambda back_end: back_end.softmax_backward,
)
_sigmoid_sums = _operator(
    "sigmoid_sums",
    empty_sigmoid_outputs,
    lambda back_end: back_end.sigmoid_forward,
    lambda back_end: back_end.sigmoid_backward,
)
