"""Reading label masks, and finding the values in them that are not a class."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from lightning_seg.data.images import open_upright
from lightning_seg.task import out_of_range

Colors = Sequence[Sequence[int]]


def load_mask(
    path: str | Path,
    *,
    color_table: Colors | None = None,
    void_colors: Colors = (),
    ignore_index: int | None = None,
) -> Tensor:
    """A mask as int64 `(H, W)`, upright by its EXIF orientation.

    Without a color table: the values of an 8- or 16-bit gray file, of a gray file stored as RGB, or the indices of a
    palette file. They are not checked here; see `check_values`.

    Args:
        path: PNG, TIFF or BMP. JPEG changes values and is refused.
        color_table: [red, green, blue] of each class in order; the file's colors are looked up in it.
        void_colors: colors that become `ignore_index`.
        ignore_index: the value of void pixels.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file cannot be read, is a JPEG, is in colors and no table was given, or holds a color that is
            in neither list.
    """
    mask = open_upright(path)
    if Path(path).suffix.lower() in (".jpg", ".jpeg"):
        raise ValueError(f"mask {path} is a JPEG, whose compression changes labels: save it as PNG.")
    if color_table is not None:
        return _from_colors(mask, path, color_table, void_colors, ignore_index)
    if mask.mode in ("1", "L", "P") or mask.mode.startswith("I"):
        return torch.from_numpy(np.asarray(mask).astype(np.int64))
    if mask.mode in ("RGB", "RGBA", "LA"):
        colors = np.asarray(mask.convert("RGB"))
        gray = (colors == colors[..., :1]).all(-1)
        if gray.all():
            return torch.from_numpy(colors[..., 0].astype(np.int64))
        example = colors[~gray][0].tolist()
        raise ValueError(
            f"mask {path} is colored, {example} for instance, in {(~gray).sum():,} pixels: "
            "say which color is which class with data.color_table."
        )
    raise ValueError(f"mask {path} has pixels of Pillow's type {mask.mode!r}: save it as a gray, palette or RGB PNG.")


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
            raise ValueError(f"the color {list(color)} is twice in data.color_table and data.void_colors.")
        seen.add(tuple(color))
    if void_colors and ignore_index is None:
        raise ValueError("data.void_colors need data.ignore_index, the value that their pixels get.")


def _from_colors(mask: Image.Image, path: str | Path, table: Colors, void: Colors, ignore_index: int | None) -> Tensor:
    codes = _codes(np.asarray(mask.convert("RGB")))
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
