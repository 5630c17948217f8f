"""Prediction of images of any size, tile by tile."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count, groupby, islice, pairwise, product
from math import prod
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

Tiling = Literal["crop", "smooth"]
Sides = int | Sequence[int]  # of all axes, or of each
_RAMP = 8  # weights rise over the margin, and over this part of a tile at least


class Patch(NamedTuple):
    """Logits `(N, C, rows, columns)` of one rectangle of the result, with the rows and columns it covers."""

    rows: slice
    columns: slice
    logits: Tensor


class _Share(NamedTuple):
    """Pixels of the result along an axis that a tile gives, alone or with `tiles - 1` others, by its weight of each."""

    give: slice
    tiles: int
    weight: Tensor | None


class _Window(NamedTuple):
    """What one tile covers along an axis: pixels of the image that are read, and what it gives of the result."""

    read: slice
    shares: Sequence[_Share]

    @property
    def give(self) -> slice:
        return slice(self.shares[0].give.start, self.shares[-1].give.stop)


def predict_tiled(
    forward: Callable[[Tensor], Tensor],
    image: Any,
    *,
    tile: Sides,
    margin: Sides,
    size: tuple[int, int] | None = None,
    batch_size: int = 1,
    stride: int = 1,
    tiling: Tiling = "crop",
) -> Iterator[Patch]:
    """Logits of images, in patches that cover every pixel of the result once.

    Images with both sides at most `tile` go through whole. Larger ones are cut into overlapping tiles, each is
    predicted, and only its center is kept: pixels nearer than `margin` to an edge that the image itself does not have
    are left to the neighbor (the overlap-tile strategy of Ronneberger et al., U-Net, 2015, but tiles end at the
    image's border instead of mirroring it, as in a whole pass). Memory is that of one tile. The result equals a whole
    pass if no pixel looks further than `margin`, and for a network that downsamples, if tiles start at multiples of its
    `stride`.

    With `tiling="smooth"` centers overlap too, and there the logits are a mean, whose weights are 0 at the margin and
    rise linearly from it, over as many pixels as the margin has, or an eighth of the tile if that is more: a network
    that sees further than the margin leaves no seams. It costs more passes, and logits of the overlaps of one row of
    tiles are kept until the next.

    Args:
        forward: gives logits `(N, C, H, W)` of images `(N, channels, H, W)`.
        image: `(N, channels, H, W)` on any device, or what gives such parts of it, by `image[:, :, rows, columns]`.
        tile: side of a tile in pixels, with its context, or one for each axis.
        margin: pixels of context around a tile's center, likewise.
        size: `(height, width)` of the result, to which the logits are resampled bilinearly (as
            `torch.nn.functional.interpolate` does to those of the whole image). Default: the size of the image.
        batch_size: tiles of one size that `forward` is given at once.
        stride: of the network. Tiles start at its multiples, as the whole image does, where their centers are as large;
            the last ones are then smaller by less than it.
        tiling: `crop` or `smooth`.

    Raises:
        ValueError: the image has another shape, `tile` leaves no center, or there is no such tiling.
    """
    if image.ndim != 4 or image.numel() == 0:
        raise ValueError(f"expected images of shape (N, channels, H, W), but got {tuple(image.shape)}.")
    check_tiling(tile, margin, tiling)
    # Checked here and generated below, so that a mistake shows at the call and not at the first patch.
    patches = _patches(forward, image, tile, margin, size or image.shape[2:], batch_size, stride, tiling)
    return (Patch(rows, columns, logits) for (rows, columns), logits in patches)


def tiled_logits(
    forward: Callable[[Tensor, Sequence[int]], Tensor],
    image: Tensor,
    size: Sequence[int],
    *,
    tile: Sides | None,
    margin: Sides | None,
    stride: int = 1,
    tiling: Tiling = "crop",
) -> Tensor:
    """Logits of images of any size: whole if they fit into a tile, else put together from those of tiles.

    See `predict_tiled`, which this is for any number of spatial dimensions, with the result as one tensor.

    Args:
        forward: gives logits `(N, C, *size)` of images and the size of their logits.
        image: `(N, channels, *spatial)`.
        size: spatial size of the result.
        tile: side of a tile, or one for each axis; None: images go through whole.
        margin: context around a tile's center; None with `tile=None`.
        stride: see `predict_tiled`.
        tiling: likewise.

    Returns:
        `(N, C, *size)`.
    """
    return joined(tiled_parts(forward, image, size, tile=tile, margin=margin, stride=stride, tiling=tiling), size)


def tiled_parts(
    forward: Callable[[Tensor, Sequence[int]], Tensor],
    image: Any,
    size: Sequence[int],
    *,
    tile: Sides | None,
    margin: Sides | None,
    stride: int = 1,
    tiling: Tiling = "crop",
) -> Iterator[tuple[tuple[slice, ...], Tensor]]:
    """The logits of `tiled_logits`, whose arguments see, part by part, each with the slices of the result it covers."""
    if fits(image.shape[2:], tile):
        yield (slice(None),) * len(size), forward(image, size)
        return
    check_tiling(tile, margin, tiling)
    assert tile is not None
    assert margin is not None
    of_part = lambda part: forward(part, part.shape[2:])  # noqa: E731
    yield from _patches(of_part, image, tile, margin, size, 1, stride, tiling)


def joined(parts: Iterable[tuple[tuple[slice, ...], Tensor]], size: Sequence[int]) -> Tensor:
    """The logits `(N, C, *size)` that `tiled_parts` gives part by part."""
    result: Tensor | None = None
    for give, logits in parts:
        if result is None and logits.shape[2:] == tuple(size):
            return logits
        if result is None:
            result = logits.new_empty((*logits.shape[:2], *size))
        index: tuple[Any, ...] = (..., *give)
        result[index] = logits
    assert result is not None
    return result


def fits(spatial: Sequence[int], tile: Sides | None) -> bool:
    """Whether an image of this spatial size goes through whole."""
    return tile is None or all(
        length <= side for length, side in zip(spatial, sides(tile, len(spatial), "tile"), strict=True)
    )


def sides(value: Sides, axes: int, name: str) -> tuple[int, ...]:
    """A number for each axis.

    Raises:
        ValueError: there are as many as other images have axes.
    """
    if isinstance(value, int):
        return (value,) * axes
    if len(value) != axes:
        raise ValueError(
            f"{name}={list(value)} has {len(value)} numbers, and images have {axes} axes: give one for "
            "each, or one for all."
        )
    return tuple(value)


def is_tile(value: Any) -> bool:
    """Whether a value of a file is a number of pixels, or one for each of two or three axes."""
    numbers = value if isinstance(value, list) else [value]
    return (not isinstance(value, list) or len(value) in (2, 3)) and all(
        type(one) is int and 0 <= one < 2**31 for one in numbers
    )


def check_tiling(tile: Sides | None, margin: Sides | None, tiling: Tiling = "crop") -> None:
    """Checks that arguments describe tiles.

    Args:
        tile: side of a tile in pixels, or one for each axis, or None.
        margin: pixels of context around its center, likewise.
        tiling: how tiles are joined.

    Raises:
        ValueError: one of the first two is given without the other, the tile has no center, or there is no such tiling.
    """
    if tiling not in get_args(Tiling):
        raise ValueError(f"tiling={tiling} is not one of {', '.join(get_args(Tiling))}.")
    if tile is None and margin is None:
        return
    if tile is None or margin is None:
        shown = (f"{name}={'null' if value is None else value}" for name, value in (("tile", tile), ("margin", margin)))
        raise ValueError(
            f"{' and '.join(shown)} must be given together or not at all: for images as a whole tile=null margin=null."
        )
    axes = max(1 if isinstance(value, int) else len(value) for value in (tile, margin))
    along = zip(sides(tile, axes, "tile"), sides(margin, axes, "margin"), strict=True)
    if axes == 0 or any(around < 0 or side <= 2 * around for side, around in along):
        tile, margin = (value if isinstance(value, int) else list(value) for value in (tile, margin))
        raise ValueError(
            f"tile={tile} leaves no center between two margins of {margin}: "
            "the tile must be larger than twice the margin, and the margin not negative."
        )


def _patches(
    forward: Callable[[Tensor], Tensor],
    image: Any,
    tile: Sides,
    margin: Sides,
    size: Sequence[int],
    batch_size: int,
    stride: int,
    tiling: Tiling,
) -> Iterator[tuple[tuple[slice, ...], Tensor]]:
    """Pixels of the result along each spatial axis, with their logits."""
    lengths = list(zip(image.shape[2:], size, strict=True))
    whole = (slice(None), slice(None))
    windows_of = _windows if tiling == "crop" else _smooth_windows
    by_axis = zip(lengths, sides(tile, len(lengths), "tile"), sides(margin, len(lengths), "margin"), strict=True)
    grid = product(*(list(windows_of(*length, side, around, stride)) for length, side, around in by_axis))
    unfinished: dict[tuple[tuple[int, int], ...], tuple[int, Tensor]] = {}
    for some in _batched(grid, batch_size):
        parts = [image[(*whole, *(window.read for window in windows))] for windows in some]
        together = forward(torch.cat(parts) if len(parts) > 1 else parts[0])
        for windows, logits in zip(some, torch.split(together, len(parts[0])), strict=True):
            for axis, (window, (length, out)) in enumerate(zip(windows, lengths, strict=True), start=2):
                logits = _resample(logits, axis, window, length, out)
            yield from _finished(windows, logits, unfinished)


def _finished(
    windows: tuple[_Window, ...],
    logits: Tensor,
    unfinished: dict[tuple[tuple[int, int], ...], tuple[int, Tensor]],
) -> Iterator[tuple[tuple[slice, ...], Tensor]]:
    """What a tile gives alone, and the sums of what several give, with the last of them."""
    for shares in product(*(window.shares for window in windows)):
        part = logits
        for axis, (window, share) in enumerate(zip(windows, shares, strict=True), start=2):
            part = part.narrow(axis, share.give.start - window.give.start, share.give.stop - share.give.start)
            if share.weight is not None:
                part = part * share.weight.to(part).view([-1 if axis == other else 1 for other in range(part.ndim)])
        key = tuple((share.give.start, share.give.stop) for share in shares)
        others, total = unfinished.pop(key, (0, None))
        total = part if total is None else total + part
        if others + 1 < prod(share.tiles for share in shares):
            unfinished[key] = others + 1, total
        else:
            yield tuple(share.give for share in shares), total


def _windows(length: int, out_length: int, tile: int, margin: int, stride: int) -> Iterator[_Window]:
    """Tiles next to each other by their centers."""
    given = 0
    for read in _reads(length, tile, tile - 2 * margin, stride):
        give = out_length if read.stop == length else _first_from(read.stop - margin, length, out_length)
        if give > given:
            yield _Window(read, [_Share(slice(given, give), 1, None)])
            given = give


def _smooth_windows(length: int, out_length: int, tile: int, margin: int, stride: int) -> Iterator[_Window]:
    """Tiles whose centers overlap, with weights that sum to 1 at each pixel of the result."""
    center = tile - 2 * margin
    if center == 1:
        yield from _windows(length, out_length, tile, margin, stride)
        return
    ramp = min(max(margin, tile // _RAMP, 1), center // 2)
    reads = list(_reads(length, tile, center - ramp, stride))
    position = (torch.arange(out_length, dtype=torch.float64) + 0.5) * length / out_length
    weights = torch.ones(len(reads), out_length, dtype=torch.float64)
    for weight, read in zip(weights, reads, strict=True):
        if read.start > 0:
            weight.clamp_(max=(position - read.start - margin) / ramp)
        if read.stop < length:
            weight.clamp_(max=(read.stop - margin - position) / ramp)
    weights.clamp_(min=0)
    weights /= weights.sum(0)
    gives = weights > 0
    changes = (gives[:, 1:] != gives[:, :-1]).any(0).nonzero().flatten() + 1
    parts = [slice(*ends) for ends in pairwise([0, *changes.tolist(), out_length])]
    tiles = [int(gives[:, part.start].sum()) for part in parts]
    for row, (weight, read) in enumerate(zip(weights, reads, strict=True)):
        shares = [
            _Share(part, several, weight[part] if several > 1 else None)
            for part, several in zip(parts, tiles, strict=True)
            if gives[row, part.start]
        ]
        if shares:
            yield _Window(read, shares)


def _reads(length: int, tile: int, step: int, stride: int) -> Iterator[slice]:
    """The last tile begins earlier and overlaps more, so that it is as large as the others, or nearly (`stride`)."""
    stride = stride if step >= stride else 1
    last = -(-(length - tile) // stride) * stride
    for start in count(0, step // stride * stride):
        start = max(0, min(start, last))
        yield slice(start, min(start + tile, length))
        if start + tile >= length:
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
