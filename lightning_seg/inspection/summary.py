"""What the images of a split hold together, and what is wrong with a data set."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lightning_seg.inspection.duplicates import Duplicate
from lightning_seg.inspection.facts import ImageFacts, Unreadable
from lightning_seg.text import number_of

_FEW_IMAGES = 5
_LOW_CONTRAST = 0.02  # standard deviation; five of the 256 levels of a photograph
_THIN = 3.0  # pixels; what a network of output stride 4 or more easily loses


class ValueSummary(NamedTuple):
    """One mask value over the images of a split.

    `pixels`; `share`: of the pixels that are not void for it; `images`: in which it occurs; `objects`: connected
    components; `area` and `thickness`: those of the object that the median pixel of the value lies in, so that specks
    count little; in pixels, NaN where it does not occur.
    """

    name: str
    pixels: int
    share: float
    images: int
    objects: int
    area: float
    thickness: float


class SplitSummary(NamedTuple):
    """The images of one split.

    `void_share`: of all pixels, and of all channels of a mask that has several; `void_only`: masks that are all void;
    `sizes`: height and width, and how many have it; `stored`: how files hold images, and how many do; `mean`, `std`:
    per channel, of the values in [0, 1]; empty where images differ in channels.
    """

    images: int
    void_share: float
    void_only: list[str]
    sizes: Counter[tuple[int, int]]
    stored: Counter[str]
    mean: list[float]
    std: list[float]
    values: list[ValueSummary]


def summarize(images: Sequence[ImageFacts], names: Sequence[str]) -> SplitSummary:
    """What the images of a split hold together.

    Args:
        images: of the split.
        names: one for each mask value.
    """
    area = sum(one.area for one in images)
    void = np.sum([one.void for one in images], axis=0) if images else np.zeros(len(names), np.int64)
    channels = {len(one.channel_sums) for one in images}
    mean, std = _moments(images) if len(channels) == 1 else ([], [])
    return SplitSummary(
        images=len(images),
        void_share=int(void.sum()) / max(1, area * len(names)),
        void_only=[one.name for one in images if (one.void == one.area).all()],
        sizes=Counter((one.height, one.width) for one in images),
        stored=Counter(one.stored for one in images if one.stored),
        mean=mean,
        std=std,
        values=[_value(index, name, images, area - int(void[index])) for index, name in enumerate(names)],
    )


def problems(
    summaries: Mapping[str, SplitSummary],
    unreadable: Mapping[str, Sequence[Unreadable]],
    duplicates: Sequence[Duplicate],
) -> list[str]:
    """What is wrong or worth a look, one sentence each, the worst first."""
    found = [f"{split}: {one.reason}" for split, ones in unreadable.items() for one in ones]
    found += _leaks(summaries, duplicates)
    contradictory = [pair for pair in duplicates if pair.other_masks]
    if contradictory:
        first = contradictory[0]
        found.append(
            f"{number_of(len(contradictory), 'pair')} of equal images with different masks, such as "
            f"{_place(first.first)} and {_place(first.second)}: at most one of the two is right."
        )
    within = [pair for pair in duplicates if not pair.across]
    if within:
        exact = sum(pair.exact for pair in within)
        equal = [f"{exact} {_pairs(exact)} equal"] if exact else []
        alike = len(within) - exact
        same = [f"{alike} {_pairs(alike)} alike, as frames of a video are"] if alike else []
        found.append(f"within a split, {' and '.join(equal + same)}: they count several times.")
    for split, summary in summaries.items():
        found += _of_split(split, summary)
    return found


def _pairs(count: int) -> str:
    return "pair of images is" if count == 1 else "pairs of images are"


def _of_split(split: str, summary: SplitSummary) -> list[str]:
    found = []
    if summary.void_only:
        found.append(
            f"{split}: {number_of(len(summary.void_only), 'mask')} without a pixel of a class "
            f"({_some(summary.void_only)})."
        )
    absent = [value.name for value in summary.values if not value.pixels]
    if absent:
        verb = "learned" if split == "train" else "scored"
        found.append(f"{split}: no mask has a pixel of {_some(absent)}, which cannot be {verb}.")
    few = [value.name for value in summary.values if 0 < value.images < min(_FEW_IMAGES, summary.images)]
    if few:
        found.append(f"{split}: {_some(few)} in fewer than {_FEW_IMAGES} images: such scores say little.")
    thin = [value.name for value in summary.values if value.pixels and value.thickness <= _THIN]
    if thin and split == "train":
        found.append(
            f"{split}: half of the pixels of {_some(thin)} are in objects at most {_THIN:g} pixels thick: keep "
            "data.scale=1, and see loss=cldice and loss=boundary."
        )
    if split == "train" and summary.std and max(summary.std) < _LOW_CONTRAST:
        low, high = min(summary.mean), max(summary.mean)
        mean = f"{low:.2g}" if high - low < 0.01 else f"{low:.2g} to {high:.2g}"
        found.append(
            f"{split}: images use little of their range from 0 to 1: their mean is {mean} and their standard deviation "
            f"{max(summary.std):.2g}. Give data.range=[BLACK,WHITE], or data.mean=auto data.std=auto as in the plan."
        )
    if len(summary.stored) > 1:
        kinds = ", ".join(f"{count} {stored}" for stored, count in summary.stored.most_common())
        found.append(f"{split}: files differ in how they hold images: {kinds}.")
    return found


def _leaks(summaries: Mapping[str, SplitSummary], duplicates: Sequence[Duplicate]) -> list[str]:
    found = []
    splits = list(summaries)
    for first in range(len(splits)):
        for second in range(first + 1, len(splits)):
            one, other = splits[first], splits[second]
            pairs = [pair for pair in duplicates if {pair.first.split, pair.second.split} == {one, other}]
            if not pairs:
                continue
            seen = {place.name for pair in pairs for place in pair[:2] if place.split == other}
            equal = {place.name for pair in pairs if pair.exact for place in pair[:2] if place.split == other}
            images = number_of(summaries[other].images, f"{other} image")
            found.append(
                f"leak: {len(seen)} of {images} in {one} too, {len(equal)} of them exactly and the others nearly: "
                f"scores on {other} are too good. Split by video, patient or place."
            )
    return found


def _value(index: int, name: str, images: Sequence[ImageFacts], total: int) -> ValueSummary:
    objects = [one.objects[index] for one in images if index in one.objects]
    areas = np.concatenate([one.areas for one in objects]) if objects else np.zeros(0)
    thickness = np.concatenate([one.thickness for one in objects]) if objects else np.zeros(0)
    pixels = int(sum(one.pixels[index] for one in images))
    return ValueSummary(
        name=name,
        pixels=pixels,
        share=pixels / max(1, total),
        images=len(objects),
        objects=len(areas),
        area=_median(areas, areas),
        thickness=_median(thickness, areas),
    )


def _median(values: npt.NDArray[Any], weights: npt.NDArray[Any]) -> float:
    if not len(values):
        return float("nan")
    order = values.argsort()
    below = weights[order].cumsum()
    return float(values[order][np.searchsorted(below, below[-1] / 2)])


def _moments(images: Sequence[ImageFacts]) -> tuple[list[float], list[float]]:
    count = sum(one.height * one.width for one in images)
    mean = np.sum([one.channel_sums for one in images], axis=0) / count
    square = np.sum([one.channel_squares for one in images], axis=0) / count
    return mean.tolist(), np.sqrt((square - mean**2).clip(min=0)).tolist()


def _place(place: tuple[str, str]) -> str:
    return "/".join(place)


def _some(names: Sequence[str], most: int = 5) -> str:
    listed = ", ".join(names[:most])
    return f"{listed} and {len(names) - most} more" if len(names) > most else listed
