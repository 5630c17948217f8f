"""Other colors of training images: one mixture of the three, whatever is changed of them, and blur."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lightning_seg.data.warp import kernels

# Red, green and blue as luminance and two numbers of chrominance, by the standard of NTSC; gray has none of these.
_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
_LUMINANCE = _TO_YIQ[0]
_ROWS = 64  # of a large image, about as many and as many columns are enough for its mean


@dataclass(frozen=True)
class ColorRanges:
    """Largest changes, each drawn uniformly, and all made in an order that is drawn too.

    Args:
        brightness: colors are multiplied by 1 - brightness to 1 + brightness, and by nothing below 0.
        contrast: as much for their differences from the image's mean luminance, by a grid of pixels of large images.
        saturation: as much for their differences from their own luminance.
        hue: they are turned about gray by up to so much of the circle, either way, at equal luminance.

    Raises:
        ValueError: one is below 0, or hue above 0.5.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "saturation"):
            if not getattr(self, name) >= 0:
                raise ValueError(
                    f"augment.{name}={getattr(self, name)} is the largest change, as a share: give 0 or more."
                )
        if not 0 <= self.hue <= 0.5:
            raise ValueError(f"augment.hue={self.hue} is the largest change: give 0 to 0.5, half the color circle.")

    @property
    def is_nothing(self) -> bool:
        """Whether colors stay as they are."""
        return not (self.brightness or self.contrast or self.saturation or self.hue)

    def draw(self) -> list[tuple[str, float]]:
        """Changes in their order, each with a factor, or of hue with the part of the circle."""
        drawn = []
        for index in torch.randperm(4).tolist():
            name = ("brightness", "contrast", "saturation", "hue")[index]
            largest = getattr(self, name)
            if largest:
                low, high = (-largest, largest) if name == "hue" else (max(0.0, 1 - largest), 1 + largest)
                drawn.append((name, uniform(low, high)))
        return drawn


def uniform(low: float, high: float) -> float:
    """A number from torch's random numbers."""
    return float(torch.empty(1).uniform_(low, high))


def changed_colors(image: Tensor, changes: Sequence[tuple[str, float]]) -> Tensor:
    """An image `(1, H, W)` or `(3, H, W)` after `ColorRanges.draw`, clipped once, in its own type; others as they are.

    uint8 and uint16 are of their whole range, floats in [0, 1].
    """
    if len(image) not in (1, 3) or not changes:
        return image
    mixture = _mixture(changes, image)
    compiled = kernels()
    if compiled is not None and image.dtype == torch.uint8 and len(image) == 3:
        source = image.contiguous()
        made = torch.empty_like(source)
        rows = [tuple(row) for row in mixture.astype(np.float32)]
        compiled.mix_colors(source.view(3, -1).numpy(), *rows, made.view(3, -1).numpy())
        return made
    if len(image) == 1:  # gray is the same in all colors, and stays so
        mixture = np.array([[mixture[0, :3].sum(), mixture[0, 3]]])
    shares = torch.from_numpy(mixture).float()
    mixed = torch.einsum("dc,chw->dhw", shares[:, :-1], image.float()) + shares[:, -1, None, None]
    if not image.is_floating_point():
        mixed = (mixed + 0.5).floor_()
    return mixed.clamp_(0, _top(image)).to(image.dtype)


def blurred(image: Tensor, sigma: float) -> Tensor:
    """An image `(channels, H, W)` after a Gaussian of 5×5 pixels, mirrored at its border, in its own type."""
    weights = [math.exp(-((offset / sigma) ** 2) / 2) for offset in range(-2, 3)]
    made = image.float()
    for axis in (-2, -1):
        length = image.shape[axis]
        mirrored = torch.from_numpy(np.pad(np.arange(length), 2, mode="reflect"))
        wide = made.index_select(axis, mirrored)
        made = torch.zeros_like(made)
        for place, weight in enumerate(weights):
            made.add_(wide.narrow(axis, place, length), alpha=weight / sum(weights))
    return made.to(image.dtype) if image.is_floating_point() else made.round_().clamp_(0, _top(image)).to(image.dtype)


def _mixture(changes: Sequence[tuple[str, float]], image: Tensor) -> npt.NDArray[np.float64]:
    """`(3, 4)`: what each color has of the three, and is added to it."""
    mixture = np.eye(3, 4)
    for name, amount in changes:
        if name == "brightness":
            mixture *= amount
        elif name == "contrast":
            mean = _LUMINANCE @ mixture @ np.append(_means(image), 1)
            mixture *= amount
            mixture[:, 3] += (1 - amount) * mean
        elif name == "saturation":
            mixture = (amount * np.eye(3) + (1 - amount) * _LUMINANCE) @ mixture
        else:
            mixture = _turned(amount) @ mixture
    return mixture


def _turned(share: float) -> npt.NDArray[np.float64]:
    """By a share of the circle of chrominance."""
    cosine, sine = math.cos(2 * math.pi * share), math.sin(2 * math.pi * share)
    turn = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
    turned: npt.NDArray[np.float64] = np.linalg.solve(_TO_YIQ, turn @ _TO_YIQ)
    return turned


def _means(image: Tensor) -> npt.NDArray[np.float64]:
    step = max(1, min(image.shape[-2:]) // _ROWS)
    means: npt.NDArray[np.float64] = image[:, ::step, ::step].float().mean((1, 2)).double().numpy()
    return np.broadcast_to(means, 3)


def _top(image: Tensor) -> float:
    return 1.0 if image.is_floating_point() else torch.iinfo(image.dtype).max
