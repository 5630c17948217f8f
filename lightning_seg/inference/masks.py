"""Labels, probabilities and overlays as files and pictures."""

import mmap
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

from lightning_seg.files import atomic_write

Labels = npt.NDArray[np.integer[Any]]
Palette = Sequence[Sequence[int]]


# Of label maps, and of photographs after PNG's filters, runs are what compresses: as small as by default, in a third of
# the time.
PNG: dict[str, Any] = {"compress_type": zlib.Z_RLE}


def write_mask(path: str | Path, labels: Labels, palette: Palette, *, overwrite: bool = False) -> None:
    """Writes labels as a PNG whose pixel values are the labels.

    Up to 256 classes: 8-bit with the palette, so that viewers show the colors (Pillow's mode "P"). More: 16-bit gray.
    The file appears when it is complete.

    Args:
        path: the file, ending in `.png`.
        labels: `(H, W)`, integers in `0 ... len(palette) - 1`.
        palette: `(red, green, blue)` of each label, 0 ... 255.

    Raises:
        ValueError: labels of another shape or without a color, or another suffix.
        FileExistsError: the file exists and `overwrite` is false.
    """
    if Path(path).suffix.lower() != ".png":
        raise ValueError(f"{path} cannot hold a mask: masks are PNG files, so name it .png.")
    picture = mask_picture(labels, palette)
    with atomic_write(path, overwrite=overwrite) as temporary:
        picture.save(temporary, **PNG)


def mask_picture(labels: Labels, palette: Palette) -> Image.Image:
    """What `write_mask`, which see, writes."""
    check_labels(labels, palette)
    if len(palette) > 256:
        return Image.fromarray(labels.astype(np.uint16))
    # All 256 entries: Pillow packs smaller palettes into 1, 2 or 4 bits a pixel.
    colors = np.zeros((256, 3), dtype=np.uint8)
    colors[: len(palette)] = _colors(palette)
    picture = Image.fromarray(labels.astype(np.uint8, copy=False))
    picture.putpalette(colors.tobytes())
    return picture


def overlay(image: Tensor, labels: Labels, palette: Palette, opacity: float = 0.5) -> npt.NDArray[np.uint8]:
    """The image with the colors of its labels over it, `(1 - opacity) image + opacity color`.

    Args:
        image: `(3, H, W)`, float in [0, 1].
        labels: `(H, W)`, integers in `0 ... len(palette) - 1`.
        palette: `(red, green, blue)` of each label, 0 ... 255.
        opacity: of the colors, 0 ... 1.

    Returns:
        uint8 `(H, W, 3)`.

    Raises:
        ValueError: sizes that differ, a label without a color, or an opacity outside 0 ... 1.
    """
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity={opacity} must be from 0 to 1.")
    if image.ndim != 3 or image.shape[0] != 3 or tuple(image.shape[1:]) != labels.shape:
        raise ValueError(
            f"expected an image (3, H, W) with labels (H, W), but got {tuple(image.shape)} with {labels.shape}."
        )
    check_labels(labels, palette)
    mixed = image.detach().float().clamp(0, 1).permute(1, 2, 0).cpu().numpy() * np.float32((1 - opacity) * 255)
    mixed += (opacity * _colors(palette).astype(np.float32)).take(labels, axis=0)
    rounded: npt.NDArray[np.uint8] = np.rint(mixed, out=mixed).astype(np.uint8)
    return rounded


@contextmanager
def probabilities_file(
    path: str | Path, shape: tuple[int, int, int], *, overwrite: bool = False
) -> Iterator[npt.NDArray[np.float16]]:
    """An array `(C, H, W)` of float16 on disk to be filled, a NumPy `.npy` file when the block ends.

    It is mapped, not held in memory; `numpy.load(path, mmap_mode="r")` reads it the same way.

    Raises:
        ValueError: another suffix.
        FileExistsError: the file exists and `overwrite` is false.
        OSError: there is no room for it.
    """
    if Path(path).suffix != ".npy":
        raise ValueError(f"{path} cannot hold probabilities: they are written as NumPy files, so name it .npy.")
    with atomic_write(path, overwrite=overwrite) as temporary:
        array = probabilities_array(temporary, shape)
        yield array
        array.flush()


def probabilities_array(path: Path, shape: tuple[int, int, int]) -> "np.memmap[Any, np.dtype[np.float16]]":
    """The array that `probabilities_file`, which see, writes."""
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
    _reserve(path)
    return array


def give_back(array: npt.NDArray[Any]) -> None:
    """Lets the system have the memory of a mapped array again; what was written stays in the file."""
    if isinstance(array.base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):  # which Windows does not have
        array.base.madvise(mmap.MADV_DONTNEED)


def _reserve(path: Path) -> None:
    """Takes a file's place on the disk now: where it runs out under a mapped array, the system ends the process."""
    with path.open("r+b") as file:
        size = path.stat().st_size
        if hasattr(os, "posix_fallocate"):  # which macOS does not have
            os.posix_fallocate(file.fileno(), 0, size)


def check_labels(labels: Labels, palette: Palette) -> None:
    """Refuses labels that are not integers `(H, W)` with a color each."""
    if labels.ndim != 2 or labels.size == 0 or labels.dtype.kind not in "ui":
        raise ValueError(f"expected integer labels of shape (H, W), but got {labels.dtype} of shape {labels.shape}.")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= len(palette):
        label = low if low < 0 else high
        raise ValueError(f"label {label} has no color: the palette has {len(palette)}, for labels from 0.")


def _colors(palette: Palette) -> npt.NDArray[np.uint8]:
    return np.array([tuple(color) for color in palette], dtype=np.uint8).reshape(-1, 3)
