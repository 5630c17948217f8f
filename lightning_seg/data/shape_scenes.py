"""Drawing one picture of the embedded data set, and its labels."""

import colorsys
import math

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

CLASS_NAMES = ("background", "disc", "square", "triangle", "line", "dot")
VOID = 255  # In a scene's labels: the rim of background around an object.
_FINE = 3  # Objects are drawn this many times finer, then averaged, which smooths their edges.
_HUES = (0.0, 0.0, 0.14, 0.32, 0.58, 0.86)
_HUE_SPREAD = 0.03  # Wide enough that neighboring classes share colors, so that shape matters.

Array = npt.NDArray[np.float32]


def draw_scene(generator: np.random.Generator, size: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """A picture of objects on a textured background.

    It holds up to four large objects (disc, square, triangle), up to five small ones, thin lines, and dots, the rare
    class. All are shaded, lit unevenly and noisy.

    Args:
        generator: all randomness comes from it.
        size: height and width in pixels.

    Returns:
        The image `(size, size, 3)`, and labels `(size, size)`: indices of `CLASS_NAMES`, and `VOID` in a rim one
        pixel wide around the objects.
    """
    image = _background(generator, size)
    labels = np.zeros((size, size), np.uint8)
    radii = np.concatenate(
        [
            generator.uniform(0.13, 0.24, generator.integers(1, 4)),
            generator.uniform(0.05, 0.09, generator.integers(1, 5)),
        ]
    )
    kinds = [int(generator.integers(1, 4)) for _ in radii]
    kinds += [4] * int(generator.integers(1, 4)) + [5] * int(generator.integers(0, 5))
    for index, kind in enumerate(kinds):
        alpha = _cover(generator, kind, float(radii[index]) if index < len(radii) else 0.0, size)
        color = color_of(generator, kind) * (1 + generator.uniform(-0.35, 0.35) * _ramp(generator, size))[..., None]
        image += alpha[..., None] * (color - image)
        labels[alpha > 0.5] = kind
    image *= (1 + 0.3 * _ramp(generator, size))[..., None]
    image += generator.normal(0, 0.035, image.shape)
    grown = np.asarray(Image.fromarray(labels).filter(ImageFilter.MaxFilter(3)))
    labels[(labels == 0) & (grown > 0)] = VOID
    return (image.clip(0, 1) * 255).round().astype(np.uint8), labels


def _cover(generator: np.random.Generator, kind: int, radius: float, size: int) -> Array:
    """How much of each pixel an object covers, in [0, 1]."""
    full = size * _FINE
    canvas = Image.new("L", (full, full))
    draw = ImageDraw.Draw(canvas)
    x, y = generator.uniform(0.06, 0.94, 2) * full
    angle = generator.uniform(0, 2 * math.pi)
    r = radius * full
    if kind == 1:
        draw.ellipse((x - r, y - r, x + r, y + r), fill=255)
    elif kind in (2, 3):
        corners = {2: 4, 3: 3}[kind]
        turns = [angle + 2 * math.pi * corner / corners for corner in range(corners)]
        reach = r * {2: 1.15, 3: 1.3}[kind]
        draw.polygon([(x + reach * math.cos(turn), y + reach * math.sin(turn)) for turn in turns], fill=255)
    elif kind == 4:
        half = generator.uniform(0.2, 0.45) * full
        across, down = half * math.cos(angle), half * math.sin(angle)
        width = round(generator.uniform(1.8, 3.0) * full / 96)
        draw.line((x - across, y - down, x + across, y + down), fill=255, width=width)
    else:
        r = generator.uniform(2.0, 2.8) * full / 96
        draw.ellipse((x - r, y - r, x + r, y + r), fill=255)
    return _unit(canvas.reduce(_FINE))


def color_of(generator: np.random.Generator, kind: int) -> Array:
    """A color of an object, `(3,)` in [0, 1]; those of neighboring classes overlap."""
    hue = (_HUES[kind] + generator.normal(0, _HUE_SPREAD)) % 1
    return np.array(colorsys.hsv_to_rgb(hue, generator.uniform(0.55, 0.9), generator.uniform(0.6, 0.95)), np.float32)


def _background(generator: np.random.Generator, size: int) -> Array:
    """Dull cloudy colors: coarse noise, enlarged."""
    coarse = generator.uniform(0.25, 0.6) + generator.normal(0, 0.08, (5, 5, 1)) + generator.normal(0, 0.025, (5, 5, 3))
    small = Image.fromarray((coarse.clip(0, 1) * 255).astype(np.uint8))
    return _unit(small.resize((size, size), Image.Resampling.BICUBIC))


def _unit(picture: Image.Image) -> Array:
    return (np.asarray(picture) / 255).astype(np.float32)


def _ramp(generator: np.random.Generator, size: int) -> Array:
    """A plane from -1 to 1 in a random direction, which shades."""
    angle = generator.uniform(0, 2 * math.pi)
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    plane = (axis * math.cos(angle) + axis[:, None] * math.sin(angle)) / (abs(math.cos(angle)) + abs(math.sin(angle)))
    return plane.astype(np.float32)
