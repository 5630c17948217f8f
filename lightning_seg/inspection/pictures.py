"""Pictures of samples, for the page."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from lightning_seg.report.pictures import data_uri

_SIDE = 260  # pixels
_VOID = (150, 150, 150)
_SHOWN = 0.55  # of the class's color over the image

Palette = Sequence[Sequence[int]]


def image_picture(image: Tensor) -> str:
    """An image as text for a page.

    Args:
        image: float `(channels, H, W)` in [0, 1]; of more than three channels the first three are shown.
    """
    return data_uri(_fitted(_photograph(image)), "WEBP", quality=80)


def overlay_picture(image: Tensor, mask: Tensor, palette: Palette) -> str:
    """An image with its mask over it as text for a page; void is gray.

    Of several labels a pixel the first is drawn; where it has none, the image is left as it is.

    Args:
        image: as of `image_picture`.
        mask: integer `(H, W)`, or `(C, H, W)`, 1 where a pixel has the label and 0 where not.
        palette: (red, green, blue) of each mask value.
    """
    photograph = _fitted(_photograph(image))
    labels, is_shown = mask.numpy(), np.ones(mask.shape[-2:], dtype=bool)
    if labels.ndim == 3:
        has_label, is_shown = labels == 1, (labels != 0).any(0)
        labels = np.where(has_label.any(0), has_label.argmax(0), len(palette))
    known = (labels >= 0) & (labels < len(palette))
    table = np.array([*palette, _VOID], dtype=np.uint8)
    colors, shown = (
        Image.fromarray(pixels).resize(photograph.size, Image.Resampling.NEAREST)
        for pixels in (table[np.where(known, labels, len(palette))], (255 * is_shown).astype(np.uint8))
    )
    picture = Image.composite(Image.blend(photograph, colors, _SHOWN), photograph, shown)
    return data_uri(picture, "WEBP", quality=80)


def _photograph(image: Tensor) -> npt.NDArray[np.uint8]:
    pixels = image[:3] if len(image) >= 3 else image[:1].expand(3, -1, -1)
    array: Any = (255 * pixels.float().clamp(0, 1)).round().to(torch.uint8).movedim(0, -1).numpy()
    return np.ascontiguousarray(array)


def _fitted(pixels: npt.NDArray[np.uint8]) -> Image.Image:
    picture = Image.fromarray(pixels)
    factor = _SIDE / max(picture.size)
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    return picture.resize(size, Image.Resampling.BOX if factor < 1 else Image.Resampling.NEAREST)
