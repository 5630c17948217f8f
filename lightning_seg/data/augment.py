"""Random changes of training images and their masks, made of torchvision.transforms.v2."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from lightning_seg.d4 import SYMMETRIES
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
) -> v2.Compose:
    """Zoom and rotation, crop, flips, quarter turns, colors and blur, in this order; what is zero or None is left out.

    The result takes a mapping with a `tv_tensors.Image`, float in [0, 1] or uint8, and a `tv_tensors.Mask`, and gives
    one. Zoom and rotation are computed for the crop alone.
    Without `crop_size` the size stays. Pixels that a rotation, a zoom or a crop brings in from outside are black in
    the image and `ignore_index` in the mask.

    Args:
        crop_size: side, or height and width, of a random crop; smaller images are padded.
        scale: smallest and largest zoom, for example (0.75, 1.5).
        rotation: largest angle, in degrees, either way.
        horizontal_flip: probability of mirroring left and right.
        vertical_flip: probability of mirroring top and bottom.
        brightness: largest change, as a share of the image's own; likewise `contrast` and `saturation`. Images of other
            than 1 or 3 channels keep theirs.
        contrast: see `brightness`.
        saturation: see `brightness`.
        hue: largest change, at most 0.5, where 1 is once round the color circle.
        blur: probability of a Gaussian blur.
        ignore_index: the mask value of void pixels. None allows neither rotation nor zooming out, whose empty corners
            need it; a crop larger than the image then repeats the image's last row and column.
        d4: probability of `RandomSymmetry`, an exact quarter turn or flip, for images without a preferred orientation.
        dihedral: the former name of `d4`.
        crop_on: `class` centers the crop on a pixel, drawn from those of a class that is drawn from the classes of the
            mask; a list of mask values draws from these, where the mask has one of them. Default: crops lie anywhere.

    Raises:
        ValueError: an option is outside its range, or needs an `ignore_index`.
    """
    smallest, largest = (float(factor) for factor in scale)
    if not 0 < smallest <= largest:
        raise ValueError(f"augment.scale=[{smallest}, {largest}] must be two factors above 0, the smaller one first.")
    if dihedral is not None:
        warn_renamed("augment.dihedral", "augment.d4")
        d4 = dihedral
    probabilities = {"horizontal_flip": horizontal_flip, "vertical_flip": vertical_flip, "d4": d4}
    for name, probability in {**probabilities, "blur": blur}.items():
        if not 0 <= probability <= 1:
            raise ValueError(f"augment.{name}={probability} is a probability: give 0 to 1.")
    if ignore_index is None and (rotation or smallest < 1):
        raise ValueError(
            f"augment.rotation={rotation} and augment.scale=[{smallest}, {largest}] leave empty corners, which have no "
            "class: set data.ignore_index to a value that is not a class (255, for instance), or rotation=0 and no "
            "scale below 1."
        )
    fill = {tv_tensors.Image: 0.0, tv_tensors.Mask: 0 if ignore_index is None else ignore_index}
    steps: list[torch.nn.Module] = []
    affine = v2.RandomAffine(
        float(rotation), scale=(smallest, largest), interpolation=v2.InterpolationMode.BILINEAR, fill=fill
    )
    is_affine = bool(rotation) or (smallest, largest) != (1, 1)
    size = _crop_size(crop_size)
    _check_crop_on(crop_on, size, ignore_index)
    if size is not None and ignore_index is not None:
        steps.append(RandomZoomedCrop(size, affine if is_affine else None, ignore_index, crop_on))
    else:
        steps += [affine] if is_affine else []
        # Without a void value the last row and column are repeated.
        steps += [] if size is None else [v2.RandomCrop(size, pad_if_needed=True, fill=fill, padding_mode="edge")]
    if horizontal_flip:
        steps.append(v2.RandomHorizontalFlip(horizontal_flip))
    if vertical_flip:
        steps.append(v2.RandomVerticalFlip(vertical_flip))
    if d4:
        steps.append(v2.RandomApply([RandomSymmetry()], d4))
    if brightness or contrast or saturation or hue:
        steps.append(ColorJitter(brightness, contrast, saturation, hue))
    if blur:
        steps.append(v2.RandomApply([v2.GaussianBlur(5, sigma=(0.1, 1.5))], blur))
    return v2.Compose(steps or [v2.Identity()])


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
    if crop_on != "class" and (isinstance(crop_on, str) or not all(type(value) is int for value in crop_on)):
        raise ValueError(f"augment.crop_on={crop_on} is neither class nor a list of mask values.")
    if size is None or ignore_index is None:
        raise ValueError(f"augment.crop_on={crop_on} needs augment.crop_size and data.ignore_index.")


class RandomZoomedCrop(v2.Transform):  # type: ignore[misc]  # torchvision has no types
    """A random crop of a randomly zoomed and rotated image, of which no more is computed than the crop.

    It draws what `RandomAffine` and then `RandomCrop(pad_if_needed=True)` draw, and gives the same where these have not
    cut off what a larger crop shows.

    Args:
        size: height and width of the crop.
        affine: draws rotation and zoom; None for neither.
        ignore_index: the mask value of what lies outside of the image, which is black.
        crop_on: see `training_augmentation`.
    """

    def __init__(
        self,
        size: tuple[int, int],
        affine: v2.RandomAffine | None,
        ignore_index: int,
        crop_on: str | Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.size = size
        self.affine = affine
        self.ignore_index = ignore_index
        self.crop_on = crop_on

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Rotation, zoom and place of the crop, for all inputs of a call."""
        height, width = v2.query_size(flat_inputs)
        angle, zoom = 0.0, 1.0
        if self.affine is not None:
            drawn = self.affine.make_params(flat_inputs)
            angle, zoom = drawn["angle"], drawn["scale"]
        turn = torch.tensor([[math.cos(a := math.radians(angle)), -math.sin(a)], [math.sin(a), math.cos(a)]]).double()
        pixel = self._pixel(next(one for one in flat_inputs if isinstance(one, tv_tensors.Mask)))
        start = []
        for axis, (length, part) in enumerate(zip((height, width), self.size, strict=True)):
            low, high = min(0, length - part), max(0, length - part)
            if pixel is None:
                start.append(low + (int(torch.randint(high - low + 1, (1,))) if high > low else 0))
            else:
                offset = pixel - torch.tensor([width - 1, height - 1]) / 2
                there = float((turn @ offset.double() * zoom)[1 - axis]) + (length - 1) / 2
                centered = round(there - (part - 1) / 2)
                start.append(min(max(centered, low), high) if self.affine is None else centered)
        return {"to_source": (turn.T / zoom).float(), "start": start, "is_plain": angle == 0 and zoom == 1}

    def _pixel(self, mask: torch.Tensor) -> torch.Tensor | None:
        """Column and row of a pixel of a class that is drawn; None where no class can be."""
        if self.crop_on is None:
            return None
        labels = mask.as_subclass(torch.Tensor)
        if labels.ndim > 2:
            places = (labels == 1).flatten(1)
            present = places.any(1).nonzero().flatten().tolist()
        else:
            present = [value for value in np.unique(labels.numpy()).tolist() if value != self.ignore_index]
        if self.crop_on != "class":
            present = [value for value in present if value in self.crop_on]
        if not present:
            return None
        value = present[int(torch.randint(len(present), ()))]
        found = (labels[value] == 1 if labels.ndim > 2 else labels == value).nonzero()
        return found[int(torch.randint(len(found), ()))].flip(0)

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """An image or a mask, cropped."""
        if not isinstance(inpt, tv_tensors.Image | tv_tensors.Mask):
            return inpt
        is_mask = isinstance(inpt, tv_tensors.Mask)
        tensor = inpt.as_subclass(torch.Tensor)
        made = self._cut(tensor, params, is_mask) if params["is_plain"] else self._warped(tensor, params, is_mask)
        return tv_tensors.wrap(made, like=inpt)

    def _cut(self, tensor: torch.Tensor, params: dict[str, Any], is_mask: bool) -> torch.Tensor:
        cropped = tensor
        for axis, start in zip((-2, -1), params["start"], strict=True):
            first, last = max(start, 0), min(start + self.size[axis], tensor.shape[axis])
            cropped = cropped.narrow(axis, first, last - first)
        if cropped.shape[-2:] == self.size:
            return cropped.contiguous()
        filled = tensor.new_full((*tensor.shape[:-2], *self.size), self.ignore_index if is_mask else 0)
        top, left = (max(-start, 0) for start in params["start"])
        filled[..., top : top + cropped.shape[-2], left : left + cropped.shape[-1]] = cropped
        return filled

    def _warped(self, tensor: torch.Tensor, params: dict[str, Any], is_mask: bool) -> torch.Tensor:
        height, width = tensor.shape[-2:]
        (rows, columns), matrix = self.size, params["to_source"]
        y = torch.arange(rows) + params["start"][0] - (height - 1) / 2
        x = torch.arange(columns) + params["start"][1] - (width - 1) / 2
        source_x = matrix[0, 0] * x + (matrix[0, 1] * y)[:, None] + (width - 1) / 2
        source_y = matrix[1, 0] * x + (matrix[1, 1] * y)[:, None] + (height - 1) / 2
        # Only what the crop shows of the image is made floats.
        left, top = (max(0, math.floor(float(one.min())) - 1) for one in (source_x, source_y))
        right = min(width, math.ceil(float(source_x.max())) + 2)
        bottom = min(height, math.ceil(float(source_y.max())) + 2)
        if left >= right or top >= bottom:
            return tensor.new_full((*tensor.shape[:-2], *self.size), self.ignore_index if is_mask else 0)
        part = tensor[..., top:bottom, left:right]
        floats = part.reshape(1, -1, bottom - top, right - left).float()
        if is_mask:
            floats = floats - self.ignore_index  # zeros are what lies outside
        grid = torch.stack(
            [(2 * (source_x - left) + 1) / (right - left) - 1, (2 * (source_y - top) + 1) / (bottom - top) - 1], -1
        )
        mode = "nearest" if is_mask else "bilinear"
        made = torch.nn.functional.grid_sample(floats, grid[None], mode, "zeros", align_corners=False)
        if is_mask:
            made = made + self.ignore_index
        if not tensor.is_floating_point():
            made = made.round_()
        return made.to(tensor.dtype).reshape(*tensor.shape[:-2], *self.size)


class ColorJitter(v2.ColorJitter):  # type: ignore[misc]  # torchvision has no types
    """Torchvision's, which leaves images alone that are neither gray nor of three colors."""

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """An image with other colors, or what else it is."""
        is_colored = not isinstance(inpt, tv_tensors.Image) or inpt.shape[-3] in (1, 3)
        return super().transform(inpt, params) if is_colored else inpt


class RandomSymmetry(v2.Transform):  # type: ignore[misc]  # torchvision has no types
    """One of the eight symmetries of the square, each as likely: quarter turns with and without a mirror image.

    It moves pixels and changes none. Of an image that is not square, and of what comes with it, it takes one of the
    four that keep height and width, so that the images of a batch fit together.
    """

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """The symmetry, for all inputs of a call."""
        height, width = v2.query_size(flat_inputs)
        fitting = [symmetry for symmetry in SYMMETRIES if symmetry.size(height, width) == (height, width)]
        return {"symmetry": fitting[int(torch.randint(len(fitting), ()))]}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """An image or a mask, turned."""
        if not isinstance(inpt, tv_tensors.Image | tv_tensors.Mask):
            return inpt
        return tv_tensors.wrap(params["symmetry"](inpt.as_subclass(torch.Tensor)), like=inpt)
