"""Looking at every image and mask once, before training starts."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from lightning.pytorch.utilities import rank_zero_only
from rich.progress import track
from torch import Tensor

from lightning_seg.data.images import image_size
from lightning_seg.data.masks import check_values
from lightning_seg.data.pairs import Pair

# Fewer are read in a moment.
_WORTH_A_PROGRESS_BAR = 500


def inspect_pairs(
    pairs: Sequence[Pair], load_mask: Callable[[Path], Tensor], num_values: int, ignore_index: int | None
) -> Tensor:
    """Pixels of each value in each mask, int64 `(masks, num_values)`.

    Args:
        pairs: the files; each mask is read, of each image only the header.
        load_mask: reads a mask, int64 `(H, W)`.
        num_values: masks hold 0..num_values-1.
        ignore_index: and this.

    Raises:
        ValueError: the first file, in the order given, that cannot be read, a mask with another value, or an image and
            a mask that differ in size.
    """

    def inspect(pair: Pair) -> Tensor:
        mask = load_mask(pair.mask)
        check_sizes(pair, image_size(pair.image), mask)
        return check_values(mask, pair.mask, num_values, ignore_index)

    # Decoding releases the interpreter's lock.
    with ThreadPoolExecutor(min(32, os.cpu_count() or 1)) as threads:
        counts = track(
            threads.map(inspect, pairs),
            "reading masks",
            total=len(pairs),
            transient=True,
            disable=len(pairs) < _WORTH_A_PROGRESS_BAR or rank_zero_only.rank != 0,  # type: ignore[attr-defined]
        )
        return torch.stack(list(counts))


def check_sizes(pair: Pair, size: tuple[int, int], mask: Tensor) -> None:
    """Refuses an image of another size than its mask's.

    Raises:
        ValueError: they differ.
    """
    height, width = mask.shape
    if size != (height, width):
        raise ValueError(
            f"{pair.image} is {size[0]}×{size[1]} and its mask {pair.mask} is {height}×{width} (height by width): "
            "they must have the same size."
        )


def describe_counts(counts: Tensor, class_names: Sequence[str]) -> str:
    """The share of each class among the pixels counted, in one line."""
    total = max(int(counts.sum()), 1)
    names = class_names if len(class_names) == len(counts) else ["background", *class_names]
    return ", ".join(f"{name} {100 * int(count) / total:.2f}%" for name, count in zip(names, counts, strict=True))
