"""Prediction of images of any size, tile by tile."""

from collections.abc import Callable, Iterator
from itertools import count
from typing import NamedTuple

import torch
from torch import Tensor


class Patch(NamedTuple):
    """Logits `(1, C, rows, columns)` of one rectangle of the result, with the rows and columns it covers."""

    rows: slice
    columns: slice
    logits: Tensor


class _Window(NamedTuple):
    """What one tile covers along an axis: pixels of the image that are read, and pixels of the result it gives."""

    read: slice
    give: slice


def predict_tiled(
    forward: Callable[[Tensor], Tensor],
    image: Tensor,
    *,
    tile: int,
    margin: int,
    size: tuple[int, int] | None = None,
) -> Iterator[Patch]:
    """Logits of an image, in patches that cover every pixel of the result once.

    An image with both sides at most `tile` goes through whole. A larger one is cut into overlapping tiles, each is
    predicted, and only its center is kept: pixels nearer than `margin` to an edge that the image itself does not have
    are left to the neighbor (the overlap-tile strategy of Ronneberger et al., U-Net, 2015, but tiles end at the
    image's border instead of mirroring it, as in a whole pass). Memory is that of one tile. The result equals a whole
    pass if no pixel looks further than `margin`, and for a network that downsamples, if also `tile - 2 * margin` and
    the image's sides are multiples of its stride.

    Args:
        forward: gives logits `(1, C, H, W)` of images `(1, channels, H, W)`.
        image: `(1, channels, H, W)` on any device.
        tile: side of a tile in pixels, with its context.
        margin: pixels of context around a tile's center.
        size: `(height, width)` of the result, to which the logits are resampled bilinearly (as
            `torch.nn.functional.interpolate` does to those of the whole image). Default: the size of the image.

    Raises:
        ValueError: the image has another shape, or `tile` leaves no center.
    """
    if image.ndim != 4 or len(image) != 1 or image.numel() == 0:
        raise ValueError(f"expected an image of shape (1, channels, H, W), but got {tuple(image.shape)}.")
    if margin < 0 or tile <= 2 * margin:
        raise ValueError(
            f"tile={tile} leaves no center between two margins of margin={margin}: "
            "the tile must be larger than twice the margin, and the margin not negative."
        )
    # Checked here and generated below, so that a mistake shows at the call and not at the first patch.
    return _patches(forward, image, tile, margin, size)


def _patches(
    forward: Callable[[Tensor], Tensor], image: Tensor, tile: int, margin: int, size: tuple[int, int] | None
) -> Iterator[Patch]:
    height, width = image.shape[2:]
    out_height, out_width = (height, width) if size is None else size
    for rows in _windows(height, out_height, tile, margin):
        for columns in _windows(width, out_width, tile, margin):
            logits = forward(image[:, :, rows.read, columns.read])
            logits = _resample(logits, 2, rows, height, out_height)
            logits = _resample(logits, 3, columns, width, out_width)
            yield Patch(rows.give, columns.give, logits)


def _windows(length: int, out_length: int, tile: int, margin: int) -> Iterator[_Window]:
    """All tiles have the same size, so the last one begins earlier and overlaps more."""
    given = 0
    for start in count(0, tile - 2 * margin):
        start = max(0, min(start, length - tile))
        stop = min(start + tile, length)
        give = out_length if stop == length else _first_from(stop - margin, length, out_length)
        if give > given:
            yield _Window(slice(start, stop), slice(given, give))
            given = give
        if stop == length:
            return


def _first_from(position: int, length: int, out_length: int) -> int:
    """The first pixel `i` of the result that lies at `(i + 1/2) length / out_length - 1/2 >= position`."""
    return max(0, -((length - (2 * position + 1) * out_length) // (2 * length)))


def _resample(logits: Tensor, axis: int, window: _Window, length: int, out_length: int) -> Tensor:
    """The pixels of the result that a window gives, from the logits of what it read."""
    first, last = window.read.start, window.read.stop - 1
    if length == out_length:
        return logits.narrow(axis, window.give.start - first, window.give.stop - window.give.start)
    result = torch.arange(window.give.start, window.give.stop, device=logits.device, dtype=torch.float64)
    position = ((result + 0.5) * length / out_length - 0.5).clamp(first, last)
    below = position.floor().long()
    above = (below + 1).clamp(max=last)
    shape = [1] * logits.ndim
    shape[axis] = -1
    weight = (position - below).to(logits.dtype).view(shape)
    return torch.lerp(logits.index_select(axis, below - first), logits.index_select(axis, above - first), weight)
