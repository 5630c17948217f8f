"""Images of given bands, of which a network sees the parts that are asked for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lightning_seg.data.bands import Channels, chosen, in_range
from lightning_seg.data.images import in_unit_range

Pixels = npt.NDArray[Any]


@dataclass
class BandedRaster:
    """An image `(1, channels, H, W)` in [0, 1], as `load_image` reads it for a network of given channels.

    Args:
        path: its file, for messages.
        size: height and width.
        read: gives the bands `(rows, columns, bands)` of two slices.
        nodata: the value of pixels without data, or None.
        channels: see `load_image`.
        value_range: likewise.

    Raises:
        ImageFileError: the file does not have these channels, or values of a known range; also as a part is read.
    """

    path: Path
    size: tuple[int, int]
    read: Callable[[slice, slice], Pixels]
    nodata: float | None = None
    channels: Channels = "rgb"
    value_range: Sequence[float] | None = None

    ndim = 4

    def __post_init__(self) -> None:
        first = slice(0, 1)
        values = chosen(self.read(first, first), self.channels, self.path)
        self.shape = torch.Size((1, 3 if self.channels == "rgb" else values.shape[-1], *self.size))

    def numel(self) -> int:
        """Of the whole image."""
        return self.shape.numel()

    def __getitem__(self, index: Any) -> Tensor:
        rows, columns = (slice(*part.indices(side)[:2]) for part, side in zip(index[-2:], self.size, strict=True))
        values = in_range(chosen(self.read(rows, columns), self.channels, self.path), self.value_range, self.path)
        image = in_unit_range(torch.from_numpy(np.array(np.moveaxis(values, -1, 0), order="C")))
        return (image.expand(3, -1, -1) if self.channels == "rgb" else image)[None]

    def picture(self, rows: slice, columns: slice) -> Tensor:
        """The first three channels, or the first alone thrice, `(1, 3, rows, columns)`, as 8 bits hold them."""
        image = self[..., rows, columns]
        shown = image[:, :3] if image.shape[1] >= 3 else image[:, :1].expand(-1, 3, -1, -1)
        return (255 * shown).round() / 255

    def invalid(self, rows: slice) -> npt.NDArray[np.bool_] | None:
        """Where some rows hold no data in any band, bool `(rows, W)`; None where the file has no such value."""
        if self.nodata is None:
            return None
        found: npt.NDArray[np.bool_] = (self.read(rows, slice(0, self.size[1])) == self.nodata).all(-1)
        return found
