"""What every loss is given, checked once and brought to one layout."""

import math
from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor

from lightning_seg.losses.engine.block_threads import map_blocks
from lightning_seg.losses.engine.labels import valid_labels
from lightning_seg.losses.engine.lazy_property import lazy_property
from lightning_seg.losses.engine.soft_sums import void_pixels
from lightning_seg.losses.engine.torch_backend import blocks_of
from lightning_seg.task import Task, may_look


class Pixels:
    """Logits and target with their spatial dimensions in one, of size S.

    Attributes:
        task: which of the layouts below `labels` and `valid` have.
        raw_logits: (N, C, S), as given, with whatever void pixels hold.
        raw_target: (N, S) if multiclass and hard, else (N, C, S), as given.
        ignore_index: the label of void pixels.
        map_shape: the shape in which a loss gives one number for each pixel.
        spatial: the spatial dimensions that S joins.
        target: as given, in the shape that it came in.
    """

    def __init__(
        self,
        task: Task,
        raw_logits: Tensor,
        raw_target: Tensor,
        ignore_index: int | None,
        map_shape: tuple[int, ...],
        spatial: tuple[int, ...],
        target: Tensor,
    ) -> None:
        self.task: Task = task
        self.raw_logits = raw_logits
        self.raw_target = raw_target
        self.ignore_index = ignore_index
        self.map_shape = map_shape
        self.spatial = spatial
        self.target = target

    @property
    def num_classes(self) -> int:
        """The number C of channels."""
        return self.raw_logits.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        """What losses are computed in: float64 for float64 logits, else float32."""
        return torch.float64 if self.raw_logits.dtype == torch.float64 else torch.float32

    @property
    def soft(self) -> bool:
        """Whether the target holds probabilities."""
        return self.raw_target.is_floating_point()

    @lazy_property
    def valid(self) -> Tensor:
        """False at void pixels; bool, (N, S) if multiclass, else (N, C, S)."""
        if self.ignore_index is None:
            shape = (
                self.raw_logits.shape
                if self.task != "multiclass"
                else (len(self.raw_logits), *self.raw_logits.shape[2:])
            )
            return torch.ones(shape, dtype=torch.bool, device=self.raw_logits.device)
        # int64 first: a uint8 of 255 equals -1 in its own arithmetic.
        void = (self.raw_target if self.soft else self.raw_target.long()) == self.ignore_index
        return ~(void.all(1) if self.soft and self.task == "multiclass" else void)

    @lazy_property
    def logits(self) -> Tensor:
        """The logits in `dtype`, 0 at void pixels, so that nothing they held can spread."""
        logits = self.raw_logits.to(self.dtype)
        return logits if self.ignore_index is None else logits.masked_fill(~self._valid_channels, 0)

    @lazy_property
    def labels(self) -> Tensor | None:
        """Labels, int64, (N, S) if multiclass, else (N, C, S); 0 at void pixels. None if the target is soft."""
        if self.soft:
            return None
        classes = self.num_classes if self.task == "multiclass" else 2
        return valid_labels(self.raw_target, self.ignore_index, classes)[0]

    @lazy_property
    def target_probabilities(self) -> Tensor | None:
        """The target in `dtype`, (N, C, S); 0 at void pixels. None if it is hard."""
        return self.raw_target.to(self.dtype).where(self._valid_channels, 0) if self.soft else None

    @property
    def _valid_channels(self) -> Tensor:
        return self.valid.unsqueeze(1) if self.task == "multiclass" else self.valid


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
        ValueError: a shape does not fit, or a probability is out of range. On CUDA, where looking would make the host
            wait, an assertion on the device stands for the latter. Labels are checked where they are first read.
    """
    _check_tensors(logits, target, soft_targets)
    given, map_shape = target, tuple(target.shape)
    if task == "binary":
        logits, target = _with_channel(logits, target)
    _check_shapes(logits, target, task)
    soft = target.is_floating_point()
    if soft and task == "multiclass":
        map_shape = (target.shape[0], *target.shape[2:])
    spatial = tuple(logits.shape[2:])
    size = math.prod(spatial)
    channels = () if task == "multiclass" and not soft else (logits.shape[1],)
    pixels = Pixels(
        task=task,
        raw_logits=logits.reshape(*logits.shape[:2], size),
        raw_target=target.detach().reshape(target.shape[0], *channels, size),
        ignore_index=ignore_index,
        map_shape=map_shape,
        spatial=spatial,
        target=given,
    )
    if soft:
        _check_probabilities(pixels)
    return pixels


def _check_tensors(logits: Tensor, target: Tensor, soft_targets: bool) -> None:
    if not logits.is_floating_point():
        raise TypeError(f"logits are {logits.dtype}, not floating point; the call is loss(logits, target).")
    if target.is_complex():
        raise TypeError(f"target is {target.dtype}; give bool or integer labels, or probabilities.")
    if target.is_floating_point() and not soft_targets:
        raise TypeError(
            f"target is {target.dtype}, and this loss does not support soft targets; "
            "give bool or integer labels: target.long() turns 0.0 and 1.0 into them."
        )
    if logits.device != target.device:
        raise ValueError(f"logits are on {logits.device} and target on {target.device}; move them to one device.")


def _with_channel(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    if logits.ndim > 0 and target.ndim > 0:
        for pair in product((logits, logits.unsqueeze(1)), (target, target.unsqueeze(1))):
            shape = pair[0].shape
            if shape == pair[1].shape and len(shape) > 1 and shape[1] == 1:
                return pair
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


def _check_probabilities(pixels: Pixels) -> None:
    target, looks = pixels.raw_target, may_look(pixels.raw_target)

    def check(block: tuple[slice, slice]) -> None:
        part = target[block[0], :, block[1]]
        outside = ~((part >= 0) & (part <= 1))  # so that NaN is outside
        void = void_pixels(part, pixels.ignore_index, pixels.task == "multiclass")
        if void is not None:
            outside &= ~void
        if not looks:
            torch._assert_async(
                ~outside.any(), "target holds a value out of range: expected probabilities from 0 to 1."
            )
        elif outside.any():
            raise ValueError(
                f"probability {part[outside][0].item()} is out of range: expected probabilities from 0 to 1, "
                f"with ignore_index={pixels.ignore_index}."
            )

    if looks:
        map_blocks(check, blocks_of(target), target.device)
    else:
        check((slice(None), slice(None)))


def _text(shape: Sequence[int]) -> str:
    return str(tuple(shape))
