"""Data from a folder of volumes and a folder of their masks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from lightning_seg.data.cache import SampleCache
from lightning_seg.data.datamodule import Augment, Sample, augmented
from lightning_seg.data.folder import FolderDataModule
from lightning_seg.data.image_files import ImageFileError
from lightning_seg.data.inspection import Inspection
from lightning_seg.data.mask_sources import MaskSource
from lightning_seg.data.masks import check_values
from lightning_seg.data.pairs import Pair
from lightning_seg.data.patterns import Pattern
from lightning_seg.data.splits import Division
from lightning_seg.data.values import Values, binarized
from lightning_seg.data.volume_files import MAX_VOXELS, VOLUME_SUFFIXES, Volume, check_same_place, read_volume
from lightning_seg.data.volume_reading import PERCENTILES, SeenShapes, VolumeReading

_MODALITY = "{modality}"
# Options of `FolderDataModule` that say how pictures are read.
_OF_PICTURES = ("scale", "color_table", "void_colors", "page", "mask_page", "missing_masks", "task")


class VolumesDataset(Dataset[Sample]):
    """Volumes and masks read from files; each mask is checked as it is read.

    Images are float32 `(channels, X, Y, Z)` in [0, 1], as `reading` says; masks int64 `(X, Y, Z)`, in training of the
    image's voxels, else of the file's own spacing, at which scores are taken; `spacing` is that of the mask.

    Args:
        pairs: the files.
        reading: of the images.
        others: files of the further modalities of an image, by its own.
        num_values: masks hold 0..num_values-1.
        ignore_index: and this, the value of void voxels.
        values: what values of the files stand for. Default: they are the classes.
        threshold: voxels of this value or more are 1, others 0.
        resample_mask: whether the mask is brought to the image's voxels.
        augment: see `SegmentationDataModule`.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        reading: VolumeReading,
        *,
        others: Mapping[Path, Sequence[Path]],
        num_values: int,
        ignore_index: int | None = None,
        values: Values | None = None,
        threshold: float | None = None,
        resample_mask: bool = False,
        augment: Augment | None = None,
    ) -> None:
        self.pairs = list(pairs)
        self.reading = reading
        self.others = others
        self.num_values = num_values
        self.ignore_index = ignore_index
        self.values = values
        self.threshold = threshold
        self.resample_mask = resample_mask
        self.augment = augment
        self._cache: SampleCache | None = None
        self._shapes: list[SeenShapes] = []

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        sample = self.read(index) if self._cache is None else self._kept(self._cache, index)
        changed = augmented(sample, self.augment)
        return {
            **changed,
            "image": changed["image"].clone(),
            "mask": changed["mask"].long(),
            "spacing": sample["spacing"],
        }

    def read(self, index: int) -> Sample:
        """A volume and its mask, not augmented."""
        pair = self.pairs[index]
        seen = self.reading(self.files(pair))
        labels = self._labels(pair, seen.file)
        check_values(labels, pair.mask, self.num_values, self.ignore_index)
        size = tuple(seen.image.shape[1:])
        if self.resample_mask and size != seen.size:
            labels = F.interpolate(labels[None, None].double(), size, mode="nearest-exact")[0, 0].long()
        return self._sample(pair, seen.image, labels, SeenShapes(tuple(seen.image.shape), seen.size, seen.spacing))

    def _sample(self, pair: Pair, image: Tensor, labels: Tensor, shapes: SeenShapes) -> Sample:
        spacing = [old * have / now for old, have, now in zip(shapes.spacing, shapes.size, labels.shape, strict=True)]
        placed = torch.tensor(spacing, dtype=torch.float64)
        return {"image": image, "mask": labels, "name": pair.called, "spacing": placed}

    def _kept(self, cache: SampleCache, index: int) -> Sample:
        pair, kept = self.pairs[index], cache.get(index)
        if kept is None:
            sample = self.read(index)
            cache.put(index, sample["image"], sample["mask"].to(self._mask_dtype), pair.image)
            return sample
        return self._sample(pair, *kept, self._shapes[index])

    def files(self, pair: Pair) -> list[Path]:
        """Those of an image, of each modality one."""
        return [pair.image, *self.others.get(pair.image, ())]

    def keep(self, place: str, what: str) -> None:
        """Keeps volumes and masks in `memory` or on `disk` once they have been read; see `SampleCache`."""
        self._shapes = [self.reading.shapes(self.files(pair)) for pair in self.pairs]
        self._cache = SampleCache(
            place,
            [shapes.image for shapes in self._shapes],
            [shapes.image[1:] if self.resample_mask else shapes.size for shapes in self._shapes],
            image_dtype=torch.float32,
            mask_dtype=self._mask_dtype,
            what=what,
            kind="volume",
        )

    @property
    def _mask_dtype(self) -> torch.dtype:
        labels = (self.num_values - 1, 0 if self.ignore_index is None else self.ignore_index)
        return torch.uint8 if min(labels) >= 0 and max(labels) <= 255 else torch.int64

    def inspect(self) -> Inspection:
        """Reads each mask and its image, and counts the voxels of each value.

        Raises:
            OSError: a file is not there, or cannot be read.
            ValueError: a file cannot be read, a mask has another value, or lies elsewhere than its image.
        """
        counts, sizes = [], []
        channels: dict[int, Path] = {}
        for pair in self.pairs:
            seen = self.reading(self.files(pair))
            labels = self._labels(pair, seen.file)
            counts.append(check_values(labels, pair.mask, self.num_values, self.ignore_index))
            sizes.append(tuple(labels.shape))
            channels.setdefault(len(seen.image), pair.image)
        if len(channels) > 1:
            (one, its), (other, others) = list(channels.items())[:2]
            raise ImageFileError(f"{its} has {one} channels and {others} has {other}: name them in data.channels.")
        return Inspection(torch.stack(counts), list(sizes))

    def _labels(self, pair: Pair, image: Volume) -> Tensor:
        """The labels of a mask, int64 `(X, Y, Z)`, turned as its image is, their values not checked."""
        path: Path | MaskSource = pair.mask
        if not isinstance(path, Path):
            raise ImageFileError(f"mask {path} is not a volume: data.masks names one file for each image.")
        mask = read_volume(path, max_voxels=self.reading.max_voxels, array_spacing=self.reading.array_spacing)
        if mask.voxels.shape[-1] != 1:
            raise ImageFileError(
                f"mask {path} has {mask.voxels.shape[-1]} channels, and one label a voxel is expected."
            )
        arrays = [str(one).lower().endswith(".npy") for one in (path, pair.image)]
        # An array tells no place of its own.
        placed = mask._replace(affine=image.affine) if any(arrays) else mask
        check_same_place(image, pair.image, placed, f"its mask {path}")
        raw = self.reading.turned(placed).voxels[..., 0]
        if self.threshold is not None:
            return torch.from_numpy(binarized(raw, self.threshold))
        if not (np.issubdtype(raw.dtype, np.integer) or raw.dtype == bool):
            whole = np.rint(raw)
            if not np.isfinite(raw).all() or (whole != raw).any():
                raise ImageFileError(
                    f"mask {path} holds {raw.dtype} that are not integers, and labels are: save it as such, or "
                    "give data.threshold for a soft mask."
                )
            raw = whole
        labels = raw.astype(np.int64)
        return torch.from_numpy(labels if self.values is None else self.values(labels, path))


class VolumesDataModule(FolderDataModule):
    """Your volumes and masks, NIfTI, NRRD or NumPy arrays, found as `FolderDataModule` finds images.

    Args:
        root: the folder; `~` is the home folder.
        num_classes: see `SegmentationDataModule`.
        spacing: millimeters between voxels along each axis, to which images, and in training masks, are resampled.
            Scores are taken at the masks' own. Default: nothing is resampled.
        orientation: what the axes point to: `RAS` is right, anterior, superior. None leaves them as they are.
        range: the values that become 0 and 1, as [-1000, 1000]; `percentiles` takes those of each volume and channel.
        modalities: of several files for one image, what `{modality}` of the pattern `images` is in each, in the order
            of the channels.
        channels: `all`, or a list of those that are used, from 0.
        array_spacing: millimeters between the voxels of `.npy`. Default: 1.
        tile: kept for the module, which evaluates and predicts larger volumes in windows of so many voxels a side,
            or along each axis.
        margin: likewise, voxels of context around a window's center.
        max_pixels: a volume of more voxels is refused.
        options: see `FolderDataModule`, except for those that are for 2-D images.

    Raises:
        ValueError: see `FolderDataModule`, or an option is for 2-D images.
    """

    image_suffixes = VOLUME_SUFFIXES[:-1]
    mask_suffixes = VOLUME_SUFFIXES

    def __init__(
        self,
        root: str | Path | None,
        num_classes: int,
        *,
        spacing: Sequence[float] | None = None,
        orientation: str | None = "RAS",
        range: str | Sequence[float] = PERCENTILES,
        modalities: Sequence[str] | None = None,
        channels: str | Sequence[int] = "all",
        array_spacing: Sequence[float] | None = None,
        tile: int | Sequence[int] | None = None,
        margin: int | Sequence[int] | None = None,
        images: str | None = None,
        max_pixels: int = MAX_VOXELS,
        **options: Any,
    ) -> None:
        unread = [name for name in _OF_PICTURES if options.get(name) is not None]
        if unread:
            raise ValueError(f"data.{unread[0]} is for 2-D images: leave it out for data=volumes.")
        if options.get("unlabeled_per_image"):
            raise ValueError("data.unlabeled_per_image is for images: volumes without masks are not trained on.")
        self.reading = VolumeReading(
            spacing=spacing,
            orientation=orientation,
            value_range=range,
            channels=channels,
            array_spacing=array_spacing,
            modalities=modalities,
            max_voxels=max_pixels,
        )
        named = images is not None and _MODALITY in images
        if named != (modalities is not None):
            raise ValueError(
                f"data.images={images} and data.modalities={modalities}: give both, the pattern with {{modality}}, or "
                "neither."
            )
        self.patterns = [images.replace(_MODALITY, one) for one in modalities or ()] if images is not None else []
        self.tile, self.margin = tile, margin
        super().__init__(
            root, num_classes, images=self.patterns[0] if self.patterns else images, max_pixels=max_pixels, **options
        )
        if self.layout.masks is not None and not isinstance(self.layout.masks, str):
            raise ValueError("data.masks of volumes is one pattern, of one file for each image.")
        self._others: dict[Path, list[Path]] | None = None

    def _files(self, pairs: Sequence[Pair], *, scale_mask: bool, augment: Augment | None) -> VolumesDataset:
        return VolumesDataset(
            pairs,
            self.reading,
            others=self._modalities(),
            num_values=self.num_values,
            ignore_index=self.ignore_index,
            values=self.values,
            threshold=self.threshold,
            resample_mask=scale_mask,
            augment=augment,
        )

    def _division(self) -> Division:
        found = super()._division()
        files = [
            str(one).lower() for pairs in found.splits.values() for pair in pairs for one in (pair.image, pair.mask)
        ]
        if self.reading.array_spacing is not None and not any(file.endswith(".npy") for file in files):
            raise ValueError(
                f"data.array_spacing={list(self.reading.array_spacing)} is that of .npy files, which {self.root} has "
                "none of: its volumes say their own, and data.spacing resamples them."
            )
        return found

    def _modalities(self) -> dict[Path, list[Path]]:
        """The files of the further modalities of each first one."""
        if self._others is None:
            found = [Pattern(text, "data.images", self.image_suffixes).find(self.root) for text in self.patterns]
            by_parts = [{tuple(sorted(one.parts.items())): one.path for one in files} for files in found]
            self._others = {}
            for parts, first in (by_parts[0] if by_parts else {}).items():
                lacking = [text for text, known in zip(self.patterns, by_parts, strict=True) if parts not in known]
                if lacking:
                    raise ValueError(
                        f"{first} is one of several modalities, and nothing of its case fits {lacking[0]}."
                    )
                self._others[first] = [known[parts] for known in by_parts[1:]]
        return self._others

    def _how_masks_are_read(self, pairs: Sequence[Pair]) -> str:
        return ""

    def _unlabeled(self, paths: Sequence[Path]) -> None:
        return None

    def _images_without_masks(self) -> list[Path]:
        return []
