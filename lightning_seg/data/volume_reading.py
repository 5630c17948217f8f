"""How a network gets to see a volume: its modalities, orientation, spacing and range."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_seg.data.extras import required
from lightning_seg.data.image_files import ImageFileError
from lightning_seg.data.volume_files import MAX_VOXELS, Array, Volume, check_same_place, read_header, read_volume
from lightning_seg.memory import check_memory

PERCENTILES = "percentiles"
_SHARE = (0.5, 99.5)  # percent of the voxels below black and white
_PAIRS = ("LR", "PA", "IS")


class SeenVolume(NamedTuple):
    """A volume as its network sees it, and what brings labels back to the file.

    `image`: float32 `(channels, X, Y, Z)` in [0, 1], of the spacing that was asked for; `size`: of the volume in its
    own spacing, turned; `spacing`: that; `file`: the volume as it lies in its file, with its first channel alone.
    """

    image: Tensor
    size: tuple[int, int, int]
    spacing: tuple[float, ...]
    file: Volume


class SeenShapes(NamedTuple):
    """Of a `SeenVolume`: the shape of its image, its size in its own spacing, and that."""

    image: tuple[int, ...]
    size: tuple[int, ...]
    spacing: tuple[float, ...]


@dataclass(frozen=True)
class VolumeReading:
    """How volumes are read.

    Args:
        spacing: millimeters between voxels along each axis, to which images are resampled. Default: their own.
        orientation: what the three axes point to: `RAS` is right, anterior, superior. None leaves them.
        value_range: the values that become 0 and 1; `percentiles`: those of each volume and channel, of which 0.5 % of
            the voxels lie beyond.
        channels: `all`, or a list of them, from 0.
        array_spacing: see `read_volume`.
        modalities: names of the files of one case, in the order of the channels.
        pattern: the name of these files, with `{modality}`.
        max_voxels: see `read_volume`.

    Raises:
        ValueError: an argument is outside its range.
    """

    spacing: Sequence[float] | None = None
    orientation: str | None = "RAS"
    value_range: str | Sequence[float] = PERCENTILES
    channels: str | Sequence[int] = "all"
    array_spacing: Sequence[float] | None = None
    modalities: Sequence[str] | None = None
    pattern: str | None = None
    max_voxels: int = MAX_VOXELS

    def __post_init__(self) -> None:
        for name in ("spacing", "array_spacing"):
            value = getattr(self, name)
            if value is not None and not (len(value) == 3 and all(0 < float(one) < 1e4 for one in value)):
                raise ValueError(f"data.{name}={list(value)} must be three distances above 0, in millimeters.")
        letters = str(self.orientation).upper()
        if self.orientation is not None and sorted(
            next((index for index, pair in enumerate(_PAIRS) if letter in pair), -1) for letter in letters
        ) != [0, 1, 2]:
            raise ValueError(f"data.orientation={self.orientation} must be one of L R, P A and I S each, as RAS.")
        if isinstance(self.value_range, str):
            if self.value_range != PERCENTILES:
                raise ValueError(
                    f"data.range={self.value_range} is neither {PERCENTILES} nor two values, [-1000,1000]."
                )
        elif not (len(self.value_range) == 2 and self.value_range[0] < self.value_range[1]):
            raise ValueError(f"data.range={list(self.value_range)} must be the values of black and white.")
        if self.channels != "all" and (
            isinstance(self.channels, str)
            or not self.channels
            or not all(type(one) is int and one >= 0 for one in self.channels)
        ):
            raise ValueError(f"data.channels={self.channels} of volumes is all, or a list of them from 0, [0,2].")
        if self.modalities is not None and (
            isinstance(self.modalities, str) or len(set(self.modalities)) < max(1, len(self.modalities))
        ):
            raise ValueError(f"data.modalities={self.modalities} must be different names, [flair,t1].")

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "VolumeReading":
        """That of the configuration of a `VolumesDataModule`."""
        images = data.get("images")
        return cls(
            spacing=data.get("spacing"),
            orientation=data.get("orientation", "RAS"),
            value_range=data.get("range") or PERCENTILES,
            channels=data.get("channels") or "all",
            array_spacing=data.get("array_spacing"),
            modalities=data.get("modalities"),
            pattern=None if images is None else str(images).rpartition("/")[2],
        )

    def __call__(self, paths: Sequence[Path]) -> SeenVolume:
        """The volume of one file, or of one for each modality.

        Raises:
            OSError: see `read_volume`.
            ImageFileError: likewise, or the files differ in their voxels' places.
        """
        volumes = [read_volume(path, max_voxels=self.max_voxels, array_spacing=self.array_spacing) for path in paths]
        for path, volume in zip(paths[1:], volumes[1:], strict=True):
            check_same_place(volumes[0], paths[0], volume, path)
        first = volumes[0]
        voxels = first.voxels if len(volumes) == 1 else np.concatenate([one.voxels for one in volumes], -1)
        seen = self.turned(Volume(self._chosen(voxels, paths[0]), first.affine))
        self._check_memory(seen.voxels.shape[3], self.size(seen.voxels.shape[:3], seen.spacing), paths[0])
        image = self.resampled(torch.from_numpy(self._in_range(seen.voxels, paths[0])), seen.spacing)
        size = seen.voxels.shape
        return SeenVolume(
            image, (size[0], size[1], size[2]), seen.spacing, first._replace(voxels=first.voxels[..., :1])
        )

    def place(self, path: Path) -> Array:
        """The affine of a file."""
        return read_header(path, max_voxels=self.max_voxels, array_spacing=self.array_spacing).affine

    def shapes(self, paths: Sequence[Path]) -> SeenShapes:
        """What `__call__` will give of these files, by their headers."""
        headers = [read_header(path, max_voxels=self.max_voxels, array_spacing=self.array_spacing) for path in paths]
        first = headers[0]
        order = range(3) if self.orientation is None else np.argsort(self._change(first.affine)[1][:, 0]).tolist()
        size = tuple(first.shape[axis] for axis in order)
        spacing = tuple(first.spacing[axis] for axis in order)
        channels = sum(one.shape[3] for one in headers) if isinstance(self.channels, str) else len(self.channels)
        return SeenShapes((channels, *self.size(size, spacing)), size, spacing)

    def turned(self, volume: Volume) -> Volume:
        """A volume whose axes point to what `orientation` says."""
        if self.orientation is None:
            return volume
        orientations, change = self._change(volume.affine)
        voxels = orientations.apply_orientation(volume.voxels, change)
        affine = volume.affine @ orientations.inv_ornt_aff(change, volume.voxels.shape[:3])
        return Volume(np.ascontiguousarray(voxels), affine)

    def turned_back(self, voxels: Array, file: Volume) -> Array:
        """Voxels `(X, Y, Z)` or `(X, Y, Z, channels)` of a turned volume, as those of its file lie."""
        if self.orientation is None:
            return voxels
        orientations, change = self._change(file.affine)
        axes = change[:, 0].astype(int)  # of the turned volume, for each of the file's
        back = np.stack([np.argsort(axes), change[np.argsort(axes), 1]], 1)
        return np.ascontiguousarray(orientations.apply_orientation(voxels, back))

    def _change(self, affine: Array) -> tuple[Any, Array]:
        orientations = required("nibabel", "data.orientation").orientations
        wanted = orientations.axcodes2ornt(tuple(str(self.orientation).upper()))
        return orientations, orientations.ornt_transform(orientations.io_orientation(affine), wanted)

    def resampled(self, image: Tensor, spacing: Sequence[float]) -> Tensor:
        """An image `(channels, X, Y, Z)` of the spacing that is asked for."""
        size = self.size(image.shape[1:], spacing)
        if size == tuple(image.shape[1:]):
            return image
        return F.interpolate(image[None], size, mode="trilinear", align_corners=False)[0]

    def size(self, size: Sequence[int], spacing: Sequence[float]) -> tuple[int, ...]:
        """How many voxels a volume has in the spacing that is asked for."""
        if self.spacing is None:
            return tuple(size)
        ratios = [have / float(want) for have, want in zip(spacing, self.spacing, strict=True)]
        return tuple(max(1, round(side * ratio)) for side, ratio in zip(size, ratios, strict=True))

    def _check_memory(self, channels: int, size: Sequence[int], path: Path) -> None:
        """Refuses a volume that would be too large in the spacing that is asked for."""
        count = math.prod(size)
        if count > self.max_voxels:
            raise ImageFileError(
                f"{path} would have {count:,} voxels in data.spacing={list(self.spacing or ())}, more than "
                f"{self.max_voxels:,}: check its own spacing, or ask for a larger one."
            )
        check_memory(4 * channels * count, path)

    def _chosen(self, voxels: Array, path: Path) -> Array:
        if isinstance(self.channels, str):
            return voxels
        count = voxels.shape[-1]
        if max(self.channels) >= count:
            raise ImageFileError(
                f"{path} has {count} channels, and data.channels asks for {max(self.channels)}, from 0."
            )
        return voxels[..., list(self.channels)]

    def _in_range(self, voxels: Array, path: Path) -> Array:
        """Float32 `(channels, X, Y, Z)` in [0, 1]."""
        with np.errstate(over="ignore"):  # what is too large for float32 is refused next
            values = np.ascontiguousarray(np.moveaxis(voxels, -1, 0), np.float32)
        if not np.isfinite(values).all():
            raise ImageFileError(f"{path} holds voxels that are not finite: fill them, and mark them void.")
        for channel in values:
            if isinstance(self.value_range, str):
                low, high = (float(value) for value in np.percentile(channel, _SHARE))
            else:
                low, high = (float(value) for value in self.value_range)
            channel -= low
            channel /= max(high - low, 1e-12)
        return values.clip(0, 1)
