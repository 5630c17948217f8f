"""Reading label masks, and finding the values in them that are not a class."""

import re
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lightning_seg.data.arrays import is_array_file, load_array
from lightning_seg.data.bands import plain_window
from lightning_seg.data.image_files import MAX_PIXELS, ImageFileError, OpenedImage, check_page, open_image
from lightning_seg.data.values import Values
from lightning_seg.data.windows import Box
from lightning_seg.task import out_of_range

# JPEG to be refused for what it is, unless there is a threshold.
MASK_SUFFIXES = (
    *(".png", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".pbm", ".pnm", ".npy"),
    *(".jpg", ".jpeg"),
)
MASK_KINDS = ("PNG", "TIFF", "BMP", "GIF", "WEBP", "PPM", "JPEG")
Color = Sequence[int]
Colors = Sequence[Color | Sequence[Color]]
_TABLE = 2**16
_BYTES_PER_PIXEL = 12  # a label of eight, and what Pillow has beside it
_LOSSY_TIFF = ("jpeg", "tiff_jpeg", "webp")
_EXACT = re.compile(r"(1|L|P)(;[124]?R?)?|LA|PA|RGB|RGBA|BGR|BGRA|BGRX|I;(12|16|32)[BLNRS]*")
_STEP = {"L;2": 85, "L;4": 17}  # to which Pillow stretches gray of fewer bits


def load_mask(
    path: str | Path,
    *,
    color_table: Colors | None = None,
    void_colors: Colors = (),
    ignore_index: int | None = None,
    max_pixels: int = MAX_PIXELS,
    values: Values | None = None,
    threshold: float | None = None,
    page: int | None = None,
) -> Tensor:
    """A mask as int64 `(H, W)`, upright by its EXIF orientation.

    Without a color table: the values of a gray file of up to 32 bits, of a gray file stored as RGB, of an array of
    integers, or the indices of a palette file. They are not checked here; see `check_values`.

    Args:
        path: PNG, TIFF, BMP, GIF, PPM, PGM, lossless WebP or NumPy's .npy, by its content. JPEG and lossy WebP change
            values and are refused without a threshold.
        color_table: [red, green, blue] of each class in order, or several of these; the file's colors are looked up.
        void_colors: colors that become `ignore_index`.
        ignore_index: the value of void pixels.
        max_pixels: a mask of more pixels is refused before it is decoded.
        values: what the file's values stand for. Default: they are the classes.
        threshold: pixels of this value or more are 1, all others 0; colors count by their luminance.
        page: which page of a TIFF of several, from 0. Default: these are refused.

    Raises:
        OSError: there is no such file (`FileNotFoundError`), it cannot be read, or it is a named pipe or a device.
        ValueError: the file cannot be read, its pixels are not exactly those that were saved, it is in colors and no
            table was given, holds a color that is in neither list, or differs in its alpha channel alone.
        MemoryError: it does not fit into memory.
    """
    return read_labels(
        path,
        color_table=color_table,
        void_colors=void_colors,
        ignore_index=ignore_index,
        max_pixels=max_pixels,
        values=values,
        threshold=threshold,
        page=page,
    ).long()


def read_labels(
    path: str | Path,
    *,
    color_table: Colors | None,
    void_colors: Colors,
    ignore_index: int | None,
    max_pixels: int,
    values: Values | None,
    threshold: float | None,
    page: int | None,
    box: Box | None = None,
) -> Tensor:
    """As `load_mask`, which see, but uint8 where the file's values are, and of a part of it if there is a `box`."""
    pixels = raw_pixels(path, color_table is not None, max_pixels, threshold, page, box)
    if threshold is not None:
        return torch.from_numpy((pixels >= threshold).astype(np.uint8))
    if color_table is not None:
        return _from_colors(pixels, path, color_table, void_colors, ignore_index)
    if pixels.ndim == 3:
        gray = (pixels == pixels[..., :1]).all(-1)
        if not gray.all():
            example = pixels[~gray][0].tolist()
            raise ValueError(
                f"mask {path} is colored, {example} for instance, in {(~gray).sum():,} pixels: "
                "say which color is which class with data.color_table."
            )
        pixels = pixels[..., 0]
    if values is not None:
        return torch.from_numpy(values(pixels, path))
    return torch.from_numpy(pixels if pixels.dtype == np.uint8 else pixels.astype(np.int64))


def raw_pixels(
    path: str | Path,
    in_colors: bool,
    max_pixels: int,
    threshold: float | None,
    page: int | None,
    box: Box | None = None,
) -> npt.NDArray[Any]:
    """What a file holds, or a part of it: values `(H, W)`, or colors `(H, W, 3)`."""
    if is_array_file(path):
        check_page(path, 1, page)
        array = load_array(path, max_pixels=max_pixels)
        if array.ndim == 3 and array.shape[-1] == 1:
            array = array[..., 0]
        expected = "(H, W, 3) of colors" if in_colors else "(H, W)"
        if array.ndim != (3 if in_colors else 2) or (in_colors and array.shape[-1] != 3):
            raise ImageFileError(f"mask {path} is an array of {array.shape}, and {expected} is expected.")
        if not (np.issubdtype(array.dtype, np.integer) or array.dtype == bool or threshold is not None):
            raise ImageFileError(
                f"mask {path} is an array of {array.dtype}, and labels are integers: save it as such, or give "
                "data.threshold for a soft mask."
            )
        return np.array(array if box is None else array[box.parts])
    if box is not None:
        stored = plain_window(path, box, max_pixels=max_pixels, page=page, samples=(3 if in_colors else 1,))
        if stored is not None:
            return stored if in_colors else stored[..., 0]
        return raw_pixels(path, in_colors, max_pixels, threshold, page)[box.parts]
    with open_image(path, MASK_KINDS, max_pixels=max_pixels, bytes_per_pixel=_BYTES_PER_PIXEL, page=page) as source:
        if threshold is None:
            _check_exact(source)
        source.image.load()
        pixels = _luminance(source) if threshold is not None else _pixels(source, in_colors=in_colors)
        return source.upright(pixels)


def _luminance(source: OpenedImage) -> npt.NDArray[Any]:
    """Values `(H, W)` to compare with a threshold, in the range of the file's own bits; 0 and 255 of one bit."""
    image = source.image
    if image.mode == "F" or image.mode.startswith("I"):
        return np.asarray(image)
    return np.asarray(image.convert("L"))


def check_values(mask: Tensor, path: object, num_values: int, ignore_index: int | None) -> Tensor:
    """Pixels of each value 0..num_values-1, int64 `(num_values,)`.

    Raises:
        ValueError: the mask holds another value than these and `ignore_index`; it names the file, the value and the
            number of pixels.
    """
    counts = torch.zeros(num_values, dtype=torch.int64)
    wrong = []
    for value, count in _counted(mask):
        if value == ignore_index:
            continue
        if 0 <= value < num_values:
            counts[value] = count
        else:
            wrong.append((count, value))
    if wrong:
        count, value = max(wrong)
        more = f" (and {len(wrong) - 1} more such labels)" if len(wrong) > 1 else ""
        message = out_of_range(value, num_values, ignore_index, where=f" in {count:,} pixels{more}")
        raise ValueError(
            f"mask {path} holds {message} If its values stand for other classes, give data.values, or data.color_table."
        )
    return counts


def check_channels(mask: Tensor, path: object, classes: int, ignore_index: int | None) -> Tensor:
    """Pixels of each class of a multilabel mask `(C, H, W)`, int64 `(C,)`.

    Raises:
        ValueError: it has not one channel for each class, or holds another value than 0, 1 and `ignore_index`.
    """
    if mask.shape[:-2] != (classes,):
        raise ValueError(f"mask {path} has {tuple(mask.shape[:-2])} channels, and there are {classes} classes.")
    return torch.stack([check_values(channel, path, 2, ignore_index)[1] for channel in mask])


def values_of(mask: Tensor) -> list[int]:
    """The values that a mask holds, in order."""
    return [value for value, _ in _counted(mask)]


def _counted(mask: Tensor) -> list[tuple[int, int]]:
    """The values of a mask, and the pixels of each."""
    flat = mask.reshape(-1)
    if flat.numel() and flat.dtype != torch.uint8:
        lowest, highest = (int(value) for value in flat.aminmax())
        if lowest < 0 or highest >= _TABLE:  # not to be counted in a table
            values, counts = np.unique(flat.numpy(), return_counts=True)
            return list(zip(values.tolist(), counts.tolist(), strict=True))
    pixels = torch.bincount(flat)
    return [(value, int(pixels[value])) for value in pixels.nonzero().flatten().tolist()]


def check_color_table(color_table: Colors, void_colors: Colors, num_values: int, ignore_index: int | None) -> None:
    """Refuses a color table that does not fit the classes.

    Raises:
        ValueError: the table has not one color for each class, a color is not [red, green, blue] of 0 to 255 or is
            given twice, or there are void colors and no `ignore_index`.
    """
    if len(color_table) != num_values:
        raise ValueError(
            f"data.color_table has {len(color_table)} colors, but masks hold {num_values} classes: give one for each."
        )
    seen: set[tuple[int, ...]] = set()
    for color in chain.from_iterable(colors_of(entry) for entry in (*color_table, *void_colors)):
        if len(color) != 3 or not all(0 <= part <= 255 for part in color):
            raise ValueError(
                f"data.color_table or data.void_colors holds {list(color)}: give [red, green, blue], 0 to 255."
            )
        if tuple(color) in seen:
            raise ValueError(f"the color {list(color)} occurs twice in data.color_table and data.void_colors.")
        seen.add(tuple(color))
    if void_colors and ignore_index is None:
        raise ValueError("data.void_colors need data.ignore_index, the value that their pixels get.")


def colors_of(entry: Color | Sequence[Color]) -> list[list[int]]:
    """The colors of a class: one, or several."""
    several = [entry] if not any(isinstance(part, Sequence) for part in entry) else entry
    return [list(color) for color in several]  # type: ignore[arg-type]


def _check_exact(source: OpenedImage) -> None:
    """Refuses what does not give back the values that were saved."""
    mask = f"mask {source.path}"
    if source.is_lossy:
        name = "lossy WebP" if source.kind == "WEBP" else source.kind
        raise ImageFileError(
            f"{mask} is a {name}, whose compression changes labels: save it as PNG, or, if it shows one class, give "
            "data.threshold=128, the value from which on pixels are that class."
        )
    if source.rawmode == "1;I" and source.kind == "PPM":
        raise ImageFileError(
            f"{mask} is a PBM, of which 1 is black, and programs differ in its values: save it as PNG."
        )
    if source.image.info.get("compression") in _LOSSY_TIFF:
        raise ImageFileError(f"{mask} is a TIFF with JPEG or WebP compression, which changes labels: save it as PNG.")
    if source.image.mode == "F":
        raise ImageFileError(f"{mask} holds floating-point pixels, which are not labels: save it as a gray PNG.")
    if source.is_inverted:
        raise ImageFileError(
            f"{mask} is a TIFF of which 0 is white, and programs differ in its values: save it as PNG."
        )
    if source.is_wide_color:
        raise ImageFileError(f"{mask} has 16 bits a channel, and colors have 8: save it with 8 bits a channel.")
    if not _EXACT.fullmatch(source.rawmode):
        raise ImageFileError(
            f"{mask} has pixels of Pillow's type {source.image.mode!r} ({source.rawmode}): "
            "save it as a gray, palette or RGB PNG."
        )


def _pixels(source: OpenedImage, *, in_colors: bool) -> npt.NDArray[Any]:
    """Labels `(H, W)`, or colors `(H, W, 3)`, as they lie in the file."""
    image = source.image
    array = np.asarray(image)
    if image.mode.startswith("I"):
        if in_colors:
            raise ImageFileError(
                f"mask {source.path} is gray with more than 8 bits, and data.color_table has colors of 0 to 255: "
                "save it with 8 bits, or leave the table out where its values are the classes."
            )
        # Pillow has no unsigned 32 bits.
        values = array.astype(np.int64) & 0xFFFFFFFF if source.is_unsigned_32 else array.astype(np.int64)
        return source.unstretched(values)
    if image.mode in ("LA", "RGBA", "PA"):
        _check_alpha(np.asarray(image.convert("RGBA")), source.path)
    if source.is_signed:
        array = array.view(np.int8)
        if in_colors and array.min() < 0:
            raise ImageFileError(f"mask {source.path} holds {array.min()}, and colors are 0 to 255.")
    if image.mode in ("RGB", "RGBA", "LA", "PA") or (in_colors and not source.is_signed):
        return np.asarray(image.convert("RGB"))
    if in_colors:
        return np.repeat(array[..., None], 3, axis=-1)
    step = _STEP.get(source.rawmode.removesuffix("R"))
    return source.unstretched(array if step is None else array // step)


def _check_alpha(pixels: npt.NDArray[np.uint8], path: str | Path) -> None:
    """Refuses an alpha channel that tells apart what the colors do not: the labels may be there."""
    alpha = pixels[..., 3]
    if alpha.min() == alpha.max():
        return
    colors = _codes(pixels[..., :3])
    both = colors << 8 | alpha
    if len(np.unique(both)) > len(np.unique(colors)):
        raise ImageFileError(
            f"mask {path} has pixels of one color that differ in their alpha channel, which is not read: "
            "save the labels as gray or colors, without alpha."
        )


def _from_colors(
    colors: npt.NDArray[Any], path: str | Path, table: Colors, void: Colors, ignore_index: int | None
) -> Tensor:
    codes = _codes(colors)
    listed = [(color, label) for label, entry in enumerate(table) for color in colors_of(entry)]
    listed += [(color, ignore_index) for entry in void for color in colors_of(entry)]  # type: ignore[misc]
    known = _codes(np.array([color for color, _ in listed], dtype=np.int64).reshape(-1, 3))
    labels = np.array([label for _, label in listed], dtype=np.int64)
    order = known.argsort()
    place = order[np.searchsorted(known, codes, sorter=order).clip(max=len(known) - 1)]
    unknown = known[place] != codes
    if unknown.any():
        found, counts = np.unique(codes[unknown], return_counts=True)
        code, count = int(found[counts.argmax()]), int(counts.max())
        more = f" (and {len(found) - 1} more such colors)" if len(found) > 1 else ""
        raise ValueError(
            f"mask {path} holds color {[code >> 16, code >> 8 & 255, code & 255]} in {count:,} pixels{more}, which is "
            "neither in data.color_table nor in data.void_colors: add it to one of them."
        )
    return torch.from_numpy(labels[place])


def _codes(colors: npt.NDArray[np.generic]) -> npt.NDArray[np.int64]:
    red, green, blue = np.moveaxis(colors.astype(np.int64), -1, 0)
    codes: npt.NDArray[np.int64] = red << 16 | green << 8 | blue
    return codes
