"""Images at another scale, of which the parts that are asked for are computed, as the whole would have them."""

import math
from typing import Any, Protocol

import torch
from torch import Tensor

from lightning_seg.data.images import scaled_size


class _Windows(Protocol):
    @property
    def shape(self) -> torch.Size: ...

    def __getitem__(self, index: Any) -> Tensor: ...


class ScaledRaster:
    """A raster with height and width multiplied by `scale`, bilinear and antialiased, as `load_image` scales it.

    Args:
        raster: `(1, channels, H, W)`, whose parts are read when they are asked for.
        scale: of the sides.
    """

    ndim = 4

    def __init__(self, raster: _Windows, scale: float) -> None:
        self.raster = raster
        self.shape = torch.Size((*raster.shape[:2], *scaled_size(raster.shape[2:], scale)))

    def numel(self) -> int:
        """Of the whole image."""
        return self.shape.numel()

    def __getitem__(self, index: Any) -> Tensor:
        ends = [part.indices(length) for part, length in zip(index[-2:], self.shape[2:], strict=True)]
        taps = [
            _taps(length, out, start, stop)
            for length, out, (start, stop, _) in zip(self.raster.shape[2:], self.shape[2:], ends, strict=True)
        ]
        reads = [slice(int(places.min()), int(places.max()) + 1) for places, _ in taps]
        part = self.raster[:, :, reads[0], reads[1]]
        for axis, ((places, weights), read) in enumerate(zip(taps, reads, strict=True), start=2):
            shape = [-1 if axis == other else 1 for other in range(4)]
            terms = (
                part.index_select(axis, place - read.start) * weight.view(shape)
                for place, weight in zip(places, weights, strict=True)
            )
            part = sum(terms, start=torch.zeros(()))
        return part.clamp(0, 1)


def _taps(length: int, out: int, start: int, stop: int) -> tuple[Tensor, Tensor]:
    """Which pixels make up each of the result's, and their weights, both `(taps, stop - start)`.

    These are those of `torch.nn.functional.interpolate(..., mode="bilinear", antialias=True)`: a triangle around the
    pixel, as wide as the pixels that it stands for.
    """
    ratio = length / out
    support = max(ratio, 1.0)
    center = ratio * (torch.arange(start, stop, dtype=torch.float64) + 0.5)
    first = (center - support + 0.5).floor().clamp(min=0).long()
    places = first + torch.arange(math.ceil(2 * support) + 1)[:, None]
    weights = (1 - ((places + 0.5 - center) / support).abs()).clamp(min=0) * (places < length)
    return places.clamp(max=length - 1), (weights / weights.sum(0)).float()
