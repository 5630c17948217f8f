"""Reading label masks, and finding the values in them that are not a class."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lightning_seg.data.image_files import MAX_PIXELS, ImageFileError, OpenedImage, open_image
from lightning_seg.task import out_of_range

MASK_KINDS = ("PNG", "TIFF", "BMP", "GIF", "JPEG", "WEBP")  # the last two to be refused for what they are
Colors = Sequence[Sequence[int]]
_BYTES_PER_PIXEL = 12  # a label of eight, and what Pillow has beside it
_LOSSY = ("JPEG", "WEBP")
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
) -> Tensor:
    """A mask as int64 `(H, W)`, upright by its EXIF orientation.

    Without a color table: the values of a gray file of up to 32 bits, of a gray file stored as RGB, or the indices of
    a palette file. They are not checked here; see `check_values`.

    Args:
        path: PNG, TIFF, BMP or GIF, by its content. JPEG and WebP change values and are refused.
        color_table: [red, green, blue] of each class in order; the file's colors are looked up in it.
        void_colors: colors that become `ignore_index`.
        ignore_index: the value of void pixels.
        max_pixels: a mask of more pixels is refused before it is decoded.

    Raises:
        OSError: there is no such file (`FileNotFoundError`), it cannot be read, or it is a named pipe or a device.
        ValueError: the file cannot be read, its pixels are not exactly those that were saved, it is in colors and no
            table was given, holds a color that is in neither list, or differs in its alpha channel alone.
        MemoryError: it does not fit into memory.
    """
    with open_image(path, MASK_KINDS, max_pixels=max_pixels, bytes_per_pixel=_BYTES_PER_PIXEL) as source:
        _check_exact(source)
        source.image.load()
        pixels = source.upright(_pixels(source, in_colors=color_table is not None))
    if color_table is not None:
        return _from_colors(pixels, path, color_table, void_colors, ignore_index)
    if pixels.ndim == 2:
        return torch.from_numpy(pixels.astype(np.int64))
    gray = (pixels == pixels[..., :1]).all(-1)
    if gray.all():
        return torch.from_numpy(pixels[..., 0].astype(np.int64))
    example = pixels[~gray][0].tolist()
    raise ValueError(
        f"mask {path} is colored, {example} for instance, in {(~gray).sum():,} pixels: "
        "say which color is which class with data.color_table."
    )


def check_values(mask: Tensor, path: str | Path, num_values: int, ignore_index: int | None) -> Tensor:
    """Pixels of each value 0..num_values-1, int64 `(num_values,)`.

    Raises:
        ValueError: the mask holds another value than these and `ignore_index`; it names the file, the value and the
            number of pixels.
    """
    values, pixels = np.unique(mask.numpy(), return_counts=True)
    counts = torch.zeros(num_values, dtype=torch.int64)
    wrong = []
    for value, count in zip(values.tolist(), pixels.tolist(), strict=True):
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
        raise ValueError(f"mask {path} holds {message} If its values stand for other classes, give data.color_table.")
    return counts


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
    for color in (*color_table, *void_colors):
        if len(color) != 3 or not all(0 <= part <= 255 for part in color):
            raise ValueError(
                f"data.color_table or data.void_colors holds {list(color)}: give [red, green, blue], 0 to 255."
            )
        if tuple(color) in seen:
            raise ValueError(f"the color {list(color)} occurs twice in data.color_table and data.void_colors.")
        seen.add(tuple(color))
    if void_colors and ignore_index is None:
        raise ValueError("data.void_colors need data.ignore_index, the value that their pixels get.")


def _check_exact(source: OpenedImage) -> None:
    """Refuses what does not give back the values that were saved."""
    mask = f"mask {source.path}"
    if source.kind in _LOSSY:
        name = "WebP" if source.kind == "WEBP" else source.kind
        raise ImageFileError(f"{mask} is a {name}, whose compression changes labels: save it as PNG.")
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
        return array.astype(np.int64) & 0xFFFFFFFF if source.is_unsigned_32 else array.astype(np.int64)
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
    return array // _STEP.get(source.rawmode.removesuffix("R"), 1)


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
    known = _codes(np.array([*table, *void], dtype=np.int64).reshape(-1, 3))
    labels = np.array([*range(len(table)), *[ignore_index for _ in void]], dtype=np.int64)
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
