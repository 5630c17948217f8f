"""What there is to know of one image and its mask."""

import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import track
from scipy import fft, ndimage
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d
from torch.utils.data import DataLoader, Dataset

from lightning_seg.data.image_files import open_image
from lightning_seg.data.images import IMAGE_KINDS

THUMBNAIL = 16
_HASHED = 32  # pixels a side of the image whose lowest frequencies are hashed
_LOWEST = 8
_CONNECTED = np.ones((3, 3), dtype=bool)
_FLAT = 2.0  # standard deviation of the gray values, of 255, below which there is nothing to hash


class Objects(NamedTuple):
    """The connected components of one mask value in one image, corners touching.

    `areas`: pixels of each, int64. `thickness`: of each, 2·d + 1 pixels, where d is the largest distance of its pixels
    to its outline, float64.
    """

    areas: npt.NDArray[np.int64]
    thickness: npt.NDArray[np.float64]


class ImageFacts(NamedTuple):
    """What one image and its mask hold.

    `position`: in the dataset. `name`: of the sample. `height`, `width`: of the image. `stored`: how the file holds it,
    "" where that is not known.
    `channel_sums` and `channel_squares`: of the image's values, float64 `(channels,)`. `pixels`: of each mask value,
    int64 `(values,)`, and `void`: likewise, those that are void for it, which in a label map are the same for all.
    `area`: pixels of the mask. `objects`: of each mask value that occurs.
    `image_digest`, `mask_digest`: of all pixels. `hash`: 63 bits of its lowest frequencies, None if the image is flat.
    `thumbnail`: uint8 `(16, 16, 3)`.
    """

    position: int
    name: str
    height: int
    width: int
    stored: str
    channel_sums: npt.NDArray[np.float64]
    channel_squares: npt.NDArray[np.float64]
    pixels: npt.NDArray[np.int64]
    void: npt.NDArray[np.int64]
    area: int
    objects: dict[int, Objects]
    image_digest: bytes
    mask_digest: bytes
    hash: int | None
    thumbnail: npt.NDArray[np.uint8]


class Unreadable(NamedTuple):
    """A sample that could not be read, and why, in one line."""

    name: str
    reason: str


def image_facts(position: int, name: str, image: Tensor, mask: Tensor, num_values: int, stored: str = "") -> ImageFacts:
    """What an image and its mask hold.

    Args:
        position: in the dataset.
        name: of the sample.
        image: float `(channels, H, W)` in [0, 1].
        mask: integer `(H, W)`; what is not 0..num_values-1 is void. Or `(num_values, H, W)` of several labels a pixel,
            1 where it has the label; what is neither 0 nor 1 is void.
        num_values: of the mask, of several labels the classes.
        stored: how the file holds the image.
    """
    pixels, void = np.zeros(num_values, np.int64), np.zeros(num_values, np.int64)
    objects: dict[int, Objects] = {}
    for labels, classes in _layers(mask.numpy(), num_values):
        values, counts = np.unique(labels, return_counts=True)
        known = dict(zip(values.tolist(), counts.tolist(), strict=True))
        present = {value: index for value, index in classes.items() if value in known}
        for value, index in present.items():
            pixels[index] = known[value]
        void[list(classes.values())] = sum(count for value, count in known.items() if not 0 <= value <= max(classes))
        objects |= _objects(labels, present)
    double = image.double().flatten(1)
    colors = image if len(image) == 3 else image[:1].expand(3, -1, -1)
    small = (255 * adaptive_avg_pool2d(colors[None], THUMBNAIL)[0]).round().to(torch.uint8)
    return ImageFacts(
        position=position,
        name=name,
        height=image.shape[-2],
        width=image.shape[-1],
        stored=stored,
        channel_sums=double.sum(1).numpy(),
        channel_squares=double.square().sum(1).numpy(),
        pixels=pixels,
        void=void,
        area=mask.shape[-2] * mask.shape[-1],
        objects=objects,
        image_digest=_digest(image),
        mask_digest=_digest(mask),
        hash=perceptual_hash(colors),
        thumbnail=small.movedim(0, -1).numpy(),
    )


def perceptual_hash(image: Tensor) -> int | None:
    """63 bits, which of an image's lowest frequencies are above their median; None if it has none to speak of.

    Images that differ in size, compression or brightness have equal hashes, or nearly.

    Args:
        image: float `(3, H, W)` in [0, 1].
    """
    gray = 255 * adaptive_avg_pool2d(image.mean(0)[None, None], _HASHED)[0, 0].double().numpy()
    if gray.std() < _FLAT:
        return None
    lowest = fft.dctn(gray, norm="ortho")[:_LOWEST, :_LOWEST].flatten()[1:]  # without the mean
    bits = lowest > np.median(lowest)
    return int("".join("1" if bit else "0" for bit in bits), 2)


def read_facts(
    dataset: Dataset[Any], num_values: int, num_workers: int, description: str, *, multilabel: bool = False
) -> tuple[list[ImageFacts], list[Unreadable]]:
    """Reads each sample of a dataset once, in parallel; what there is to know of them, and what cannot be read.

    Args:
        dataset: samples with `image`, `mask` and `name`; what it would do to them at random is left out, see
            `without_augmentation`.
        num_values: of its masks.
        num_workers: processes that read; 0 reads in this one.
        description: for the progress bar.
        multilabel: whether masks are `(num_values, H, W)` of 0 and 1, instead of label maps `(H, W)`.

    Raises:
        ValueError: a mask is of the other kind.
    """
    facts_of = _Facts(without_augmentation(dataset), num_values, multilabel)
    loader = DataLoader(facts_of, batch_size=None, num_workers=num_workers, collate_fn=_same)
    found: list[ImageFacts] = []
    unreadable: list[Unreadable] = []
    for facts in track(loader, description, transient=True, disable=not sys.stdout.isatty()):
        if isinstance(facts, Unreadable):
            unreadable.append(facts)
        else:
            found.append(facts)
    return found, unreadable


def without_augmentation(dataset: Dataset[Any]) -> Any:
    """The dataset without its attribute `augment`, if it has one."""
    plain: Any = copy(dataset)
    if hasattr(plain, "augment"):
        plain.augment = None
    return plain


class _Facts(Dataset[ImageFacts | Unreadable]):
    def __init__(self, dataset: Any, num_values: int, multilabel: bool) -> None:
        self.dataset, self.num_values, self.multilabel = dataset, num_values, multilabel

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> ImageFacts | Unreadable:
        pairs: Sequence[Any] = getattr(self.dataset, "pairs", ())
        path = getattr(pairs[index], "image", None) if index < len(pairs) else None
        try:
            sample = self.dataset[index]
            name, image, mask = str(sample["name"]), sample["image"], sample["mask"]
        except (OSError, ValueError, MemoryError) as error:
            return Unreadable(str(path or index), " ".join(str(error).split()))
        if mask.ndim < 2 or tuple(mask.shape[:-2]) != ((self.num_values,) if self.multilabel else ()):
            expected = f"({self.num_values}, H, W)" if self.multilabel else "(H, W), or (C, H, W) with task=multilabel,"
            raise ValueError(f"{name} has a mask of shape {tuple(mask.shape)}, and {expected} is expected.")
        return image_facts(index, name, image, mask, self.num_values, "" if path is None else _stored(path))


def _same(sample: Any) -> Any:
    return sample


def _stored(path: Any) -> str:
    try:
        with open_image(path, IMAGE_KINDS, max_pixels=2**40) as source:
            return f"{source.kind}, {source.image.mode}"
    except (OSError, ValueError):  # of a kind that something else reads
        return ""


def _layers(mask: npt.NDArray[Any], num_values: int) -> Iterator[tuple[npt.NDArray[Any], dict[int, int]]]:
    """Label maps `(H, W)`, and which class each of their values is, from 0; other values are void."""
    if mask.ndim == 2:
        yield mask, {value: value for value in range(num_values)}
    else:
        yield from ((channel, {1: index}) for index, channel in enumerate(mask))


def _objects(labels: npt.NDArray[Any], classes: Mapping[int, int]) -> dict[int, Objects]:
    if not classes:
        return {}
    distance = _distance_to_outline(labels)
    found = {}
    for value, index in classes.items():
        numbered, count = ndimage.label(labels == value, _CONNECTED)
        indices = np.arange(1, count + 1)
        areas = np.bincount(numbered.ravel(), minlength=count + 1)[1:]
        largest = np.asarray(ndimage.maximum(distance, numbered, indices), dtype=np.float64)
        found[index] = Objects(areas.astype(np.int64), 2 * largest + 1)
    return found


def _distance_to_outline(labels: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Of each pixel to the nearest one with a neighbor of another label; the image's border is none."""
    outline = np.zeros(labels.shape, dtype=bool)
    for axis in (0, 1):
        differs = np.diff(labels, axis=axis) != 0
        first = (slice(None, -1), slice(None)) if axis == 0 else (slice(None), slice(None, -1))
        second = (slice(1, None), slice(None)) if axis == 0 else (slice(None), slice(1, None))
        outline[first] |= differs
        outline[second] |= differs
    if not outline.any():
        return np.full(labels.shape, max(labels.shape) / 2)
    distance: npt.NDArray[np.float64] = ndimage.distance_transform_edt(~outline)
    return distance


def _digest(tensor: Tensor) -> bytes:
    content = hashlib.sha256(repr(tuple(tensor.shape)).encode())
    content.update(tensor.contiguous().numpy().tobytes())
    return content.digest()
