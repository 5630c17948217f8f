"""Images and masks as NumPy arrays, `.npy`."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_seg.data.image_files import ImageFileError
from lightning_seg.reading import open_regular


def is_array_file(path: str | Path) -> bool:
    """Whether a file is named as an array."""
    return Path(path).suffix.lower() == ".npy"


def mapped_array(path: str | Path) -> npt.NDArray[Any]:
    """The array of numbers in a file, which is read where it is used.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ImageFileError: it holds no array of numbers.
    """
    with open_regular(path):
        pass
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise ImageFileError(f"{path} cannot be read as an array: {reason.rstrip('.')}.") from None
    if not isinstance(array, np.ndarray) or not (np.issubdtype(array.dtype, np.number) or array.dtype == bool):
        raise ImageFileError(f"{path} holds {getattr(array, 'dtype', 'several arrays')}, and numbers are expected.")
    return array


def load_array(path: str | Path, *, max_pixels: int) -> npt.NDArray[Any]:
    """The array of a file, `(H, W)` or `(H, W, channels)`, not read before it is used.

    Of three axes, the channels are the last, or the first if that is the shorter one.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ImageFileError: it holds no array of numbers, one of other axes, or of more than `max_pixels` pixels.
    """
    array = mapped_array(path)
    if array.ndim not in (2, 3) or np.issubdtype(array.dtype, np.complexfloating) or array.size == 0:
        raise ImageFileError(f"{path} is an array of {array.shape} and {array.dtype}: give (H, W) or (H, W, channels).")
    if array.ndim == 3:
        if array.shape[0] == array.shape[-1]:
            raise ImageFileError(f"{path} has shape {array.shape}, and it is unclear which axis holds the channels.")
        if array.shape[0] < array.shape[-1]:
            array = np.moveaxis(array, 0, -1)
    height, width = array.shape[:2]
    if height * width > max_pixels:
        raise ImageFileError(
            f"{path} is {height}×{width}, {height * width:,} pixels, and max_pixels={max_pixels:,}: "
            "raise max_pixels if it is meant to be that large."
        )
    return array
