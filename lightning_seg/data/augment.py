"""Random changes of training images and their masks, made of torchvision.transforms.v2."""

from collections.abc import Sequence
from typing import Any

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
) -> v2.Compose:
    """Zoom and rotation, crop, flips, quarter turns, colors and blur, in this order; what is zero or None is left out.

    The result takes a mapping with a `tv_tensors.Image`, float in [0, 1], and a `tv_tensors.Mask`, and gives one.
    Without `crop_size` the size stays. Pixels that a rotation, a zoom or a crop brings in from outside are black in
    the image and `ignore_index` in the mask.

    Args:
        crop_size: side, or height and width, of a random crop; smaller images are padded.
        scale: smallest and largest zoom, for example (0.75, 1.5).
        rotation: largest angle, in degrees, either way.
        horizontal_flip: probability of mirroring left and right.
        vertical_flip: probability of mirroring top and bottom.
        brightness: largest change, as a share of the image's own; likewise `contrast` and `saturation`.
        contrast: see `brightness`.
        saturation: see `brightness`.
        hue: largest change, at most 0.5, where 1 is once round the color circle.
        blur: probability of a Gaussian blur.
        ignore_index: the mask value of void pixels. None allows neither rotation nor zooming out, whose empty corners
            need it; a crop larger than the image then repeats the image's last row and column.
        d4: probability of `RandomSymmetry`, an exact quarter turn or flip, for images without a preferred orientation.
        dihedral: the former name of `d4`.

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
    if rotation or (smallest, largest) != (1, 1):
        steps.append(
            v2.RandomAffine(
                float(rotation), scale=(smallest, largest), interpolation=v2.InterpolationMode.BILINEAR, fill=fill
            )
        )
    if crop_size is not None:
        size = (crop_size, crop_size) if isinstance(crop_size, int) else tuple(int(length) for length in crop_size)
        if len(size) != 2 or min(size) < 1:
            raise ValueError(f"augment.crop_size={crop_size} must be a number of pixels, or height and width.")
        padding = "edge" if ignore_index is None else "constant"
        steps.append(v2.RandomCrop(size, pad_if_needed=True, fill=fill, padding_mode=padding))
    if horizontal_flip:
        steps.append(v2.RandomHorizontalFlip(horizontal_flip))
    if vertical_flip:
        steps.append(v2.RandomVerticalFlip(vertical_flip))
    if d4:
        steps.append(v2.RandomApply([RandomSymmetry()], d4))
    if brightness or contrast or saturation or hue:
        steps.append(v2.ColorJitter(brightness, contrast, saturation, hue))
    if blur:
        steps.append(v2.RandomApply([v2.GaussianBlur(5, sigma=(0.1, 1.5))], blur))
    return v2.Compose(steps or [v2.Identity()])


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
