"""Whether images have values as those that a network is normalized for."""

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from lightning_seg.module import SegmentationModule

# Of the standard deviation of what a network gets, in the channel where it is largest. Natural images have 0.5 to 1.5,
# those of 12 bits in files of 16 have 0.07 and less, and those from 0 to 255 that are taken for 0 to 1 have 200.
_LEAST, _MOST = 0.1, 20.0
_LEAST_OF_PLAIN = 0.02  # where nothing is normalized, of images from 0 to 1


class ImageRange(Callback):
    """Warns once of a training whose images are nearly black for the network, or far too bright.

    It looks at the first batch, unless a module of one's own unpacks or normalizes it.
    """

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Looks at the first batch of a training."""
        if trainer.global_step > 0 or batch_idx > 0 or not isinstance(pl_module, SegmentationModule):
            return
        if any(
            getattr(type(pl_module), name) is not getattr(SegmentationModule, name) for name in ("unpack", "forward")
        ):
            return
        is_pair = isinstance(batch, list | tuple) and len(batch) == 2
        image = batch.get("image") if isinstance(batch, Mapping) else batch[0] if is_pair else None
        if not isinstance(image, Tensor) or image.ndim < 3:
            return  # the step says what is wrong with it, or is one of the user's own
        mean, std = pl_module.mean, pl_module.std
        line = unusual_range(image, mean, std)
        if line:
            rank_zero_warn(line)


def unusual_range(image: Tensor, mean: Tensor | None, std: Tensor | None) -> str:
    """One line about images whose values are hardly those that `mean` and `std` are for; "" where they may be.

    Args:
        image: `(N, channels, *spatial)`.
        mean: per channel; None: images are used as they come.
        std: likewise.
    """
    if any(one is not None and len(one) not in (1, image.shape[1]) for one in (mean, std)):
        return ""  # `SegmentationModule.forward` refuses it
    image = image.detach().float()
    pixels = image.movedim(1, -1).flatten(0, -2)
    seen = pixels if mean is None or std is None else (pixels - mean) / std
    spread, low, high = torch.stack([seen.std(0, correction=0).amax(), image.amin(), image.amax()]).tolist()
    least = _LEAST_OF_PLAIN if mean is None or std is None else _LEAST
    if not spread < least and not spread > _MOST:
        return ""
    now = "not normalized" if mean is None or std is None else "normalized by data.mean and data.std"
    return (
        f"the images of the first batch have values from {low:.3g} to {high:.3g} and are {now}: the network gets a "
        f"standard deviation of {spread:.2g}, where 0.5 to 1.5 is usual. Give images from 0 to 1 (of files, "
        "data.range=[BLACK,WHITE]), or data.mean=auto data.std=auto."
    )
