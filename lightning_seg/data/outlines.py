"""Outlines of objects as files describe them: each is checked before it is drawn, as it may be anybody's."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_seg.data.image_files import ImageFileError
from lightning_seg.data.mask_sources import Size

Shape = npt.NDArray[np.bool_]

_FAR = 8  # sides of the image around it in which corners lie
_LONGEST = 4  # pixels of an object's rim for each of the image, which it may have besides a million
_EDGES = 256  # that are drawn together
_MOST_DIGITS = 12  # of a number in COCO's text of run lengths


def corners(points: Any, least: int, size: Size, place: object) -> npt.NDArray[np.float64]:
    """The corners `(N, 2)` of an outline, x and y in pixels.

    Args:
        points: as they came, in any nesting.
        least: how many there must be.
        size: of the image.
        place: for the message.

    Raises:
        ImageFileError: they are not pairs of numbers, too few, far outside of the image, or too far from each other.
    """
    try:
        found = np.array(points, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        found = np.empty(0)
    if found.ndim != 2 or found.shape[1:] != (2,) or len(found) < least:
        raise ImageFileError(f"{place} has an outline that is not {least} corners or more, x and y of each.")
    if not (np.abs(found) <= _FAR * max(size)).all():
        raise ImageFileError(f"{place} has an outline with corners that are not finite, or far outside of the image.")
    _check_rim(_rim(found), size, place)
    return found


def _rim(found: npt.NDArray[np.float64]) -> float:
    return float(np.abs(found - np.roll(found, 1, axis=0)).max(1).sum())


def _check_rim(rim: float, size: Size, place: object) -> None:
    height, width = size
    if rim > _LONGEST * height * width + 1_000_000:
        raise ImageFileError(f"{place} has an outline far longer than any in an image of {height}×{width}.")


def polygon(points: npt.NDArray[np.float64], size: Size) -> Shape:
    """A polygon, by the even-odd rule: a pixel is in it if its center is; corners are in pixels."""
    height, width = size
    crossed = np.zeros((height, width + 1), np.int64)
    edges = np.concatenate([points, np.roll(points, -1, axis=0)], 1)
    for start in range(0, len(edges), _EDGES):
        some = edges[start : start + _EDGES]
        ends = np.clip(np.ceil(np.sort(some[:, 1::2], axis=1) - 0.5), 0, height).astype(np.int64)
        counts = ends[:, 1] - ends[:, 0]  # rows that each edge crosses
        x0, y0, x1, y1 = np.repeat(some, counts, axis=0).T
        rows = np.arange(counts.sum()) + np.repeat(ends[:, 0] - counts.cumsum() + counts, counts)
        x = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
        np.add.at(crossed, (rows, np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)), 1)
    inside: Shape = crossed.cumsum(1)[:, :width] % 2 == 1
    return inside


def coco_shape(outline: Any, size: Size, place: object) -> Shape:
    """What an outline of COCO encloses: polygons, or run lengths as a list or as text.

    pycocotools draws the polygons, and gets only what it has room for: it looks at nothing itself.

    Raises:
        ImportError: pycocotools is not installed.
        ImageFileError: it cannot be drawn.
    """
    if isinstance(outline, Mapping):
        return _from_runs(outline, size, place)
    if not isinstance(outline, list) or not all(isinstance(one, list) and len(one) % 2 == 0 for one in outline):
        raise ImageFileError(f"{place} has an outline that is neither polygons, [[x, y, x, y, ...]], nor run lengths.")
    try:
        from pycocotools import mask as coco
    except ImportError:
        raise ImportError('COCO polygons are drawn by pycocotools: pip install "lightning-seg[data]".') from None
    height, width = size
    drawn, rim = [], 0.0
    for one in outline:
        found = corners([one[index : index + 2] for index in range(0, len(one), 2)], 3, size, place)
        rim += _rim(found)
        _check_rim(rim, size, place)
        drawn += coco.frPyObjects([found.reshape(-1).tolist()], height, width)
    shape: Shape = coco.decode(coco.merge(drawn)).astype(bool)
    return shape


def _from_runs(outline: Mapping[str, Any], size: Size, place: object) -> Shape:
    """Pixels down the columns, outside and inside of the object by turns."""
    counts, (height, width) = outline.get("counts"), size
    if outline.get("size") != [height, width]:
        raise ImageFileError(f"{place} has run lengths of {outline.get('size')!s:.80} in an image of {height}×{width}.")
    numbers = _run_lengths(counts) if isinstance(counts, str) else counts
    good = isinstance(numbers, list) and all(type(one) is int and 0 <= one <= height * width for one in numbers)
    if not good or sum(numbers) != height * width:  # type: ignore[arg-type]
        raise ImageFileError(f"{place} has run lengths that do not add up to {height}×{width} pixels.")
    inside = np.arange(len(numbers)) % 2 == 1  # type: ignore[arg-type]
    return np.repeat(inside, numbers).reshape(width, height).T  # type: ignore[arg-type]


def _run_lengths(text: str) -> Sequence[int] | None:
    """COCO's text of run lengths: of each number, from the third on its difference to the one before the last.

    A number is written in digits of 5 bits, the lowest first, each as one character from `0` on, whose sixth bit says
    whether another follows; the highest bit of the last is the sign.
    """
    numbers: list[int] = []
    value = place = 0
    for character in text:
        digit = ord(character) - 48
        if not 0 <= digit < 64 or place >= _MOST_DIGITS:
            return None
        value |= (digit & 31) << (5 * place)
        place += 1
        if digit & 32:
            continue
        if digit & 16:
            value -= 1 << (5 * place)
        numbers.append(value + (numbers[-2] if len(numbers) > 2 else 0))
        value = place = 0
    return numbers if place == 0 else None
