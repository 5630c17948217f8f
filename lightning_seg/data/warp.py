"""Images and masks at other places: what a zoom, a turn and a crop show, computed once and for the crop alone."""

import math
from collections.abc import Sequence
from functools import cache
from types import ModuleType
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from lightning_seg.data.windows import Box

_ONE = 2**32  # a pixel, for the kernels


@cache
def kernels() -> ModuleType | None:
    """Numba's, which are compiled when they are first used; None where it cannot be imported."""
    try:
        from lightning_seg.data import kernels as found
    except ImportError:  # not installed, or not for this Python
        return None
    return found


@cache
def begin_kernels() -> None:
    """Has Numba imported and at work, if it can be: a third of a second, once for all copies of this process."""
    seen_labels(torch.zeros(2, 2, dtype=torch.uint8), View((2, 2), (1.0, 0.0, 0.5, 0.0, 1.0, 0.5)), None)


class View(NamedTuple):
    """What is seen of an image: a pixel of column x and row y shows its `(ax + by + c, dx + ey + f)`, column and row.

    `size` is the height and width of what is seen, `to_source` the six numbers.
    """

    size: tuple[int, int]
    to_source: tuple[float, float, float, float, float, float]

    @property
    def start(self) -> tuple[int, int] | None:
        """The row and column at which it begins, if it is a part of the image as it is."""
        a, b, c, d, e, f = self.to_source
        is_plain = (a, b, d, e) == (1, 0, 0, 1) and c == round(c) and f == round(f)
        return (round(f), round(c)) if is_plain else None

    def box(self, height: int, width: int) -> Box:
        """The part of an image that is needed, one pixel at least."""
        a, b, c, d, e, f = self.to_source
        corners = [(x, y) for x in (0, self.size[1] - 1) for y in (0, self.size[0] - 1)]
        rows, columns = [d * x + e * y + f for x, y in corners], [a * x + b * y + c for x, y in corners]
        return Box(*_between(rows, height), *_between(columns, width))

    def within(self, box: Box) -> "View":
        """The same of a part of the image."""
        a, b, c, d, e, f = self.to_source
        return View(self.size, (a, b, c - box.left, d, e, f - box.top))


def seen_image(image: Tensor, view: View, is_void_outside: bool) -> Tensor:
    """An image `(channels, H, W)` through a view, bilinear, in its own type.

    What lies outside is black, or, without void, the outermost pixel. Of three colors of uint8 kernels sample between
    256 places of a pixel; all else is sampled by torch.
    """
    if view.start is not None:
        return _cut(image, view.size, view.start, 0 if is_void_outside else None)
    part, placed = _part(image, view)
    compiled = kernels()
    if compiled is not None and image.dtype == torch.uint8 and len(image) == 3:
        made = torch.empty((3, *view.size), dtype=torch.uint8)
        source = part.movedim(0, -1).contiguous().numpy()
        compiled.sample_colors(source, _places(placed), is_void_outside, made.numpy())
        return made
    return _sampled(part, placed, "bilinear", 0 if is_void_outside else None)


def seen_labels(mask: Tensor, view: View, void: int | None) -> Tensor:
    """A mask `(H, W)` or `(C, H, W)` through a view, the nearest label, in its own type or, for `void`, int64.

    What lies outside is `void`, or, without, the outermost label.
    """
    if void is not None and not torch.iinfo(mask.dtype).min <= void <= torch.iinfo(mask.dtype).max:
        mask = mask.long()
    if view.start is not None:
        return _cut(mask, view.size, view.start, void)
    part, placed = _part(mask, view)
    compiled = kernels()
    if compiled is None:
        return _sampled(part, placed, "nearest", void)
    made = mask.new_empty((*mask.shape[:-2], *view.size))
    for source, target in zip(part.reshape(-1, *part.shape[-2:]), made.view(-1, *view.size), strict=True):
        compiled.sample_labels(
            source.contiguous().numpy(), _places(placed), void is not None, void or 0, target.numpy()
        )
    return made


def _cut(tensor: Tensor, size: tuple[int, int], start: tuple[int, int], fill: int | None) -> Tensor:
    cropped, missing = tensor, []
    for axis, length, first in zip((-2, -1), size, start, strict=True):
        low, high = max(first, 0), min(first + length, tensor.shape[axis])
        cropped = cropped.narrow(axis, low, high - low)
        missing.append((max(-first, 0), max(first + length - tensor.shape[axis], 0)))
    if cropped.shape[-2:] == size:
        return cropped.contiguous()
    around = [(0, 0)] * (tensor.ndim - 2) + missing
    if fill is None:
        return torch.from_numpy(np.pad(cropped.numpy(), around, mode="edge"))
    return torch.from_numpy(np.pad(cropped.numpy(), around, constant_values=fill))


def _part(tensor: Tensor, view: View) -> tuple[Tensor, View]:
    """What a view needs, and where it is in that."""
    box = view.box(tensor.shape[-2], tensor.shape[-1])
    return tensor[(..., *box.parts)], view.within(box)


def _between(places: Sequence[float], length: int) -> tuple[int, int]:
    first = min(max(math.floor(min(places)) - 1, 0), length - 1)
    return first, max(min(math.ceil(max(places)) + 2, length), first + 1)


def _places(view: View) -> np.ndarray:
    return np.array([round(number * _ONE) for number in view.to_source], np.int64)


def _sampled(tensor: Tensor, view: View, mode: str, fill: int | None) -> Tensor:
    height, width = tensor.shape[-2:]
    a, b, c, d, e, f = view.to_source
    x, y = torch.arange(view.size[1]), torch.arange(view.size[0])[:, None]
    column, row = a * x + b * y + c, d * x + e * y + f
    grid = torch.stack([(2 * column + 1) / width - 1, (2 * row + 1) / height - 1], -1)
    floats = tensor.reshape(1, -1, height, width).float()
    made = grid_sample(floats, grid[None].float(), mode, "border", align_corners=False)
    if fill is not None:
        outside = (column < -0.5) | (column >= width - 0.5) | (row < -0.5) | (row >= height - 0.5)
        made = made.masked_fill(outside, fill)
    if not tensor.is_floating_point():
        made = made.round_()
    return made.to(tensor.dtype).reshape(*tensor.shape[:-2], *view.size)
