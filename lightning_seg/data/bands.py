"""Images of any number of bands: which of them are taken, and what their values are in [0, 1]."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from lightning_seg.data.arrays import is_array_file, load_array
from lightning_seg.data.image_files import ImageFileError, check_page
from lightning_seg.data.windows import Box, has_windows, is_plain, read_window
from lightning_seg.memory import check_memory
from lightning_seg.reading import open_regular

Channels = Literal["rgb", "all"] | Sequence[int]
_PLAIN = ("uint8", "uint16", "int16", "uint32", "int32", "float32", "float64")
_UNMIXED = (1, 2)  # 0 is black, and RGB
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def check_channels_asked(channels: Channels, value_range: Sequence[float] | None) -> None:
    """Refuses what names no channels or no range.

    Raises:
        ValueError: it does.
    """
    if isinstance(channels, str):
        if channels not in ("rgb", "all"):
            raise ValueError(f"data.channels={channels} is neither rgb, all, nor a list of bands, [0,1,2,7].")
    elif not channels or not all(type(one) is int and one >= 0 for one in channels):
        raise ValueError(f"data.channels={list(channels)} must be bands, counted from 0: [0,1,2,7].")
    if value_range is not None and not (len(value_range) == 2 and value_range[0] < value_range[1]):
        raise ValueError(f"data.range={list(value_range)} must be the values of black and white, as in [0,4095].")


def is_banded(path: str | Path) -> bool:
    """Whether a file's bands are read by themselves: an array, or a TIFF."""
    if is_array_file(path):
        return True
    with open_regular(path) as file:
        return file.read(4) in _TIFF


def banded_size(path: str | Path, *, max_pixels: int, page: int | None) -> tuple[int, int]:
    """Height and width of an array or a TIFF."""
    if is_array_file(path):
        check_page(path, 1, page)
        height, width = load_array(path, max_pixels=max_pixels).shape[:2]
        return height, width
    with open_regular(path) as file:
        found = _page(path, file, max_pixels, page)
        return found.imagelength, found.imagewidth


def load_bands(path: str | Path, *, max_pixels: int, page: int | None, box: Box | None = None) -> npt.NDArray[Any]:
    """The bands of an array or a TIFF, or of a part of it, `(H, W, bands)`, in their own type."""
    if is_array_file(path):
        check_page(path, 1, page)
        array = load_array(path, max_pixels=max_pixels)
        array = array if box is None else array[box.parts]
        check_memory(array.nbytes, path)
        return np.array(array if array.ndim == 3 else array[..., None])
    with open_regular(path) as file:
        found = _page(path, file, max_pixels, page)
        height, width = found.imagelength, found.imagewidth
        if box is not None and has_windows(found):
            height, width = box.bottom - box.top, box.right - box.left
        check_memory(height * width * found.samplesperpixel * 8, path)
        with _in_one_line(path):
            if box is not None and has_windows(found):
                return read_window(found, file, box)
            pixels: npt.NDArray[Any] = found.asarray()
        if found.axes == "SYX":
            pixels = np.moveaxis(pixels, 0, -1)
        elif found.axes != "YXS":
            pixels = pixels.reshape(found.imagelength, found.imagewidth, -1)
        return pixels if box is None else pixels[box.parts]


def plain_window(
    path: str | Path, box: Box, *, max_pixels: int, page: int | None, samples: Sequence[int]
) -> npt.NDArray[Any] | None:
    """A part of a TIFF that Pillow reads as it is stored, `(h, w, samples)`; None where it is to be read as a whole.

    Args:
        path: the file.
        box: which part.
        max_pixels: see `load_image`.
        page: likewise.
        samples: how many it may have.
    """
    if find_spec("tifffile") is None or is_array_file(path) or not is_banded(path):
        return None
    with open_regular(path) as file:
        found = _page(path, file, max_pixels, page)
        fits = box.bottom <= found.imagelength and box.right <= found.imagewidth
        if not fits or found.samplesperpixel not in samples or not is_plain(found, found.samplesperpixel):
            return None
        try:
            return read_window(found, file, box)
        except Exception:  # of a decoder that is not installed, or a damaged file, of which reading all of it tells
            return None


def has_plain_bands(path: str | Path, *, max_pixels: int) -> bool:
    """Whether a TIFF's bands are stored as `load_bands` gives them, so that any reader of its windows finds them so.

    Raises:
        ImageFileError: see `load_bands`.
    """
    with open_regular(path) as file:
        page = _page(path, file, max_pixels, None)
        whole_bits = page.dtype is not None and page.bitspersample == 8 * page.dtype.itemsize
        return bool(whole_bits and page.index == 0 and page.dtype.name in _PLAIN and page.photometric in _UNMIXED)


def chosen(bands: npt.NDArray[Any], channels: Channels, path: str | Path) -> npt.NDArray[Any]:
    """The bands that are asked for.

    Raises:
        ImageFileError: a band is not there, or there are others than three colors and none were named.
    """
    count = bands.shape[-1]
    if channels == "all":
        return bands
    if channels == "rgb":
        if count not in (1, 3):
            raise ImageFileError(
                f"{path} has {count} bands, and it is unknown which three are the colors: give data.channels=[0,1,2], "
                "or data.channels=all."
            )
        return bands
    indices = [int(one) for one in channels]
    if max(indices) >= count:
        raise ImageFileError(f"{path} has {count} bands, and data.channels asks for band {max(indices)}, from 0.")
    return bands[..., indices]


def in_range(bands: npt.NDArray[Any], value_range: Sequence[float] | None, path: str | Path) -> npt.NDArray[Any]:
    """Bands whose values have a known range: uint8, uint16, or float32 in [0, 1], to which `value_range` is brought.

    Raises:
        ImageFileError: the range is not known, or a value is not finite.
    """
    if value_range is None:
        if bands.dtype in (np.uint8, np.uint16):
            return bands
        if bands.dtype == bool:
            return bands.astype(np.uint8) * np.uint8(255)
        raise ImageFileError(
            f"{path} holds values of {bands.dtype}, whose range is unknown: give data.range=[BLACK,WHITE], for "
            "instance [0,4095] or [0,1]."
        )
    if not np.isfinite(bands).all():
        raise ImageFileError(f"{path} holds values that are not finite (no data?): fill them, and mark them void.")
    low, high = (float(value) for value in value_range)
    return ((bands.astype(np.float32) - low) / (high - low)).clip(0, 1)


@contextmanager
def _in_one_line(path: str | Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # tifffile's decoders raise many kinds
        reason = " ".join(str(error).split()).rstrip(".")
        extra = ': pip install "lightning-seg[data]"' if "imagecodecs" in reason else ""
        raise ImageFileError(f"{path} cannot be read as an image: {reason}{extra}.") from None


def _page(path: str | Path, file: Any, max_pixels: int, page: int | None) -> Any:
    try:
        import tifffile
    except ImportError:
        raise ImportError('the bands of a TIFF are read by tifffile: pip install "lightning-seg[data]".') from None
    with _in_one_line(path):
        listed: list[Any] = list(tifffile.TiffFile(file, name=str(path)).pages)
        pages = [one for one in listed if not one.is_reduced]
    if len(pages) > 1 and page is None:
        raise ImageFileError(f"{path} has several pages: say which with data.page, counted from 0.")
    check_page(path, len(pages), page)
    found = pages[page or 0]
    if found.imagelength * found.imagewidth > max_pixels:
        raise ImageFileError(f"{path} is {found.imagelength}×{found.imagewidth}, and max_pixels={max_pixels:,}.")
    return found
