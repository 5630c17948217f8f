"""How far the layers of a network see: one that sees all of its image gives other results tile by tile."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

_CHANGED = 8  # the last eighth of the image
_TOLERANCE = 1e-5  # of the largest value, for what rounding changes


def layer_that_sees_everything(network: nn.Module, channels: int, stride: int, tile: Sequence[int]) -> str | None:
    """The first layer whose result changes everywhere when one end of a long image does.

    Such layers are global pooling, as in squeeze-and-excitation, attention over all positions, and instance and group
    norms. Convolutions carry a change by their own size, which for the longest of networks is less than this image.

    Args:
        network: in evaluation mode, from images `(N, channels, *spatial)`.
        channels: of its images.
        stride: of the network; the image is 64 of them long, a volume 16.
        tile: spatial size of an image that the network takes, if it does not take that one.

    Returns:
        Its name and class; None if there is none, or the network takes neither.
    """
    long = (*[stride] * (len(tile) - 1), (64 if len(tile) < 3 else 16) * stride)
    for size in (long, tile):
        with suppress(RuntimeError, ValueError), torch.no_grad(), torch.compiler.set_stance("force_eager"):
            return _first_layer(network, channels, size)
    return None


def _first_layer(network: nn.Module, channels: int, size: Sequence[int]) -> str | None:
    parameter = next(network.parameters(), torch.zeros(0))
    image = torch.rand(1, channels, *size, generator=torch.Generator().manual_seed(0))
    end = -max(1, size[-1] // _CHANGED)
    other = image.clone()
    other[..., end:] = 1 - other[..., end:] ** 4
    pair = torch.cat([image, other]).to(parameter)
    found: list[str] = []
    names = {part: name for name, part in network.named_modules()}

    def compare(part: nn.Module, given: Any, result: Any) -> None:
        if not found and _same(given) > 0.1 and _same(result) < 0.01:
            found.append(f"{names[part]} ({type(part).__name__})" if names[part] else type(part).__name__)

    hooks = [part.register_forward_hook(compare) for part in names]
    try:
        network(pair)
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else None


def _same(values: Any) -> float:
    """The share of positions at which the two images give the same; 0 where there are none."""
    tensor = _first_tensor(values)
    if tensor is None or tensor.ndim < 2 or len(tensor) % 2 or not tensor.is_floating_point():
        return 0.0
    one, other = tensor.reshape(2, -1, *tensor.shape[1:])
    differs = (one - other).abs() > _TOLERANCE * tensor.abs().max()
    # Over channels: those of maps are first, those of tokens last.
    return float((~differs.any(1 if tensor.ndim > 3 else -1)).float().mean())


def _first_tensor(values: Any) -> Tensor | None:
    if isinstance(values, Tensor):
        return values
    values = list(values.values()) if isinstance(values, dict) else values
    if not isinstance(values, list | tuple):
        return None
    return next((found for value in values if (found := _first_tensor(value)) is not None), None)
