"""The embedded data set: generated pictures of shapes, the same for the same seed."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lightning_seg.data.datamodule import Augment, Sample, SegmentationDataModule, augmented
from lightning_seg.data.few_labels import check_enough, check_limit
from lightning_seg.data.shape_scenes import CLASS_NAMES, VOID, draw_scene
from lightning_seg.data.shape_volumes import draw_volume
from lightning_seg.memory import check_memory

SPLITS = ("train", "val", "test")
SIDES = {2: 96, 3: 32}  # by dimensions, where no size is asked for
_SMALLEST = {2: 32, 3: 16}


class ShapesDataset(Dataset[Sample]):
    """Generated images of objects; image i of a split depends on (seed, split, i) and the size alone.

    Images are float32 `(3, size, size)` in [0, 1], masks int64 `(size, size)`, both drawn once and kept in memory; of
    three dimensions there is one more side.

    Args:
        split: `train`, `val` or `test`.
        count: number of images.
        image_size: of each side, in pixels, 32 at least, or in voxels, 16 at least.
        dimensions: 2 for pictures, 3 for volumes.
        seed: of everything drawn, 0 or more.
        num_classes: 6, background and the five kinds of objects, or 1, any object (1) or background (0).
        ignore_index: the value of the rim around objects; None makes the rim background.
        augment: see `SegmentationDataModule`.
        first: the index of the first image; the others follow.

    Raises:
        ValueError: an argument is outside its range.
    """

    def __init__(
        self,
        split: str,
        count: int,
        *,
        image_size: int,
        seed: int,
        num_classes: int = len(CLASS_NAMES),
        ignore_index: int | None = None,
        augment: Augment | None = None,
        first: int = 0,
        dimensions: int = 2,
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f"split={split!r} is not one of {', '.join(SPLITS)}.")
        if count < 1:
            raise ValueError(f"data.num_{split}={count}, but at least 1 image is needed.")
        if dimensions not in SIDES:
            raise ValueError(f"data.dimensions={dimensions} is neither 2, for images, nor 3, for volumes.")
        if image_size < _SMALLEST[dimensions]:
            raise ValueError(f"data.image_size={image_size}, but objects need at least {_SMALLEST[dimensions]} pixels.")
        if seed < 0:
            raise ValueError(f"data.seed={seed}, but it must be 0 or more.")
        if num_classes not in (1, len(CLASS_NAMES)):
            raise ValueError(
                f"the shapes have {len(CLASS_NAMES)} classes ({', '.join(CLASS_NAMES)}), or 1 in the binary task, "
                f"and data.num_classes={num_classes} was asked for."
            )
        self.split = split
        self.augment = augment
        self.first = first
        check_memory(count * image_size**dimensions * 12, f"data.num_{split}={count} of data.image_size={image_size}")
        draw = draw_scene if dimensions == 2 else draw_volume
        scenes = [
            draw(np.random.default_rng([seed, SPLITS.index(split), index]), image_size)
            for index in range(first, first + count)
        ]
        self._images = torch.from_numpy(np.stack([image for image, _ in scenes])).movedim(-1, 1).contiguous()
        labels = torch.from_numpy(np.stack([labels for _, labels in scenes]))
        self._masks = _masks(labels, num_classes, ignore_index)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Sample:
        name = f"{self.split}_{self.first + index:05d}"
        sample: Sample = {"image": self._images[index] / 255, "mask": self._masks[index].clone(), "name": name}
        return augmented(sample, self.augment)


class ShapesDataModule(SegmentationDataModule):
    """Generated images of objects, to try the tool, a loss or a network in minutes.

    Large and small objects, thin lines, dots as a class below 1% of the pixels, a void rim around objects, and
    colors that classes share.

    Args:
        num_train: number of training images.
        num_val: number of validation images.
        num_test: number of test images.
        image_size: of each side, in pixels, 32 at least, or in voxels, 16 at least. Default: 96, and 32 of volumes.
        dimensions: 2 for pictures, 3 for volumes of the same classes.
        seed: of everything drawn.
        num_classes: 6, background and the five kinds of objects, or 1, any object or background.
        train_limit: only the first so many training images keep their masks; the rest are unlabeled. Default: all do.
        options: see `SegmentationDataModule`.

    Raises:
        ValueError: an argument is outside its range, here or in `setup`.
    """

    def __init__(
        self,
        *,
        num_train: int,
        num_val: int,
        num_test: int,
        seed: int,
        image_size: int | None = None,
        dimensions: int = 2,
        num_classes: int = len(CLASS_NAMES),
        train_limit: int | None = None,
        **options: Any,
    ) -> None:
        if options.get("class_names") is None:
            options["class_names"] = CLASS_NAMES if num_classes > 1 else ["object"]
        super().__init__(num_classes=num_classes, **options)
        check_limit(train_limit)
        self.counts = {"train": num_train, "val": num_val, "test": num_test}
        self.train_limit = train_limit
        self.dimensions = dimensions
        self.image_size = SIDES.get(dimensions, 0) if image_size is None else image_size
        self.seed = seed

    def setup(self, stage: str | None = None) -> None:
        """Draws the images that the stage (`fit`, `validate`, `test` or None, all) needs."""
        if stage in ("fit", None) and self.train_set is None:
            total = self.counts["train"]
            labeled = total if self.train_limit is None else self.train_limit
            check_enough(labeled, total)
            self.train_set = self._draw("train", labeled, self.augment)
            if labeled < total:
                self.unlabeled_set = self._draw("train", total - labeled, self.augment, first=labeled)
        if stage in ("fit", "validate", None) and self.val_set is None:
            self.val_set = self._draw("val", self.counts["val"])
        if stage in ("test", None) and self.test_set is None:
            self.test_set = self._draw("test", self.counts["test"])

    def _draw(self, split: str, count: int, augment: Augment | None = None, first: int = 0) -> ShapesDataset:
        return ShapesDataset(
            split,
            count,
            image_size=self.image_size,
            dimensions=self.dimensions,
            seed=self.seed,
            num_classes=self.num_classes,
            ignore_index=self.ignore_index,
            augment=augment,
            first=first,
        )


def _masks(labels: Tensor, num_classes: int, ignore_index: int | None) -> Tensor:
    void = labels == VOID
    masks = labels.long()
    if num_classes == 1:
        masks = (masks > 0).long()
    masks[void] = 0 if ignore_index is None else ignore_index
    return masks
