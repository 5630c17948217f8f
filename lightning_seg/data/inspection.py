"""Looking at every image and mask once, before training starts."""

import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import torch
from lightning.pytorch.utilities import rank_zero_only
from rich.progress import track
from torch import Tensor
from torchvision.transforms import v2

from lightning_seg.data.augment import TrainingAugmentation
from lightning_seg.data.pairs import Pair

# Fewer are read in a moment.
_WORTH_A_PROGRESS_BAR = 500


class Inspection(NamedTuple):
    """What a look at images and masks has found.

    `counts`: pixels of each value in each mask, int64 `(masks, num_values)`; `sizes`: height and width of
    each, or the three sides of a volume.
    """

    counts: Tensor
    sizes: list[tuple[int, ...]]


def inspect_pairs(
    pairs: Sequence[Pair],
    load_mask: Callable[[Pair], Tensor],
    image_size: Callable[[Path], tuple[int, int]],
    count: Callable[[Tensor, Pair], Tensor],
) -> Inspection:
    """Reads each mask, and of each image only the header.

    Args:
        pairs: the files.
        load_mask: reads a mask, uint8 or int64 `(H, W)` or `(C, H, W)`.
        image_size: reads height and width of an image.
        count: counts the pixels of each value, and refuses others.

    Raises:
        OSError: the first file, in the order given, that is not there or cannot be read.
        ValueError: the first file, in the order given, that cannot be read, a mask with another value, or an image and
            a mask that differ in size.
    """

    def inspect(pair: Pair) -> tuple[Tensor, tuple[int, int]]:
        mask, size = load_mask(pair), image_size(pair.image)
        check_sizes(pair, size, mask)
        return count(mask, pair), size

    # Decoding releases the interpreter's lock.
    with ThreadPoolExecutor(min(32, os.cpu_count() or 1)) as threads:
        found = track(
            threads.map(inspect, pairs),
            "reading masks",
            total=len(pairs),
            transient=True,
            disable=len(pairs) < _WORTH_A_PROGRESS_BAR
            or rank_zero_only.rank != 0  # type: ignore[attr-defined]
            or not sys.stdout.isatty(),
        )
        counts, sizes = zip(*found, strict=True)
    return Inspection(torch.stack(counts), list(sizes))


def check_sizes(pair: Pair, size: tuple[int, int], mask: Tensor) -> None:
    """Refuses an image of another size than its mask's.

    Raises:
        ValueError: they differ.
    """
    height, width = mask.shape[-2:]
    if size != (height, width):
        raise ValueError(
            f"{pair.image} is {size[0]}×{size[1]} and its mask {pair.mask} is {height}×{width} (height by width): "
            "they must have the same size."
        )


def describe_counts(counts: Tensor, names: Sequence[str]) -> str:
    """The share of each mask value among the pixels counted, in one line."""
    total = max(int(counts.sum()), 1)
    return ", ".join(f"{name} {100 * int(count) / total:.2f}%" for name, count in zip(names, counts, strict=True))


def value_names(num_values: int, class_names: Sequence[str]) -> list[str]:
    """A name for each mask value; in the binary task, that of 0 is not a class."""
    return list(class_names) if len(class_names) == num_values else ["background", *class_names]


def void_share(augment: object, sizes: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], float] | None:
    """The crop of an augmentation, and the share of it that lies outside of the images, on average; None without.

    Args:
        augment: that of `training_augmentation`, or transforms of torchvision in a `Compose`, one of which may be it.
        sizes: height and width of each image.
    """
    for step in getattr(augment, "transforms", (augment,)):
        if isinstance(step, v2.RandomCrop | TrainingAugmentation) and step.size is not None:
            height, width = step.size
            inside = [min(height, rows) * min(width, columns) for rows, columns in sizes]
            return (height, width), 1 - sum(inside) / (len(inside) * height * width)
    return None
