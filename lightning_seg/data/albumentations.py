"""Pipelines of albumentations as augmentation; the library is not imported here."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from lightning_seg.data.datamodule import Sample


def is_albumentations(augment: Any) -> bool:
    """Whether an augmentation is a pipeline or transform of albumentations."""
    return type(augment).__module__.split(".")[0] in ("albumentations", "albumentationsx")


def with_albumentations(sample: "Sample", augment: Any) -> "Sample":
    """A sample after a `Compose` of albumentations, whose random numbers are seeded by torch's.

    The image goes in and comes out as it is, uint8 or float32 in [0, 1], the mask as its labels; `fill_mask` of a
    transform is the label of what comes in from outside.

    Raises:
        TypeError: it gives no image of the sample's kind: normalization is the module's (`data.mean`), and no
            `ToTensorV2` is needed.
    """
    if not hasattr(augment, "set_random_seed"):
        raise TypeError(f"augment is a {type(augment).__name__} of albumentations: put it into albumentations.Compose.")
    augment.set_random_seed(int(torch.randint(2**31, ())))
    mask = sample["mask"]
    labels = np.ascontiguousarray(mask.movedim(0, -1).numpy() if mask.ndim == 3 else mask.numpy())
    small = labels.dtype == np.uint8
    pixels = np.ascontiguousarray(sample["image"].movedim(0, -1).numpy())
    changed = augment(image=pixels, mask=labels if small else labels.astype(np.int32))
    image, made = changed["image"], changed["mask"]
    if not isinstance(image, np.ndarray) or image.dtype != pixels.dtype:
        kind = image.dtype if hasattr(image, "dtype") else type(image).__name__
        raise TypeError(
            f"augment gives an image of {kind}, and {pixels.dtype} went in: leave Normalize and ToTensorV2 out of "
            "it; the module normalizes (data.mean, data.std)."
        )
    result = torch.from_numpy(np.array(made)).to(mask.dtype)
    return {
        **sample,
        "image": torch.from_numpy(np.array(image)).movedim(-1, 0).contiguous(),
        "mask": result.movedim(-1, 0).contiguous() if mask.ndim == 3 else result,
    }
