"""Plain plots of an evaluation, drawn by Pillow."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from lightning_seg.text import printable

_INK, _PAPER, _LINE, _GRID = (40, 40, 40), (255, 255, 255), (31, 90, 180), (215, 215, 215)
_SIDE, _EDGE = 360, 60


def confusion_picture(matrix: npt.NDArray[np.int64], names: Sequence[str]) -> Image.Image:
    """Shares of each target's pixels by prediction, in percent, rows the target.

    Args:
        matrix: pixel counts `(C, C)`.
        names: one for each class.
    """
    cell = 44 if len(names) <= 24 else 14
    font = ImageFont.load_default(11)
    room = 24 + int(max(font.getlength(_short(name)) for name in names))
    side = cell * len(names)
    title = "prediction, % of each target's pixels"
    width = room + max(side, int(font.getlength(title))) + 10
    picture = Image.new("RGB", (width, room + side + 24), _PAPER)
    draw = ImageDraw.Draw(picture)
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    draw.text((room, 4), title, fill=_INK, font=font)
    for row, name in enumerate(names):
        middle = room + row * cell + cell // 2
        draw.text((room - 6, middle + 14), _short(name), fill=_INK, font=font, anchor="rm")
        label = Image.new("RGB", (room, 14), _PAPER)
        ImageDraw.Draw(label).text((4, 7), _short(name), fill=_INK, font=font, anchor="lm")
        picture.paste(label.rotate(90, expand=True).crop((0, 20, 14, room)), (middle - 7, 20 + 14))
        for column in range(len(names)):
            share = float(shares[row, column])
            left, top = room + column * cell, room + row * cell + 14
            color = tuple(round(255 + share * (part - 255)) for part in _LINE)
            draw.rectangle((left, top, left + cell - 2, top + cell - 2), fill=color)
            if cell > 20 and matrix[row].sum():
                ink = _PAPER if share > 0.5 else _INK
                text = f"{100 * share:.1f}"
                draw.text((left + cell // 2, top + cell // 2), text, fill=ink, font=font, anchor="mm")
    return picture


def curve_picture(
    x: Sequence[float], y: Sequence[float], titles: tuple[str, str], *, diagonal: bool = False
) -> Image.Image:
    """A curve from 0 to 1 in both directions; points that are not finite are left out.

    Args:
        x: of each point.
        y: likewise.
        titles: of the axes.
        diagonal: whether x = y is drawn.
    """
    font = ImageFont.load_default(12)
    picture = Image.new("RGB", (_SIDE + 2 * _EDGE, _SIDE + 2 * _EDGE), _PAPER)
    draw = ImageDraw.Draw(picture)

    def place(a: float, b: float) -> tuple[float, float]:
        return _EDGE + a * _SIDE, _EDGE + (1 - b) * _SIDE

    for tick in np.linspace(0, 1, 6):
        draw.line((place(tick, 0), place(tick, 1)), fill=_GRID)
        draw.line((place(0, tick), place(1, tick)), fill=_GRID)
        left, bottom = place(tick, 0)
        draw.text((left, bottom + 12), f"{tick:.1f}", fill=_INK, font=font, anchor="mm")
        left, top = place(0, tick)
        draw.text((left - 16, top), f"{tick:.1f}", fill=_INK, font=font, anchor="mm")
    if diagonal:
        draw.line((place(0, 0), place(1, 1)), fill=_INK)
    points = [place(a, b) for a, b in zip(x, y, strict=True) if np.isfinite(a) and np.isfinite(b)]
    if len(points) > 1:
        draw.line(points, fill=_LINE, width=2)
    if len(points) <= 50:
        for left, top in points:
            draw.ellipse((left - 3, top - 3, left + 3, top + 3), fill=_LINE)
    draw.text((_EDGE + _SIDE / 2, _SIDE + 1.6 * _EDGE), titles[0], fill=_INK, font=font, anchor="mm")
    draw.text((_EDGE, _EDGE / 2), titles[1], fill=_INK, font=font, anchor="lm")
    return picture


def _short(name: str) -> str:
    name = printable(name)
    return name if len(name) <= 18 else f"{name[:16]}.."
