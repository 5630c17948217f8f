"""What prediction needs of a module, and its logits of an image of any size."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from lightning_seg.inference.bands import BandedRaster
from lightning_seg.inference.rasters import Raster
from lightning_seg.inference.scaled import ScaledRaster
from lightning_seg.inference.tiling import Patch, Sides, fits, predict_tiled

AnyRaster = Tensor | Raster | BandedRaster | ScaledRaster


class Predictor(Protocol):
    """What prediction needs of a module; `SegmentationModule` has it."""

    num_classes: int
    training: bool
    tile: Sides | None
    margin: Sides | None

    @property
    def task(self) -> str:
        """`binary`, `multilabel` or `multiclass`."""

    @property
    def device(self) -> torch.device:
        """Where images are sent."""

    def predict_logits(self, image: Tensor, size: Sequence[int] | None = None) -> Tensor:
        """Logits `(N, num_classes, *size)` of images `(N, 3, H, W)` in [0, 1]; default size: that of the images."""

    def predict_labels(self, logits: Tensor) -> Tensor:
        """Labels `(N, H, W)`."""

    def probabilities(self, logits: Tensor) -> Tensor:
        """Probabilities `(N, num_classes, H, W)`."""


def predicted_patches(
    module: Predictor, image: AnyRaster, size: tuple[int, int], batch_size: int = 1
) -> Iterator[Patch]:
    """The logits of `module.predict_logits(image, size)`, one tile at a time.

    Args:
        module: cuts tiles as its `tile`, `margin` and `tiling` say.
        image: `(N, channels, H, W)` on any device, or a raster, of which a window is read for each tile.
        size: `(height, width)` of the result.
        batch_size: tiles that go through the network together.

    Raises:
        FloatingPointError: logits are NaN, whose largest would be that of class 0.
    """
    for patch in _patches(module, image, size, batch_size):
        if bool(patch.logits.amax().isnan()):
            raise FloatingPointError("its logits are NaN: the network's weights or the image are not finite.")
        yield patch


def _patches(module: Predictor, image: AnyRaster, size: tuple[int, int], batch_size: int) -> Iterable[Patch]:
    if module.tile is None or module.margin is None or fits(image.shape[2:], module.tile):
        image = image[:, :, :, :].to(module.device)  # a raster is read now
        logits = module.predict_logits(image) if image.shape[2:] == size else module.predict_logits(image, size)
        return [Patch(slice(None), slice(None), logits)]
    warn = getattr(module, "warn_of_tiles", None)
    if warn is not None:
        warn(image)
    return predict_tiled(
        lambda part: module.predict_logits(part.to(module.device)),
        image,
        tile=module.tile,
        margin=module.margin,
        size=size,
        batch_size=batch_size,
        stride=getattr(module, "tile_stride", 1),
        tiling=getattr(module, "tiling", "crop"),
    )
