"""How a module predicts: images of any size, in tiles and averaged where it is told so, as labels or probabilities."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Literal, overload

import lightning
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from lightning_seg.backbones import PadToStride
from lightning_seg.inference.image import AnyImage, Prediction, predict_image
from lightning_seg.inference.reach import layer_that_sees_everything
from lightning_seg.inference.small_images import SmallImages
from lightning_seg.inference.symmetric import Augmentation, symmetric_logits, views
from lightning_seg.inference.tiling import Sides, Tiling, fits, sides, tiled_logits, tiled_parts
from lightning_seg.losses.engine.predictions import largest_channels
from lightning_seg.task import Task


class PredictingModule(lightning.LightningModule):
    """The part of `SegmentationModule` that predicts, whose arguments describe the attributes."""

    backbone: nn.Module
    num_classes: int
    task: Task
    test_time_augmentation: Augmentation
    tile: Sides | None
    margin: Sides | None
    tiling: Tiling
    scale: float
    threshold: float | Literal["best"]
    found_threshold: float | None
    has_cut_tiles = False  # whether an image was larger than a tile
    _is_reach_known = False

    def predict_logits(self, image: Tensor, size: Sequence[int] | None = None) -> Tensor:
        """Logits as of `forward`, in tiles where `tile` asks for them, averaged if `test_time_augmentation`.

        Called in test and prediction; the validations of a training are in tiles too, but never averaged.

        Args:
            image: as `forward` takes it.
            size: likewise.
        """
        return self.by_tiles(self._of_a_tile(), image, image.shape[2:] if size is None else size)

    def logits_by_parts(
        self, image: Tensor | SmallImages, size: Sequence[int], *, averaged: bool = True
    ) -> Iterator[tuple[tuple[slice, ...], Tensor]]:
        """The logits of `predict_logits`, part by part, so that those of a tile are all that is held of an image.

        Args:
            image: as `forward` takes it, or of integers, of which it is the parts that become floats.
            size: spatial size of the logits.
            averaged: whether `test_time_augmentation` applies.

        Yields:
            Slices of the spatial axes, and their logits. Where `predict_logits` is overridden, or the image fits into a
            tile, that is one part.
        """
        is_own = type(self).predict_logits is not PredictingModule.predict_logits
        if averaged and is_own:
            yield (slice(None),) * len(size), self.predict_logits(image[:], size)
            return
        is_whole = fits(image.shape[2:], self.tile)
        if not is_whole:
            self.warn_of_tiles(image)
        forward = self._of_a_tile() if averaged else self
        yield from tiled_parts(forward, image[:] if is_whole else image, size, **self._tiles())

    def _of_a_tile(self) -> Callable[[Tensor, Sequence[int]], Tensor]:
        if not self.test_time_augmentation:
            return self
        by_tiles = partial(self.by_tiles, self)  # of an enlarged tile, tiles too
        return partial(
            symmetric_logits, by_tiles, softmax=self.task == "multiclass", views=views(self.test_time_augmentation)
        )

    def _tiles(self) -> dict[str, Any]:
        return {"tile": self.tile, "margin": self.margin, "stride": self.tile_stride, "tiling": self.tiling}

    def by_tiles(
        self, forward: Callable[[Tensor, Sequence[int]], Tensor], image: Tensor, size: Sequence[int]
    ) -> Tensor:
        """Logits of a function of images and the size of their logits, in the module's tiles."""
        if not fits(image.shape[2:], self.tile):
            self.warn_of_tiles(image)
        return tiled_logits(forward, image, size, **self._tiles())

    def warn_of_tiles(self, image: Any) -> None:
        """Says, once, where a layer sees all of a tile, by which results differ from those of a whole pass.

        Called with each image that is cut.
        """
        self.has_cut_tiles = True
        if self._is_reach_known or self.tile is None or self.training:
            return
        self._is_reach_known = True
        size = list(map(min, image.shape[2:], sides(self.tile, image.ndim - 2, "tile")))
        layer = layer_that_sees_everything(self, image.shape[1], self.tile_stride, size)
        if layer is not None:
            advice = "a larger tile lessens it" + (", and tiling=smooth hides seams" if self.tiling == "crop" else "")
            rank_zero_warn(
                f"images are cut into tiles of {self.tile} pixels, and {layer} sees all of its tile: labels differ "
                f"from those of a whole pass; {advice}."
            )

    @property
    def tile_stride(self) -> int:
        """Tiles start at its multiples: the stride that the backbone says, else 32, which is a multiple of most."""
        strides = (part.stride for part in self.backbone.modules() if isinstance(part, PadToStride))
        return max(strides, default=32)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Probabilities `(N, num_classes, *spatial)` of the classes. Called in prediction, when they are asked for."""
        return logits.softmax(dim=1) if self.task == "multiclass" else logits.sigmoid()

    def predict_labels(self, logits: Tensor) -> Tensor:
        """Labels, int64: `(N, *spatial)`, or 0 and 1 in the logits' shape if multilabel. Called in prediction."""
        if self.task == "multiclass":
            return largest_channels(logits)
        labels = (self.scored_logits(logits) > 0).long()
        return labels if self.task == "multilabel" else labels.squeeze(1)

    def scored_logits(self, logits: Tensor) -> Tensor:
        """Logits of which those above 0 are the object: shifted by the `threshold` of the binary task."""
        threshold = self.decision_threshold
        return logits if threshold == 0.5 else logits - math.log(threshold / (1 - threshold))

    @property
    def decision_threshold(self) -> float:
        """The number that `threshold` stands for, 0.5 while it has not been found."""
        if self.threshold == "best":
            return 0.5 if self.found_threshold is None else self.found_threshold
        return self.threshold

    @overload
    def predict(self, image: AnyImage, *, probabilities: Literal[False] = False) -> Tensor: ...

    @overload
    def predict(self, image: AnyImage, *, probabilities: Literal[True]) -> Prediction: ...

    def predict(self, image: AnyImage, *, probabilities: bool = False) -> Tensor | Prediction:
        """Labels of an image at its own size, whatever that is, on the CPU.

        The network sees the image as in its training (`scale`, set by `load_module`), in tiles and averaged where
        `tile` and `test_time_augmentation` say so.

        Args:
            image: a path, a Pillow image, an array `(H, W, channels)` or a tensor `(channels, H, W)`; a batch as a
                tensor `(N, channels, H, W)`. See `lightning_seg.inference.image.image_tensor`. Of a module that was
                trained on volumes, what `lightning_seg.inference.volumes.predict_volume` takes.
            probabilities: also return those.

        Returns:
            int64 `(H, W)`, `(C, H, W)` in the multilabel task, with N before them for a batch; with probabilities a
            pair of these and float32 `(num_classes, H, W)`.

        Raises:
            ValueError: the module is in training mode, or the image has another shape or dtype.
            OSError: a path that cannot be read.
            FloatingPointError: the logits are NaN.
        """
        prediction = predict_image(self, image, scale=self.scale, probabilities=probabilities)
        return prediction if probabilities else prediction.labels

    def check_threshold(self, *, is_given: bool = False) -> None:
        """Refuses a `threshold` that cannot be.

        Args:
            is_given: whether it was asked for, even if it is the default.

        Raises:
            ValueError: it is not between 0 and 1, or the task is not binary.
        """
        if (is_given or self.threshold != 0.5) and self.task != "binary":
            raise ValueError(f"threshold={self.threshold} applies to task=binary only, and task={self.task}.")
        if self.threshold != "best" and not 0 < self.threshold < 1:
            raise ValueError(f"threshold={self.threshold} is neither a number between 0 and 1 nor best.")
