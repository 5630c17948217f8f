"""Parts of a TIFF's page, of which only the strips or tiles that they lie in are read and decoded."""

from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

_LOSSLESS = (1, 5, 8, 32773, 32946, 34925, 50000)  # none, LZW, deflate, PackBits, deflate, LZMA, Zstandard
_LARGEST_TILE = 2**26  # pixels
_GRAY, _RGB = 1, 2  # of the tag 262, with 0 as black
_ORIENTATION = 274
_SEPARATE = 2  # planes, of the tag 284


class Box(NamedTuple):
    """A part of an image: rows from `top` to before `bottom`, columns from `left` to before `right`."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def parts(self) -> tuple[slice, slice]:
        """Of an array whose axes are rows and columns."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def overlap(self, other: "Box") -> "Box":
        """What is of both."""
        top, left = max(self.top, other.top), max(self.left, other.left)
        return Box(top, min(self.bottom, other.bottom), left, min(self.right, other.right))

    def within(self, other: "Box") -> "Box":
        """The same place, counted from where another begins."""
        top, left = other.top, other.left
        return Box(self.top - top, self.bottom - top, self.left - left, self.right - left)


def has_windows(page: Any) -> bool:
    """Whether a page of tifffile can be read in parts, and gives the same values as it does as a whole."""
    bits = page.dtype is not None and page.bitspersample == 8 * page.dtype.itemsize
    is_small = not page.is_tiled or page.tilelength * page.tilewidth <= _LARGEST_TILE
    return bool(bits and is_small and page.imagedepth == 1 and page.compression in _LOSSLESS)


def is_plain(page: Any, samples: int) -> bool:
    """Whether Pillow gives a page's values as they are stored: gray of 8 or 16 bits, or three colors of 8."""
    kind = (samples, page.dtype.name if page.dtype is not None else "", page.photometric)
    tag = page.tags.get(_ORIENTATION)
    return bool(
        kind in ((1, "uint8", _GRAY), (1, "uint16", _GRAY), (3, "uint8", _RGB))
        and page.samplesperpixel == samples
        and page.fillorder == 1
        and (tag is None or tag.value == 1)
        and has_windows(page)
    )


def read_window(page: Any, file: BinaryIO, box: Box) -> npt.NDArray[Any]:
    """A part of a page, `(h, w, samples)`, in its own type; `has_windows` says of which page.

    Args:
        page: of tifffile.
        file: that it is read from.
        box: within the page.
    """
    rows, columns = box.parts
    if page.is_memmappable:
        kind = page.dtype.newbyteorder(page.parent.byteorder)
        stored: npt.NDArray[Any] = np.memmap(file, kind, "r", page.dataoffsets[0], page.shape)  # type: ignore[call-overload]
        mapped = np.moveaxis(stored[:, rows, columns], 0, -1) if page.axes == "SYX" else stored[rows, columns]
        return mapped.reshape(*mapped.shape[:2], -1).astype(page.dtype)
    planes = page.samplesperpixel if page.planarconfig == _SEPARATE else 1
    made = np.empty((planes, box.bottom - box.top, box.right - box.left, page.samplesperpixel // planes), page.dtype)
    length, width = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
    length = min(length, page.imagelength)
    down, across = -(-page.imagelength // length), -(-page.imagewidth // width)
    for plane in range(planes):
        for row in range(box.top // length, (box.bottom - 1) // length + 1):
            for column in range(box.left // width, (box.right - 1) // width + 1):
                index = (plane * down + row) * across + column
                file.seek(page.dataoffsets[index])
                segment, *_ = page.decode(file.read(page.databytecounts[index]) or None, index)
                segment_box = Box(row * length, (row + 1) * length, column * width, (column + 1) * width)
                both = box.overlap(segment_box)
                # A tile that is not stored is empty.
                values = page.nodata if segment is None else segment[(0, *both.within(segment_box).parts)]
                made[(plane, *both.within(box).parts)] = values
    return np.ascontiguousarray(np.moveaxis(made, 0, -2).reshape(*made.shape[1:3], -1))
