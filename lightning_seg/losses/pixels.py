"""What every loss is given, checked once and brought to one layout."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Task = Literal["multiclass", "multilabel", "binary"]


@dataclass(frozen=True)
class Pixels:
    """Logits and target with their spatial dimensions in one, of size S.

    Attributes:
        task: which of the layouts below `labels` and `valid` have.
        logits: (N, C, S), float32 or float64; 0 at void pixels, so that nothing they held can spread.
        labels: int64, (N, S) if multiclass, else (N, C, S); 0 at void pixels. None if the target is soft.
        target_probabilities: (N, C, S), in the logits' dtype; 0 at void pixels. None if the target is hard.
        valid: bool, (N, S) if multiclass, else (N, C, S); False at void pixels.
        map_shape: the shape in which a loss gives one number for each pixel.
        spatial: the spatial dimensions that S joins.
    """

    task: Task
    logits: Tensor
    labels: Tensor | None
    target_probabilities: Tensor | None
    valid: Tensor
    map_shape: tuple[int, ...]
    spatial: tuple[int, ...]

    @property
    def num_classes(self) -> int:
        """The number C of channels."""
        return self.logits.shape[1]


def read_pixels(logits: Tensor, target: Tensor, task: Task, ignore_index: int | None, soft_targets: bool) -> Pixels:
    """Checks what a loss was called with and returns it in the layout of `Pixels`.

    Args:
        logits: floating point, (N, C, *spatial); if binary (N, 1, *spatial) or (N, *spatial).
        target: bool or integers: class indices (N, *spatial) if multiclass; 0 and 1 in the logits' shape otherwise,
            and if binary with or without the channel. Or floating point, in the logits' shape: probabilities.
        task: the meaning of the channels.
        ignore_index: the label of void pixels. Soft targets hold it too, if multiclass in every channel.
        soft_targets: whether the loss has a meaning for probabilities as target.

    Raises:
        TypeError: a dtype does not fit.
        ValueError: a shape does not fit, or a label or probability is out of range. On CUDA, where looking would make
            the host wait, an assertion on the device stands for the latter.
    """
    _check_tensors(logits, target, soft_targets)
    map_shape = tuple(target.shape)
    if task == "binary":
        logits, target = _with_channel(logits, target)
    _check_shapes(logits, target, task)
    soft = target.is_floating_point()
    if soft and task == "multiclass":
        map_shape = (target.shape[0], *target.shape[2:])
    spatial = tuple(logits.shape[2:])
    size = math.prod(spatial)
    logits = logits.reshape(*logits.shape[:2], size)
    if logits.dtype not in (torch.float32, torch.float64):
        logits = logits.float()
    channels = () if task == "multiclass" and not soft else (logits.shape[1],)
    target = target.detach().reshape(target.shape[0], *channels, size)
    # int64 first: a uint8 of 255 equals -1 in its own arithmetic.
    target = target.to(logits.dtype) if soft else target.long()

    void = _void(target, task, ignore_index)
    _check_range(target, void, 1 if soft or task != "multiclass" else logits.shape[1] - 1, ignore_index)
    if ignore_index is not None:
        over_channels = void.unsqueeze(1) if void.ndim < logits.ndim else void
        logits = logits.masked_fill(over_channels, 0)
        target = target.masked_fill(over_channels if soft else void, 0)
    return Pixels(
        task=task,
        logits=logits,
        labels=None if soft else target,
        target_probabilities=target if soft else None,
        valid=~void,
        map_shape=map_shape,
        spatial=spatial,
    )


def _void(target: Tensor, task: Task, ignore_index: int | None) -> Tensor:
    per_channel = torch.zeros_like(target, dtype=torch.bool) if ignore_index is None else target == ignore_index
    return per_channel.all(1) if task == "multiclass" and target.is_floating_point() else per_channel


def _check_tensors(logits: Tensor, target: Tensor, soft_targets: bool) -> None:
    if not logits.is_floating_point():
        raise TypeError(f"logits are {logits.dtype}, not floating point; the call is loss(logits, target).")
    if target.is_complex():
        raise TypeError(f"target is {target.dtype}; give bool or integer labels, or probabilities.")
    if target.is_floating_point() and not soft_targets:
        raise TypeError(
            f"target is {target.dtype}, and this loss has no meaning for soft targets; "
            "give bool or integer labels: target.long() turns 0.0 and 1.0 into them."
        )
    if logits.device != target.device:
        raise ValueError(f"logits are on {logits.device} and target on {target.device}; move them to one device.")


def _with_channel(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    has_channel = logits.ndim > 1 and logits.shape[1] == 1
    if logits.shape == target.shape:
        return (logits, target) if has_channel else (logits.unsqueeze(1), target.unsqueeze(1))
    if has_channel and logits.shape == target.unsqueeze(1).shape:
        return logits, target.unsqueeze(1)
    if target.ndim > 1 and target.shape[1] == 1 and logits.unsqueeze(1).shape == target.shape:
        return logits.unsqueeze(1), target
    raise ValueError(
        f"binary logits of shape {_text(logits.shape)} do not fit a target of shape {_text(target.shape)}; both are "
        "(N, *spatial) or (N, 1, *spatial), and two channels, one of them background, are task='multiclass'."
    )


def _check_shapes(logits: Tensor, target: Tensor, task: Task) -> None:
    if logits.ndim < 2 or logits.shape[1] == 0:
        raise ValueError(f"logits of shape {_text(logits.shape)} have no class channel; expected (N, C, *spatial).")
    if task == "multiclass" and logits.shape[1] == 1:
        raise ValueError("multiclass logits have one channel, whose softmax is always 1; use task='binary' or more.")
    if task == "multiclass" and not target.is_floating_point():
        expected = (logits.shape[0], *logits.shape[2:])
        what = "integer class indices"
    else:
        expected = tuple(logits.shape)
        what = "integer class indices, or probabilities" if task == "multiclass" else "0 and 1, or probabilities,"
    if tuple(target.shape) != expected:
        raise ValueError(
            f"target is {target.dtype} of shape {_text(target.shape)} and logits have shape {_text(logits.shape)}; "
            f"the {task} task expects {what} in shape {_text(expected)}."
        )


def _check_range(target: Tensor, void: Tensor, highest: int, ignore_index: int | None) -> None:
    soft = target.is_floating_point()
    outside = ~((target >= 0) & (target <= highest))  # so that NaN is outside
    outside &= ~(void.unsqueeze(1) if void.ndim < target.ndim else void)
    what = "probabilities from 0 to 1" if soft else f"labels from 0 to {highest}"
    if target.is_cuda or torch.compiler.is_compiling():
        torch._assert_async(
            ~outside.any(), f"target holds a value out of range: expected {what}, and void pixels as ignore_index."
        )
    elif outside.any():
        value = target[outside][0].item()
        remedy = "" if soft else f"; if {value} marks void pixels, pass ignore_index={value}"
        classes = "" if soft or highest == 1 else f" for {highest + 1} classes"
        raise ValueError(
            f"{'probability' if soft else 'label'} {value} is out of range: expected {what}{classes}, "
            f"with ignore_index={ignore_index}{remedy}."
        )


def _text(shape: Sequence[int]) -> str:
    return str(tuple(shape))
