"""Images that occur twice, or nearly."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lightning_seg.inspection.facts import ImageFacts

# Of 63 bits and of 255: what two images may differ by to be nearly the same.
MOST_BITS = 8
MOST_DIFFERENCE = 10.0
_BLOCK = 512


class Place(NamedTuple):
    """An image of a split."""

    split: str
    name: str


class Duplicate(NamedTuple):
    """Two images that are the same (`exact`), or look the same.

    `other_masks`: whether the same image has two masks.
    """

    first: Place
    second: Place
    exact: bool
    other_masks: bool

    @property
    def across(self) -> bool:
        """Whether they are in different splits, so that the scores on one tell of the other."""
        return self.first.split != self.second.split


def find_duplicates(splits: dict[str, list[ImageFacts]]) -> list[Duplicate]:
    """All pairs of images that are the same or look the same; those of different splits first, then exact ones.

    Two images look the same if their perceptual hashes differ in at most 8 of 63 bits, and their thumbnails of 16 × 16
    pixels by at most 10 of 255 on average. Of n equal images, n - 1 pairs are given.
    """
    places = [Place(split, facts.name) for split, images in splits.items() for facts in images]
    facts = [one for images in splits.values() for one in images]
    found: list[Duplicate] = []
    same: defaultdict[bytes, list[int]] = defaultdict(list)
    for index, one in enumerate(facts):
        same[one.image_digest].append(index)
    for indices in same.values():
        for first, second in _chained(indices, places):
            differs = facts[first].mask_digest != facts[second].mask_digest
            found.append(Duplicate(places[first], places[second], True, differs))
    for first, second in _near(facts):
        if facts[first].image_digest != facts[second].image_digest:
            found.append(Duplicate(places[first], places[second], False, False))
    return sorted(found, key=lambda pair: (not pair.across, not pair.exact, pair.first, pair.second))


def _chained(indices: Sequence[int], places: Sequence[Place]) -> list[tuple[int, int]]:
    """Each further one with the first, or with the first of another split."""
    pairs = []
    for position, index in enumerate(indices[1:], 1):
        before = indices[:position]
        elsewhere = [one for one in before if places[one].split != places[index].split]
        pairs.append(((elsewhere or before)[0], index))
    return pairs


def _near(facts: Sequence[ImageFacts]) -> Iterator[tuple[int, int]]:
    hashed = [index for index, one in enumerate(facts) if one.hash is not None]
    if len(hashed) < 2:
        return
    hashes = np.array([facts[index].hash for index in hashed], dtype=np.uint64)
    thumbnails: npt.NDArray[np.int16] = np.stack([facts[index].thumbnail for index in hashed]).astype(np.int16)
    for start in range(0, len(hashes), _BLOCK):
        bits = np.bitwise_count(hashes[start : start + _BLOCK, None] ^ hashes[None, start:])
        for row, column in zip(*np.nonzero(bits <= MOST_BITS), strict=True):
            first, second = start + int(row), start + int(column)
            if first < second and np.abs(thumbnails[first] - thumbnails[second]).mean() <= MOST_DIFFERENCE:
                yield hashed[first], hashed[second]
