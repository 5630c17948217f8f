"""Random changes of training images and their masks."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors

from lightning_seg.d4 import SYMMETRIES, Symmetry
from lightning_seg.data.colors import ColorRanges, blurred, changed_colors, uniform
from lightning_seg.data.masks import values_of
from lightning_seg.data.warp import View, seen_image, seen_labels
from lightning_seg.data.windows import Box
from lightning_seg.renamed import warn_renamed


def training_augmentation(
    *,
    crop_size: int | Sequence[int] | None,
    scale: Sequence[float],
    rotation: float,
    horizontal_flip: float,
    vertical_flip: float,
    brightness: float,
    contrast: float,
    saturation: float,
    hue: float,
    blur: float,
    ignore_index: int | None,
    d4: float = 0.0,
    dihedral: float | None = None,
    crop_on: str | Sequence[int] | None = None,
) -> "TrainingAugmentation":
    """Zoom and rotation, crop, flips, quarter turns, colors and blur, in this order; what is zero or None is left out.

    The result takes a mapping with a `tv_tensors.Image`, float in [0, 1] or uint8, and a `tv_tensors.Mask`, and gives
    one. Zoom, rotation and crop are one resampling, of what the crop shows alone, and all colors are changed at once:
    uint8 by kernels that Numba compiles, all else, or where Numba is not installed, by torch, which may round the
    other way.
    Without `crop_size` the size stays. Pixels that a rotation, a zoom or a crop brings in from outside are black in
    the image and `ignore_index` in the mask. Zoom and angle are uniform in their ranges, and so are places of the crop.

    Args:
        crop_size: side, or height and width, of a random crop; smaller images are padded.
        scale: smallest and largest zoom, for example (0.75, 1.5).
        rotation: largest angle, in degrees, either way.
        horizontal_flip: probability of mirroring left and right.
        vertical_flip: probability of mirroring top and bottom.
        brightness: largest change, as a share of the image's own; see `ColorRanges`, as the three that follow. Images
            of other than 1 or 3 channels keep their colors.
        contrast: likewise.
        saturation: likewise.
        hue: largest change, at most 0.5, where 1 is once round the color circle.
        blur: probability of a Gaussian blur of 5×5 pixels, with a standard deviation of 0.1 to 1.5.
        ignore_index: the mask value of void pixels. None allows neither rotation nor zooming out, whose empty corners
            need it; a crop larger than the image then repeats the image's last row and column.
        d4: probability of one of the eight symmetries of the square, each as likely, for images without a preferred
            orientation; of a result that is not square, of the four that keep its height and width.
        dihedral: the former name of `d4`.
        crop_on: `class` centers the crop on a pixel, drawn from those of a class that is drawn from the classes of the
            mask; a list of mask values draws from these, where the mask has one of them. Default: crops lie anywhere.

    Raises:
        ValueError: an option is outside its range, or needs an `ignore_index`.
    """
    if len(scale) != 2:
        raise ValueError(f"augment.scale={list(scale)} must be two factors, the smallest and the largest zoom.")
    smallest, largest = (float(factor) for factor in scale)
    if not 0 < smallest <= largest:
        raise ValueError(f"augment.scale=[{smallest}, {largest}] must be two factors above 0, the smaller one first.")
    if dihedral is not None:
        warn_renamed("augment.dihedral", "augment.d4")
        d4 = dihedral
    probabilities = {"horizontal_flip": horizontal_flip, "vertical_flip": vertical_flip, "d4": d4}
    for name, probability in {**probabilities, "blur": blur}.items():
        if not 0 <= probability <= 1:
            raise ValueError(f"augment.{name}={probability} must be a probability, from 0 to 1.")
    if ignore_index is None and (rotation or smallest < 1):
        raise ValueError(
            f"augment.rotation={rotation} and augment.scale=[{smallest}, {largest}] leave empty corners, which have no "
            "class: set data.ignore_index to a value that is not a class (255, for instance), or rotation=0 and no "
            "scale below 1."
        )
    size = _crop_size(crop_size)
    _check_crop_on(crop_on, size, ignore_index)
    return TrainingAugmentation(
        size=size,
        zoom=(smallest, largest),
        rotation=float(rotation),
        horizontal_flip=horizontal_flip,
        vertical_flip=vertical_flip,
        d4=d4,
        colors=ColorRanges(brightness, contrast, saturation, hue),
        blur=blur,
        ignore_index=ignore_index,
        crop_on=crop_on,
    )


def _crop_size(crop_size: int | Sequence[int] | None) -> tuple[int, int] | None:
    if crop_size is None:
        return None
    size = (crop_size, crop_size) if isinstance(crop_size, int) else tuple(int(length) for length in crop_size)
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"augment.crop_size={crop_size} must be a number of pixels, or height and width.")
    return size


def _check_crop_on(crop_on: str | Sequence[int] | None, size: object, ignore_index: int | None) -> None:
    if crop_on is None:
        return
    is_list = isinstance(crop_on, Sequence) and not isinstance(crop_on, str)
    if crop_on != "class" and not (is_list and all(type(value) is int for value in crop_on)):
        raise ValueError(f"augment.crop_on={crop_on} is neither class nor a list of mask values.")
    if size is None or ignore_index is None:
        raise ValueError(f"augment.crop_on={crop_on} needs augment.crop_size and data.ignore_index.")


class Drawn(NamedTuple):
    """What is changed of one image: what is seen of it, None for all, how that is turned, its colors, and its blur."""

    view: View | None
    symmetry: Symmetry
    colors: Sequence[tuple[str, float]]
    sigma: float | None

    def box(self, height: int, width: int) -> Box:
        """The part of the image that is needed."""
        return Box(0, height, 0, width) if self.view is None else self.view.box(height, width)

    def within(self, box: Box) -> "Drawn":
        """The same of that part alone."""
        return self if self.view is None else self._replace(view=self.view.within(box))


@dataclass(frozen=True)
class TrainingAugmentation:
    """Random changes of a mapping with images and masks; see `training_augmentation`, which makes it.

    Args:
        size: height and width of the crop; None for the image's own.
        zoom: the smallest and the largest.
        rotation: the largest, in degrees.
        horizontal_flip: probability.
        vertical_flip: likewise.
        d4: likewise.
        colors: their largest changes.
        blur: probability.
        ignore_index: the mask value of what lies outside of the image, which is black; None to repeat the outermost
            pixels there.
        crop_on: see `training_augmentation`.
    """

    size: tuple[int, int] | None
    zoom: tuple[float, float]
    rotation: float
    horizontal_flip: float
    vertical_flip: float
    d4: float
    colors: ColorRanges
    blur: float
    ignore_index: int | None
    crop_on: str | Sequence[int] | None

    def __call__(self, sample: Mapping[str, Any]) -> dict[str, Any]:
        """The sample, whose images and masks, `tv_tensors` of one size, have been changed; all else as it was.

        Raises:
            TypeError: it has no image, or boxes and the like, which would no longer fit.
        """
        images = {name: one for name, one in sample.items() if isinstance(one, tv_tensors.Image)}
        masks = {name: one for name, one in sample.items() if isinstance(one, tv_tensors.Mask)}
        unknown = [name for name, one in sample.items() if isinstance(one, tv_tensors.TVTensor)]
        unknown = [name for name in unknown if name not in images and name not in masks]
        if unknown or not images:
            kind = f"a {type(sample[unknown[0]]).__name__}" if unknown else "no Image"
            raise TypeError(f"augment changes images and masks of torchvision.tv_tensors, and a sample has {kind}.")
        height, width = next(iter(images.values())).shape[-2:]
        drawn = self.draw(height, width, next(iter(masks.values()), None))
        changed = dict(sample)
        for name, mask in masks.items():
            changed[name] = tv_tensors.Mask(self.changed_mask(mask.as_subclass(Tensor), drawn))
        for name, image in images.items():
            changed[name] = tv_tensors.Image(self.changed_image(image.as_subclass(Tensor), drawn))
        return changed

    def draw(self, height: int, width: int, mask: Tensor | None) -> "Drawn":
        """What is changed of an image of this size, by torch's random numbers; `mask` is read for `crop_on` alone."""
        view, symmetry = self._view(height, width, mask)
        changes = [] if self.colors.is_nothing else self.colors.draw()
        sigma = uniform(0.1, 1.5) if self.blur and happens(self.blur) else None
        return Drawn(view, symmetry, changes, sigma)

    def changed_mask(self, labels: Tensor, drawn: "Drawn") -> Tensor:
        """A mask `(H, W)` or `(C, H, W)` after what was drawn."""
        if drawn.view is not None:
            labels = seen_labels(labels, drawn.view, self.ignore_index)
        return labels if drawn.symmetry == SYMMETRIES[0] else drawn.symmetry(labels)

    def changed_image(self, pixels: Tensor, drawn: "Drawn") -> Tensor:
        """An image `(channels, H, W)` after what was drawn."""
        if drawn.view is not None:
            pixels = seen_image(pixels, drawn.view, self.ignore_index is not None)
        pixels = changed_colors(pixels if drawn.symmetry == SYMMETRIES[0] else drawn.symmetry(pixels), drawn.colors)
        return pixels if drawn.sigma is None else blurred(pixels, drawn.sigma)

    def _view(self, height: int, width: int, mask: Tensor | None) -> tuple[View | None, Symmetry]:
        """What is shown of an image, None for all of it, and how it is turned after that."""
        size = (height, width) if self.size is None else self.size
        angle = uniform(-self.rotation, self.rotation) if self.rotation else 0.0
        zoom = uniform(*self.zoom) if self.zoom[0] != self.zoom[1] else self.zoom[0]
        pixel = None if self.crop_on is None or mask is None else self._pixel(mask)
        cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        middle = ((width - 1) / 2, (height - 1) / 2)  # column and row
        start = []
        for axis, (length, part) in enumerate(zip((height, width), size, strict=True)):
            low, high = min(0, length - part), max(0, length - part)
            if pixel is None:
                start.append(low + (int(torch.randint(high - low + 1, (1,))) if high > low else 0))
            else:
                x, y = ((place - center) * zoom for place, center in zip(pixel, middle, strict=True))
                there = (sine * x + cosine * y, cosine * x - sine * y)[axis] + (length - 1) / 2
                centered = round(there - (part - 1) / 2)
                is_zoomed = bool(self.rotation) or self.zoom != (1, 1)
                start.append(centered if is_zoomed else min(max(centered, low), high))
        symmetry = self._symmetry(size)
        if size == (height, width) and start == [0, 0] and angle == 0 and zoom == 1:
            return None, symmetry
        a, b, d, e = cosine / zoom, sine / zoom, -sine / zoom, cosine / zoom
        x, y = start[1] - middle[0], start[0] - middle[1]
        return View(size, (a, b, a * x + b * y + middle[0], d, e, d * x + e * y + middle[1])), symmetry

    def _symmetry(self, size: tuple[int, int]) -> Symmetry:
        """Flips, and then one of the eight symmetries, or of those that keep the size; as one."""
        symmetry = SYMMETRIES[0]
        if self.horizontal_flip and happens(self.horizontal_flip):
            symmetry = Symmetry(0, True)
        if self.vertical_flip and happens(self.vertical_flip):
            symmetry = Symmetry(2, not symmetry.mirrored)
        if self.d4 and happens(self.d4):
            fitting = [one for one in SYMMETRIES if one.size(*size) == size]
            symmetry = fitting[int(torch.randint(len(fitting), ()))]  # with or without flips before, each as likely
        return symmetry

    def _pixel(self, mask: Tensor) -> tuple[int, int] | None:
        """Column and row of a pixel of a class that is drawn; None where no class can be."""
        labels = mask.as_subclass(Tensor)
        if labels.ndim > 2:
            present = (labels == 1).flatten(1).any(1).nonzero().flatten().tolist()
        else:
            present = [value for value in values_of(labels) if value != self.ignore_index]
        if self.crop_on != "class":
            present = [value for value in present if value in self.crop_on]  # type: ignore[operator]
        if not present:
            return None
        value = present[int(torch.randint(len(present), ()))]
        found = np.flatnonzero((labels[value] == 1 if labels.ndim > 2 else labels == value).numpy())
        row, column = divmod(int(found[int(torch.randint(len(found), ()))]), labels.shape[-1])
        return column, row


def happens(probability: float) -> bool:
    """Whether something of this probability does, by torch's random numbers."""
    return bool(torch.rand(1) < probability)
