"""A trained module as one network from images to logits or labels, which holds all that lies between."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from lightning_seg.backbones import PadToStride, network_output
from lightning_seg.module import SegmentationModule

_STRIDE = 32  # of networks that do not say theirs


class ExportedNetwork(nn.Module):
    """From images `(N, channels, H, W)` in [0, 1] to logits at their size: resizing, normalization and network.

    Args:
        module: the trained module, which is copied and stays as it is.
        argmax: labels instead of logits, int64 as of `SegmentationModule.predict_labels`.
        half: weights and activations of the network in float16; images and logits stay float32.

    Raises:
        ValueError: the module is not for images of two spatial dimensions.
    """

    def __init__(self, module: SegmentationModule, *, argmax: bool = False, half: bool = False) -> None:
        super().__init__()
        module = deepcopy(module).cpu().float().eval()
        if any(isinstance(part, nn.Conv1d | nn.Conv3d) for part in module.backbone.modules()):
            raise ValueError("only networks for images (N, channels, H, W) can be exported.")
        self.channels, self.stride = _channels(module), _stride(module.backbone)
        if half:
            module.backbone = _Half(module.backbone)
        self.module = module
        self.argmax = argmax
        self.half_precision = half

    def forward(self, image: Tensor) -> Tensor:
        """Logits `(N, num_classes, H, W)`, or labels."""
        with _PoolingOfAnySize():
            logits = self.logits(image)
        return self.module.predict_labels(logits) if self.argmax else logits

    def logits(self, image: Tensor) -> Tensor:
        """Logits `(N, num_classes, H, W)`."""
        if self.module.scale == 1:
            return self.module(image)  # type: ignore[no-any-return]
        size = [scaled_length(length, self.module.scale) for length in image.shape[2:]]
        seen = F.interpolate(image, size=size, mode="bilinear", antialias=True).clamp(0, 1)
        return self.module(seen, image.shape[2:])  # type: ignore[no-any-return]

    def example(self, batch: int, height: float, width: float) -> Tensor:
        """Random images, whose sides are given in strides, and a little more where these are not integers."""
        sides = [max(1, int(strides * self.stride) + (strides % 1 > 0)) for strides in (height, width)]
        generator = torch.Generator().manual_seed(0)
        return torch.rand(batch, self.channels, *sides, generator=generator)


class _PoolingOfAnySize(TorchFunctionMode):
    """Computes average pooling to several windows for any size: an export keeps those of the size that it has seen."""

    def __torch_function__(
        self, function: Any, types: Any, arguments: tuple[Any, ...] = (), options: dict[str, Any] | None = None
    ) -> Any:
        """The result of a function of torch."""
        options = options or {}
        if function is F.adaptive_avg_pool2d:
            return _pooled(function, *arguments, **options)
        size = options.get("size", arguments[1] if len(arguments) > 1 else None)
        if function is F.interpolate and options.get("mode") == "area" and arguments and size is not None:
            return _pooled(F.adaptive_avg_pool2d, arguments[0], size)  # the same by another name
        return function(*arguments, **options)


def _pooled(pool: Callable[[Tensor, Any], Tensor], image: Tensor, output_size: Any) -> Tensor:
    """`F.adaptive_avg_pool2d`, which is computed by products of matrices where there are several windows."""
    sizes = output_size if isinstance(output_size, Sequence) else (output_size, output_size)
    if not all(size is None or type(size) is int for size in sizes) or tuple(sizes) == (1, 1):
        return pool(image, output_size)
    for axis, parts in ((axis, parts) for axis, parts in zip((-2, -1), sizes, strict=True) if parts is not None):
        length = image.shape[axis]
        part, place = torch.arange(parts)[:, None], torch.arange(length)
        inside = (part * length // parts <= place) & (place * parts < (part + 1) * length)
        weights = (inside.to(image.dtype) / inside.sum(1, keepdim=True)).to(image.dtype)
        image = weights @ image if axis == -2 else image @ weights.T
    return image


class _Half(nn.Module):
    """A network in float16 whose images and logits are float32."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.half()

    def forward(self, image: Tensor) -> Tensor:
        return network_output(self.network(image.half()), image.ndim - 2).logits.float()


def scaled_length(length: int, scale: float) -> int:
    """`max(1, round(length * scale))` in integers alone, which an export keeps for all lengths."""
    part = Fraction(scale).limit_denominator(1000)
    length, unit = length * part.numerator, part.denominator
    is_odd = length // unit % 2  # where halves are rounded up, as Python does
    rounded = (2 * length + unit - 1 + is_odd) // (2 * unit)
    return rounded + 1 // (1 + rounded)


def _channels(module: SegmentationModule) -> int:
    if module.mean is not None:
        return len(module.mean)
    convolutions = (part.in_channels for part in module.backbone.modules() if isinstance(part, nn.Conv2d))
    return next(convolutions, 3)


def _stride(backbone: nn.Module) -> int:
    return max((part.stride for part in backbone.modules() if isinstance(part, PadToStride)), default=_STRIDE)
