import numpy as np
import pytest
import torch

from lightning_seg.inspection.duplicates import find_duplicates
from lightning_seg.inspection.facts import Unreadable, image_facts
from lightning_seg.inspection.summary import problems, summarize
from tests.inspection.test_facts import smooth_image

NAMES = ["background", "disc", "wire"]


def facts(name: str, seed: int, mask: torch.Tensor | None = None, **stored: str):
    mask = torch.zeros(64, 64, dtype=torch.int64) if mask is None else mask
    return image_facts(0, name, smooth_image(seed), mask, 3, **stored)


def mask_of(*places: tuple[int, slice, slice]) -> torch.Tensor:
    mask = torch.zeros(64, 64, dtype=torch.int64)
    for value, rows, columns in places:
        mask[rows, columns] = value
    return mask


def test_a_class_is_summed_over_the_images():
    square = mask_of((1, slice(0, 10), slice(0, 10)))
    two = mask_of((1, slice(0, 10), slice(0, 10)), (1, slice(20, 21), slice(0, 4)), (255, slice(40, 64), slice(None)))
    found = summarize([facts("a", 0, square), facts("b", 1, two), facts("c", 2)], NAMES)
    disc = found.values[1]
    assert (disc.pixels, disc.images, disc.objects) == (204, 2, 3)
    assert disc.share == pytest.approx(204 / (3 * 64 * 64 - 24 * 64))
    assert disc.area == 100  # the median pixel's; the median of the objects' areas would be that, too, of 4, 100, 100
    assert found.void_share == pytest.approx(24 * 64 / (3 * 64 * 64))
    assert np.isnan(found.values[2].area)
    assert found.sizes == {(64, 64): 3}


def test_of_several_labels_a_pixel_each_class_has_a_share_of_its_own_channel():
    disc, wire = mask_of((1, slice(0, 32), slice(None))), mask_of((1, slice(16, 64), slice(None)))
    disc[48:] = 255
    images = [facts("a", 0, torch.stack([disc, wire, 0 * wire])), facts("b", 1, torch.full((3, 64, 64), 255))]
    found = summarize(images, NAMES)
    assert [value.share for value in found.values] == pytest.approx([2 / 3, 3 / 4, 0])
    assert [value.images for value in found.values] == [1, 1, 0]
    assert found.void_share == pytest.approx((1 / 4 + 3) / 6)
    assert found.void_only == ["b"]


def test_specks_do_not_decide_how_large_the_objects_of_a_class_are():
    mask = mask_of(
        (1, slice(20, 40), slice(20, 40)), *((1, slice(row, row + 1), slice(0, 1)) for row in range(0, 60, 2))
    )
    found = summarize([facts("a", 0, mask)], NAMES)
    assert (found.values[1].objects, found.values[1].area) == (31, 400)


def test_mean_and_deviation_are_those_of_all_pixels():
    images = [smooth_image(seed) for seed in range(3)]
    found = summarize([facts(str(seed), seed) for seed in range(3)], NAMES)
    pixels = torch.cat([image.flatten(1) for image in images], dim=1).double()
    np.testing.assert_allclose(found.mean, pixels.mean(1).numpy())
    np.testing.assert_allclose(found.std, pixels.std(1, correction=0).numpy())


WIRE = mask_of((2, slice(10, 12), slice(0, 60)), (1, slice(30, 50), slice(0, 40)))
ALL = [facts(str(seed), seed, WIRE) for seed in range(6)]


@pytest.mark.parametrize(
    ("splits", "unreadable", "sentence"),
    [
        ({"train": ALL}, {"train": [Unreadable("a", "a.png cannot be read.")]}, "train: a.png cannot be read."),
        (
            {"train": ALL, "val": [facts("v", 3, WIRE)]},
            {},
            "leak: 1 of 1 val image in train too, 1 of them exactly",
        ),
        (
            {"train": [*ALL, facts("x", 3)]},
            {},
            "1 pair of equal images with different masks, such as train/3 and train/x",
        ),
        ({"train": [*ALL, facts("x", 3, WIRE)]}, {}, "within a split, 1 pair of images is equal: they count"),
        (
            {"train": [*ALL, facts("x", 9, torch.full((64, 64), 255))]},
            {},
            "train: 1 mask without a pixel of a class (x).",
        ),
        (
            {"train": [facts(str(seed), seed) for seed in range(9)]},
            {},
            "train: no mask has a pixel of disc, wire, which",
        ),
        ({"train": [*ALL[:4], *(facts(str(seed), seed) for seed in (7, 8))]}, {}, "train: disc, wire in fewer than 5"),
        (
            {"train": [image_facts(0, "dark", 0.02 * smooth_image(0), WIRE, 3)]},
            {},
            "train: images use little of their range from 0 to 1: their mean is 0.0",
        ),
        ({"train": ALL}, {}, "train: half of the pixels of wire are in objects at most 3 pixels thick"),
        (
            {"train": [*ALL, facts("x", 9, WIRE, stored="PNG, L"), facts("y", 10, WIRE, stored="JPEG, RGB")]},
            {},
            "train: files differ in how they hold images: 1 PNG, L, 1 JPEG, RGB.",
        ),
    ],
)
def test_a_problem_is_one_sentence(splits, unreadable, sentence: str):
    summaries = {split: summarize(images, NAMES) for split, images in splits.items()}
    found = problems(summaries, unreadable, find_duplicates(splits))
    assert [one for one in found if one.startswith(sentence)], found


def test_a_data_set_without_problems_has_none():
    disc = mask_of((1, slice(10, 40), slice(0, 60)))
    images = [facts(str(seed), seed, disc) for seed in range(6)]
    assert problems({"train": summarize(images, NAMES[:2])}, {}, find_duplicates({"train": images})) == []
