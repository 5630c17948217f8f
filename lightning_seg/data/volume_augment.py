"""Random patches of training volumes and random changes of them, made of MONAI's transforms."""

from collections.abc import Sequence
from math import radians
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lightning_seg.data.extras import required

if TYPE_CHECKING:
    from lightning_seg.data.datamodule import Sample

_SIDES = 3


def volume_augmentation(
    *,
    patch_size: int | Sequence[int] | None,
    foreground: float,
    flip: float,
    affine: float,
    rotation: float,
    scale: Sequence[float],
    noise: float,
    brightness: float,
    contrast: float,
    ignore_index: int | None,
) -> "VolumeAugmentation":
    """A patch, flips, rotation and zoom, noise, and changes of brightness and contrast, in this order.

    What a patch, a rotation or a zoom brings in from outside is black in the image and `ignore_index` in the mask;
    without an `ignore_index` the border is repeated.

    Args:
        patch_size: side, or the three sides, of a random patch in voxels; smaller volumes are padded. Default: whole
            volumes, which then have one size in a batch.
        foreground: share of the patches that are centered on a voxel of any class but the first; a third is usual.
        flip: probability of mirroring each axis.
        affine: probability of a rotation and a zoom.
        rotation: largest angle about each axis, in degrees, either way.
        scale: smallest and largest zoom, for example (0.8, 1.25).
        noise: largest standard deviation of Gaussian noise, images being in [0, 1].
        brightness: largest change, as a share, likewise `contrast`.
        contrast: see `brightness`.
        ignore_index: the mask value of void voxels.

    Raises:
        ImportError: MONAI is not installed.
        ValueError: an option is outside its range.
    """
    transforms = required("monai.transforms", "augment=volumes")
    for name, probability in {"foreground": foreground, "flip": flip, "affine": affine}.items():
        if not 0 <= probability <= 1:
            raise ValueError(f"augment.{name}={probability} must be a probability, from 0 to 1.")
    smallest, largest = (float(factor) for factor in scale)
    if not 0 < smallest <= largest:
        raise ValueError(f"augment.scale=[{smallest}, {largest}] must be two factors above 0, the smaller one first.")
    outside = "border" if ignore_index is None else "zeros"
    parts, steps = ("image", "mask"), []
    size = _sides(patch_size)
    if size is not None:
        pad = "edge" if ignore_index is None else "constant"
        steps += [
            transforms.SpatialPadd((*parts, "foreground"), size, mode=pad),
            transforms.RandCropByPosNegLabeld(
                parts, "foreground", size, pos=foreground, neg=1 - foreground, num_samples=1
            ),
        ]
    if flip:
        steps += [transforms.RandFlipd(parts, flip, axis) for axis in range(_SIDES)]
    if affine and (rotation or (smallest, largest) != (1, 1)):
        steps.append(
            transforms.RandAffined(
                parts,
                prob=affine,
                rotate_range=[radians(rotation)] * _SIDES,
                # Of the grid, which is the inverse of the zoom; they are added to 1.
                scale_range=[(1 / largest - 1, 1 / smallest - 1)] * _SIDES,
                mode=("bilinear", "nearest"),
                padding_mode=outside,
            )
        )
    if noise:
        steps.append(transforms.RandGaussianNoised("image", prob=0.5, std=noise))
    if brightness:
        steps.append(transforms.RandScaleIntensityd("image", factors=brightness, prob=0.5))
    if contrast:
        steps.append(transforms.RandAdjustContrastd("image", prob=0.5, gamma=(1 / (1 + contrast), 1 + contrast)))
    return VolumeAugmentation(transforms.Compose(steps), ignore_index, size)


class VolumeAugmentation:
    """Dictionary transforms of MONAI for samples of a data set, whose random numbers are seeded by torch's.

    Args:
        compose: a `Compose` that takes `image`, `mask` and `foreground`, 1 where there is a class but the first.
        ignore_index: the mask value of void voxels, which are 0 to the transforms, and all labels relative to it.
        patch_size: what it crops, for checks.
    """

    def __init__(self, compose: Any, ignore_index: int | None, patch_size: Sequence[int] | None = None) -> None:
        self.compose = compose
        self.ignore_index = ignore_index
        self.patch_size = patch_size

    def __call__(self, sample: "Sample") -> "Sample":
        """The sample, changed.

        Raises:
            ValueError: it is no volume.
        """
        image, mask = sample["image"], sample["mask"]
        if image.ndim != _SIDES + 1:
            raise ValueError(
                f"augment=volumes is for volumes, and {sample['name']} is an image of {tuple(image.shape)}: use "
                "augment=light or another one for 2-D images."
            )
        void = 0 if self.ignore_index is None else self.ignore_index
        labels = mask if mask.ndim == _SIDES + 1 else mask[None]
        shown = (labels == 1) if mask.ndim == _SIDES + 1 else (labels > 0)
        if self.ignore_index is not None:
            shown &= labels != void
        foreground = shown if len(shown) == 1 else shown.any(0, keepdim=True)
        self.compose.set_random_state(seed=int(torch.randint(2**31, ())))
        # Floats, as resampling makes them of all labels; integers up to 2^24 stay exact.
        relative = labels.to(torch.float32, copy=True).sub_(void)
        changed = self.compose({"image": image, "mask": relative, "foreground": foreground.float()})
        changed = changed[0] if isinstance(changed, list) else changed
        made = _plain(changed["mask"]).round().long() + void
        return {
            **sample,
            "image": _plain(changed["image"]).clamp(0, 1).contiguous(),
            "mask": (made if mask.ndim == _SIDES + 1 else made[0]).to(mask.dtype).contiguous(),
        }


def is_of_monai(augment: Any) -> bool:
    """Whether an augmentation is a transform of MONAI, as of a user's own pipeline."""
    return type(augment).__module__.split(".")[0] == "monai"


def with_monai(sample: "Sample", augment: Any) -> "Sample":
    """A sample after dictionary transforms of MONAI that name its `image` and `mask`.

    Raises:
        TypeError: they cannot be seeded.
    """
    if not hasattr(augment, "set_random_state"):
        raise TypeError(f"augment is a {type(augment).__name__} of MONAI: put it into monai.transforms.Compose.")
    return VolumeAugmentation(augment, None)(sample)


def _sides(patch_size: int | Sequence[int] | None) -> tuple[int, ...] | None:
    if patch_size is None:
        return None
    sides = (patch_size,) * _SIDES if isinstance(patch_size, int) else tuple(int(side) for side in patch_size)
    if len(sides) != _SIDES or min(sides) < 1:
        raise ValueError(f"augment.patch_size={patch_size} must be a number of voxels, or one for each of three axes.")
    return sides


def _plain(tensor: Any) -> Tensor:
    """A tensor without MONAI's metadata."""
    return torch.as_tensor(tensor.as_tensor() if hasattr(tensor, "as_tensor") else tensor)
