"""Images and masks read from the files of a folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import resize
from torchvision.tv_tensors import Mask

from lightning_seg.data.augment import TrainingAugmentation
from lightning_seg.data.bands import Channels
from lightning_seg.data.cache import SampleCache
from lightning_seg.data.datamodule import Augment, Sample, augmented, plain
from lightning_seg.data.image_files import MAX_PIXELS
from lightning_seg.data.images import (
    image_size,
    in_unit_range,
    load_image,
    read_image,
    scaled_floats,
    scaled_image,
    scaled_size,
)
from lightning_seg.data.inspection import Inspection, check_sizes, inspect_pairs
from lightning_seg.data.mask_sources import MaskReader
from lightning_seg.data.masks import Colors, check_channels, check_values
from lightning_seg.data.pairs import Pair, stem_of
from lightning_seg.data.values import Values
from lightning_seg.data.windows import Box


class FolderDataset(Dataset[Sample]):
    """Images and masks read from files; each mask is checked as it is read, until `inspect` has checked all.

    Images are float32 `(3, H, W)` in [0, 1], masks int64 `(H, W)`, or `(C, H, W)` of 0 and 1 in the multilabel task,
    names the files' stems or what else tells them apart.

    Args:
        pairs: the files.
        num_values: masks hold 0..num_values-1.
        ignore_index: and this, the value of void pixels.
        color_table: see `load_mask`.
        void_colors: see `load_mask`.
        scale: height and width of the image are multiplied by it.
        scale_mask: whether the mask's are too, as in training; scores are taken at the mask's own size.
        augment: see `SegmentationDataModule`.
        max_pixels: see `load_image`.
        values: see `load_mask`.
        threshold: see `load_mask`.
        page: which page of an image of several, from 0.
        mask_page: which page of a mask of several, from 0.
        multilabel: whether a pixel may have several labels.
        class_names: of the mask values, by which annotations name what they show.
        channels: see `load_image`.
        value_range: see `load_image`.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        *,
        num_values: int,
        ignore_index: int | None = None,
        color_table: Colors | None = None,
        void_colors: Colors = (),
        values: Values | None = None,
        threshold: float | None = None,
        page: int | None = None,
        mask_page: int | None = None,
        multilabel: bool = False,
        class_names: Sequence[str] = (),
        channels: Channels = "rgb",
        value_range: Sequence[float] | None = None,
        scale: float = 1.0,
        scale_mask: bool = False,
        augment: Augment | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self.pairs = list(pairs)
        self.num_values = num_values
        self.ignore_index = ignore_index
        self.scale = scale
        self.scale_mask = scale_mask
        self.augment = augment
        self.max_pixels = max_pixels
        self.page = page
        self.channels = channels
        self.value_range = value_range
        self.read_mask = MaskReader(
            num_values,
            class_names,
            ignore_index=ignore_index,
            color_table=color_table,
            void_colors=void_colors,
            values=values,
            threshold=threshold,
            page=mask_page,
            max_pixels=max_pixels,
            multilabel=multilabel,
        )
        labels = (0, num_values - 1, *([] if ignore_index is None else [ignore_index]))
        self.is_small = min(labels) >= 0 and max(labels) <= 255
        self.is_checked = False
        self.is_compact = False  # images and masks as uint8, of which `collate` makes what they are else
        self.cache: SampleCache | None = None

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        pair = self.pairs[index]
        kept = None if self.cache is None else self.cache.get(index)
        crop = self._crop(pair, kept is not None)
        if crop is not None:
            sample = self._part(pair, crop, kept)
            return sample if self.is_compact else plain(sample)
        image, mask = self._read(index, pair) if kept is None else (kept[0].clone(), kept[1].clone())
        if self.scale != 1.0 and not self.scale_mask:
            image = scaled_floats(image, self.scale)  # evaluation sees what prediction does
        else:
            if image.dtype != torch.uint8 and (self.scale != 1.0 or self.augment is not None):
                image = in_unit_range(image)
            image = scaled_image(image, self.scale)
        if self.scale_mask and self.scale != 1.0:
            size = list(scaled_size(mask.shape[-2:], self.scale))
            mask = resize(Mask(mask), size, interpolation=InterpolationMode.NEAREST_EXACT).as_subclass(Tensor)
        sample = augmented({"image": image, "mask": mask, "name": pair.name or stem_of(pair.image)}, self.augment)
        return sample if self.is_compact else plain(sample)

    def _crop(self, pair: Pair, is_kept: bool) -> TrainingAugmentation | None:
        """What crops an image that can be read in parts, if that is how it is used."""
        augment = self.augment
        # Not one that is derived from it, which may change more.
        if type(augment) is not TrainingAugmentation or augment.size is None or self.scale != 1.0:
            return None
        # A mask that is not checked is to be seen as a whole.
        return augment if is_kept or (self.cache is None and self.is_checked and has_parts(pair.image)) else None

    def _part(self, pair: Pair, augment: TrainingAugmentation, kept: tuple[Tensor, Tensor] | None) -> Sample:
        """The sample, of an image and its mask of which no more is read than a crop shows."""
        size = self.image_size(pair.image) if kept is None else (kept[0].shape[-2], kept[0].shape[-1])
        whole = None if kept is None else kept[1]
        if whole is None and augment.crop_on is not None:
            whole = self.load_mask(pair)
        drawn = augment.draw(*size, whole)
        box = drawn.box(*size)
        place = (..., *box.parts)
        image = self.read_image(pair.image, box) if kept is None else kept[0][place].clone()
        mask = self.load_mask(pair, box) if whole is None else whole[place].clone()
        if image.dtype != torch.uint8:
            image = in_unit_range(image)
        mask = mask.to(torch.uint8) if self.is_small else mask.long()
        shown = drawn.within(box)
        return {
            "image": augment.changed_image(image, shown),
            "mask": augment.changed_mask(mask, shown),
            "name": pair.name or stem_of(pair.image),
        }

    def _read(self, index: int, pair: Pair) -> tuple[Tensor, Tensor]:
        """An image as it lies in its file, and its mask, both at their own size."""
        mask = self.load_mask(pair)
        image = self.read_image(pair.image)
        if not self.is_checked:
            self.count(mask, pair)
            check_sizes(pair, (image.shape[-2], image.shape[-1]), mask)
        mask = mask.to(torch.uint8) if self.is_small else mask.long()
        if self.cache is not None:
            self.cache.put(index, image, mask, pair.image)
        return image, mask

    def keep(self, place: str, what: str) -> None:
        """Keeps decoded images and masks in `memory` or on `disk`; see `SampleCache`."""
        sizes = [self.image_size(pair.image) for pair in self.pairs]
        channels = (self.num_values,) if self.read_mask.multilabel else ()
        first = self.read_image(self.pairs[0].image)
        self.cache = SampleCache(
            place,
            [(len(first), *size) for size in sizes],
            [(*channels, *size) for size in sizes],
            image_dtype=first.dtype,
            mask_dtype=torch.uint8 if self.is_small else torch.int64,
            what=what,
        )

    def load_mask(self, pair: Pair, box: Box | None = None) -> Tensor:
        """The mask of an image, or a part, uint8 or int64 `(H, W)` or `(C, H, W)` at its own size, not checked."""
        return self.read_mask(pair.mask, lambda: self.image_size(pair.image), box)

    def count(self, mask: Tensor, pair: Pair) -> Tensor:
        """Pixels of each value, or in the multilabel task of each class, int64 `(num_values,)`; see `check_values`."""
        if self.read_mask.multilabel:
            return check_channels(mask, pair.mask, self.num_values, self.ignore_index)
        return check_values(mask, pair.mask, self.num_values, self.ignore_index)

    def image_size(self, path: Path) -> tuple[int, int]:
        """Height and width of an image at its own size."""
        by_bands = self.channels != "rgb" or self.value_range is not None
        return image_size(path, max_pixels=self.max_pixels, page=self.page, by_bands=by_bands)

    def read_image(self, path: Path, box: Box | None = None) -> Tensor:
        """An image at its own size, or a part of it, as it lies in its file."""
        return read_image(
            path,
            max_pixels=self.max_pixels,
            page=self.page,
            channels=self.channels,
            value_range=self.value_range,
            box=box,
        )

    def inspect(self) -> Inspection:
        """See `inspect_pairs`."""
        found = inspect_pairs(self.pairs, self.load_mask, self.image_size, self.count)
        self.is_checked = True
        return found


def has_parts(path: object) -> bool:
    """Whether an image's file is called as one of which parts are read: a TIFF or an array."""
    return isinstance(path, Path) and path.suffix.lower() in (".tif", ".tiff", ".npy")


class ImageFiles(Dataset[Any]):
    """Images read from files, without masks: mappings with `image`, float32 `(channels, H, W)` in [0, 1].

    Args:
        paths: the files.
        scale: height and width of the image are multiplied by it.
        augment: see `SegmentationDataModule`; it is given a mask of zeros.
        max_pixels: see `load_image`.
        options: likewise.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        scale: float = 1.0,
        augment: Augment | None = None,
        max_pixels: int = MAX_PIXELS,
        **options: Any,
    ) -> None:
        self.options = options
        self.paths = list(paths)
        self.scale = scale
        self.augment = augment
        self.max_pixels = max_pixels

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        path = self.paths[index]
        image = load_image(path, self.scale, max_pixels=self.max_pixels, **self.options)
        no_labels = torch.zeros(image.shape[1:], dtype=torch.int64)
        return {"image": augmented({"image": image, "mask": no_labels, "name": path.stem}, self.augment)["image"]}
