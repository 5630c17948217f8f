"""The splits of a data set: what they are called, and the pairs of each."""

from collections import defaultdict
from typing import NamedTuple

from lightning_seg.data.pairs import Pair

SPLIT = "split"  # this part of a pattern
SPLITS = ("train", "val", "test")
# What {split} is usually called, in any case.
USUAL_SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}

Splits = dict[str | None, list[Pair]]  # None: not divided yet


class Division(NamedTuple):
    """The pairs of each split, under None those that are still to be divided; and what is to be said about them."""

    splits: Splits
    notes: list[str]


def torn_groups(splits: Splits) -> list[str]:
    """What is to be said of groups of which several splits have images."""
    splits_of: dict[str, dict[str, None]] = defaultdict(dict)
    for split, pairs in splits.items():
        for pair in pairs:
            if pair.group and split is not None:
                splits_of[pair.group][split] = None
    torn = [(group, list(splits)) for group, splits in splits_of.items() if len(splits) > 1]
    if not torn:
        return []
    group, names = torn[0]
    more = f" (and {len(torn) - 1} more groups)" if len(torn) > 1 else ""
    return [f"images of the group {group}{more} are in {' and '.join(names)}, so scores may be too good."]
