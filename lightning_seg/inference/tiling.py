"""Prediction of images of any size, tile by tile."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count, groupby, islice, product
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Patch(NamedTuple):
    """Logits `(N, C, rows, columns)` of one rectangle of the result, with the rows and columns it covers."""

    rows: slice
    columns: slice
    logits: Tensor


class _Window(NamedTuple):
    """What one tile covers along an axis: pixels of the image that are read, and pixels of the result it gives."""

    read: slice
    give: slice


def predict_tiled(
    forward: Callable[[Tensor], Tensor],
    image: Any,
    *,
    tile: int,
    margin: int,
    size: tuple[int, int] | None = None,
    batch_size: int = 1,
    stride: int = 1,
) -> Iterator[Patch]:
    """Logits of images, in patches that cover every pixel of the result once.

    Images with both sides at most `tile` go through whole. Larger ones are cut into overlapping tiles, each is
    predicted, and only its center is kept: pixels nearer than `margin` to an edge that the image itself does not have
    are left to the neighbor (the overlap-tile strategy of Ronneberger et al., U-Net, 2015, but tiles end at the
    image's border instead of mirroring it, as in a whole pass). Memory is that of one tile. The result equals a whole
    pass if no pixel looks further than `margin`, and for a network that downsamples, if also `tile - 2 * margin` and
    the image's sides are multiples of its stride.

    Args:
        forward: gives logits `(N, C, H, W)` of images `(N, channels, H, W)`.
        image: `(N, channels, H, W)` on any device, or what gives such parts of it, by `image[:, :, rows, columns]`.
        tile: side of a tile in pixels, with its context.
        margin: pixels of context around a tile's center.
        size: `(height, width)` of the result, to which the logits are resampled bilinearly (as
            `torch.nn.functional.interpolate` does to those of the whole image). Default: the size of the image.
        batch_size: tiles of one size that `forward` is given at once.
        stride: of the network. Tiles start at its multiples, as the whole image does, where their centers are as large;
            the last ones are then smaller by less than it.

    Raises:
        ValueError: the image has another shape, or `tile` leaves no center.
    """
    if image.ndim != 4 or image.numel() == 0:
        raise ValueError(f"expected images of shape (N, channels, H, W), but got {tuple(image.shape)}.")
    check_tiling(tile, margin)
    # Checked here and generated below, so that a mistake shows at the call and not at the first patch.
    patches = _patches(forward, image, tile, margin, size or image.shape[2:], batch_size, stride)
    return (Patch(rows, columns, logits) for (rows, columns), logits in patches)


def tiled_logits(
    forward: Callable[[Tensor, Sequence[int]], Tensor],
    image: Tensor,
    size: Sequence[int],
    *,
    tile: int | None,
    margin: int | None,
    stride: int = 1,
) -> Tensor:
    """Logits of images of any size: whole if they fit into a tile, else put together from those of tiles.

    See `predict_tiled`, which this is for any number of spatial dimensions, with the result as one tensor.

    Args:
        forward: gives logits `(N, C, *size)` of images and the size of their logits.
        image: `(N, channels, *spatial)`.
        size: spatial size of the result.
        tile: side of a tile; None: images go through whole.
        margin: context around a tile's center; None with `tile=None`.
        stride: see `predict_tiled`.

    Returns:
        `(N, C, *size)`.
    """
    if fits(image.shape[2:], tile):
        return forward(image, size)
    assert tile is not None
    assert margin is not None
    result: Tensor | None = None
    for give, logits in _patches(lambda part: forward(part, part.shape[2:]), image, tile, margin, size, 1, stride):
        if result is None:
            result = logits.new_empty((*logits.shape[:2], *size))
        result[(slice(None), slice(None), *give)] = logits
    assert result is not None
    return result


def fits(spatial: Sequence[int], tile: int | None) -> bool:
    """Whether an image of this spatial size goes through whole."""
    return tile is None or max(spatial) <= tile


def check_tiling(tile: int | None, margin: int | None) -> None:
    """Checks that two arguments describe tiles.

    Args:
        tile: side of a tile in pixels, or None.
        margin: pixels of context around its center, or None.

    Raises:
        ValueError: one is given without the other, or the tile has no center.
    """
    if tile is None and margin is None:
        return
    if tile is None or margin is None:
        raise ValueError(f"tile={tile} and margin={margin} must be given together or not at all.")
    if margin < 0 or tile <= 2 * margin:
        raise ValueError(
            f"tile={tile} leaves no center between two margins of {margin}: "
            "the tile must be larger than twice the margin, and the margin not negative."
        )


def _patches(
    forward: Callable[[Tensor], Tensor],
    image: Any,
    tile: int,
    margin: int,
    size: Sequence[int],
    batch_size: int,
    stride: int,
) -> Iterator[tuple[tuple[slice, ...], Tensor]]:
    """Pixels of the result along each spatial axis, with their logits."""
    lengths = list(zip(image.shape[2:], size, strict=True))
    whole = (slice(None), slice(None))
    grid = product(*(list(_windows(length, out, tile, margin, stride)) for length, out in lengths))
    for some in _batched(grid, batch_size):
        parts = [image[(*whole, *(window.read for window in windows))] for windows in some]
        together = forward(torch.cat(parts) if len(parts) > 1 else parts[0])
        yield from _given(zip(some, torch.split(together, len(parts[0])), strict=True), lengths)


def _given(
    predicted: Iterable[tuple[tuple[_Window, ...], Tensor]], lengths: Sequence[tuple[int, int]]
) -> Iterator[tuple[tuple[slice, ...], Tensor]]:
    """Of the logits of each tile, those that it gives."""
    for windows, logits in predicted:
        for axis, (window, (length, out)) in enumerate(zip(windows, lengths, strict=True), start=2):
            logits = _resample(logits, axis, window, length, out)
        yield tuple(window.give for window in windows), logits


def _windows(length: int, out_length: int, tile: int, margin: int, stride: int) -> Iterator[_Window]:
    """The last tile begins earlier and overlaps more, so that it is as large as the others, or nearly (`stride`)."""
    given = 0
    stride = stride if tile - 2 * margin >= stride else 1
    last = -(-(length - tile) // stride) * stride
    for start in count(0, (tile - 2 * margin) // stride * stride):
        start = max(0, min(start, last))
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


def _batched(items: Iterable[tuple[_Window, ...]], size: int) -> Iterator[list[tuple[_Window, ...]]]:
    """Up to so many windows that follow each other and are of one size."""
    for _, alike in groupby(items, lambda windows: [window.read.stop - window.read.start for window in windows]):
        while batch := list(islice(alike, size)):
            yield batch
