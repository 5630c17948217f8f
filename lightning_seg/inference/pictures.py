"""Pictures of predictions beside the target."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from lightning_seg.inference.masks import Palette
from lightning_seg.renamed import renamed_arguments
from lightning_seg.text import printable

_CELL = 320
_GAP = 8
_TEXT = 16
_LINE = 24
_SWATCH = 16
_INK = (32, 32, 32)
_PAPER = (255, 255, 255)
_ERROR = (230, 30, 40)
_TITLES = ("image", "target", "prediction", "errors")

_Pixels = npt.NDArray[np.uint8]


@renamed_arguments(truths="targets")
def prediction_picture(
    images: Sequence[Tensor],
    targets: Sequence[Tensor],
    predictions: Sequence[Tensor],
    palette: Palette,
    class_names: Sequence[str],
    ignore_index: int | None = None,
) -> Image.Image:
    """One row an image: the image, its target, its prediction, and the errors in red over the darkened image.

    Void pixels of the target are striped gray, which no class is. Below is a legend. Images larger than 320 pixels are
    shrunk, small ones enlarged by whole factors. Of several labels a pixel the first is drawn, and none is white; it is
    an error where any of them is.

    Args:
        images: each `(channels, H, W)`, float in [0, 1], with 1 or 3 channels; of more, the first 3 are shown.
        targets: each `(H, W)`, integer labels or `ignore_index`; or all `(C, H, W)`, 0 and 1 or `ignore_index`.
        predictions: each `(H, W)`, integer labels; or `(C, H, W)`, 0 and 1.
        palette: `(red, green, blue)` of each label, 0 ... 255.
        class_names: one for each color, or without the first, which is then called background (the binary task).
        ignore_index: the target's value of void pixels.

    Returns:
        An RGB picture.

    Raises:
        ValueError: no images, numbers or sizes that differ, or a label without a color.
    """
    if not images or not len(images) == len(targets) == len(predictions):
        raise ValueError(
            f"expected at least one image, and as many targets and predictions, but got {len(images)}, {len(targets)} "
            f"and {len(predictions)}."
        )
    if len(palette) == len(class_names) + 1:
        class_names = ["background", *class_names]
    if len(palette) != len(class_names):
        raise ValueError(f"got {len(palette)} colors for {len(class_names)} class names; expected one for each.")
    if targets[0].ndim == 3:
        classes = len(targets[0])
        palette, class_names = [*palette[-classes:], _PAPER], [*class_names[-classes:], "no label"]
    colors = np.array([tuple(color) for color in palette], dtype=np.uint8)
    rows = [
        _cells(image, _labels(target), _labels(prediction), colors, ignore_index)
        for image, target, prediction in zip(images, targets, predictions, strict=True)
    ]

    font = ImageFont.load_default(_TEXT)
    cell_width = max(max(cell.width for row in rows for cell in row), 96)
    width = _GAP + len(_TITLES) * (cell_width + _GAP)
    has_void = any(bool(_void(_labels(target), ignore_index).any()) for target in targets)
    legend = _legend(class_names, colors, has_void, width, font)
    height = _LINE + sum(row[0].height + _GAP for row in rows) + legend.height
    picture = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(picture)
    lefts = [_GAP + column * (cell_width + _GAP) for column in range(len(_TITLES))]
    for left, title in zip(lefts, _TITLES, strict=True):
        draw.text((left + cell_width // 2, _LINE // 2), title, fill=_INK, font=font, anchor="mm")
    top = _LINE
    for row in rows:
        for left, cell in zip(lefts, row, strict=True):
            picture.paste(cell, (left + (cell_width - cell.width) // 2, top))
        top += row[0].height + _GAP
    picture.paste(legend, (0, top))
    return picture


def _labels(labels: Tensor) -> npt.NDArray[np.int64]:
    array: npt.NDArray[np.int64] = labels.detach().cpu().numpy().astype(np.int64)
    return array


def _cells(
    image: Tensor,
    target: npt.NDArray[np.int64],
    prediction: npt.NDArray[np.int64],
    colors: _Pixels,
    ignore_index: int | None,
) -> list[Image.Image]:
    height, width = int(image.shape[-2]), int(image.shape[-1])
    if target.shape[-2:] != (height, width) or prediction.shape != target.shape:
        raise ValueError(
            f"expected target and prediction of the image's size {height} x {width}, but got {tuple(target.shape)} and "
            f"{tuple(prediction.shape)}."
        )
    larger = max(height, width)
    factor = _CELL // larger if larger <= _CELL else _CELL / larger
    size = (max(1, round(width * factor)), max(1, round(height * factor)))

    pixels = image.detach().float().clamp(0, 1).cpu()
    pixels = pixels[:3] if len(pixels) >= 3 else pixels[:1].expand(3, -1, -1)
    photograph = Image.fromarray((255 * pixels.permute(1, 2, 0).numpy()).round().astype(np.uint8))
    photograph = photograph.resize(size, Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.BOX)
    target, prediction = _nearest(target, size), _nearest(prediction, size)

    void = _void(target, ignore_index)
    wrong = target != prediction
    if target.ndim == 3:
        wrong = (wrong & (target != ignore_index)).any(0)
        target, prediction = _first(target), _first(prediction)
    wrong &= ~void
    errors = np.asarray(photograph.convert("L").convert("RGB")) // 3
    errors = np.where(wrong[..., None], np.array(_ERROR, np.uint8), errors)
    stripes = _stripes(size)
    drawn = [
        np.where(void[..., None], stripes, _colored(np.where(void, 0, target), colors)),
        _colored(prediction, colors),
        np.where(void[..., None], stripes, errors),
    ]
    return [photograph, *(Image.fromarray(cell.astype(np.uint8)) for cell in drawn)]


def _nearest(labels: npt.NDArray[np.int64], size: tuple[int, int]) -> npt.NDArray[np.int64]:
    rows = (2 * np.arange(size[1]) + 1) * labels.shape[-2] // (2 * size[1])
    columns = (2 * np.arange(size[0]) + 1) * labels.shape[-1] // (2 * size[0])
    nearest: npt.NDArray[np.int64] = labels[..., rows[:, None], columns]
    return nearest


def _void(target: npt.NDArray[np.int64], ignore_index: int | None) -> npt.NDArray[np.bool_]:
    """Where a target has no label that counts, `(H, W)`."""
    is_void = np.zeros(target.shape, dtype=bool) if ignore_index is None else target == ignore_index
    return np.asarray(is_void.all(0) if target.ndim == 3 else is_void)


def _first(labels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The first label of each pixel, `(H, W)`, of `(C, H, W)`; C where it has none."""
    has_label = labels == 1
    first: npt.NDArray[np.int64] = np.where(has_label.any(0), has_label.argmax(0), len(labels))
    return first


def _colored(labels: npt.NDArray[np.int64], colors: _Pixels) -> _Pixels:
    if labels.min() < 0 or labels.max() >= len(colors):
        label = int(labels.min() if labels.min() < 0 else labels.max())
        raise ValueError(f"label {label} has no color: the palette has {len(colors)}, and it is not ignore_index.")
    return colors[labels]


def _stripes(size: tuple[int, int]) -> _Pixels:
    rows, columns = np.arange(size[1])[:, None], np.arange(size[0])
    light = ((rows + columns) // 4 % 2).astype(bool)
    return np.where(light[..., None], np.uint8(190), np.uint8(150)).repeat(3, axis=2)


def _legend(names: Sequence[str], colors: _Pixels, has_void: bool, width: int, font: Any) -> Image.Image:
    entries: list[tuple[str, Image.Image]] = [
        (name, Image.new("RGB", (_SWATCH, _SWATCH), tuple(int(value) for value in color)))
        for name, color in zip(names, colors, strict=True)
    ]
    if has_void:
        entries.append(("void", Image.fromarray(_stripes((_SWATCH, _SWATCH)))))
    entries.append(("error", Image.new("RGB", (_SWATCH, _SWATCH), _ERROR)))
    room = width - 3 * _GAP - _SWATCH
    entries = [(_shortened(printable(name), room, font), swatch) for name, swatch in entries]
    column_width = _SWATCH + 3 * _GAP + int(max(font.getlength(name) for name, _ in entries))
    columns = max(1, min(len(entries), (width - _GAP) // column_width))
    lines = -(-len(entries) // columns)
    legend = Image.new("RGB", (width, lines * _LINE + _GAP), _PAPER)
    draw = ImageDraw.Draw(legend)
    for index, (name, swatch) in enumerate(entries):
        left, top = _GAP + index % columns * column_width, index // columns * _LINE
        legend.paste(swatch, (left, top + (_LINE - _SWATCH) // 2))
        draw.rectangle((left, top + 4, left + _SWATCH - 1, top + 4 + _SWATCH - 1), outline=_INK)
        draw.text((left + _SWATCH + _GAP, top + _LINE // 2), name, fill=_INK, font=font, anchor="lm")
    return legend


def _shortened(name: str, room: int, font: Any) -> str:
    if font.getlength(name) <= room:
        return name
    while name and font.getlength(name + "...") > room:
        name = name[:-1]
    return name + "..."
