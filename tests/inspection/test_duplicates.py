import torch

from lightning_seg.inspection.duplicates import Duplicate, Place, find_duplicates
from lightning_seg.inspection.facts import image_facts
from tests.inspection.test_facts import as_jpeg, smooth_image

MASK = torch.zeros(64, 64, dtype=torch.int64)


def facts(name: str, image: torch.Tensor, mask: torch.Tensor = MASK):
    return image_facts(0, name, image, mask, 2)


def test_images_that_differ_are_no_duplicates():
    assert find_duplicates({"train": [facts(str(seed), smooth_image(seed)) for seed in range(12)]}) == []


def test_equal_images_are_found_once_each_and_those_across_splits_first():
    one, other = smooth_image(0), smooth_image(1)
    splits = {
        "train": [facts("a", one), facts("b", other), facts("c", one), facts("d", one)],
        "val": [facts("e", other)],
    }
    across = Duplicate(Place("train", "b"), Place("val", "e"), True, False)
    assert across.across
    assert find_duplicates(splits) == [
        across,
        Duplicate(Place("train", "a"), Place("train", "c"), True, False),
        Duplicate(Place("train", "a"), Place("train", "d"), True, False),
    ]


def test_a_compressed_copy_looks_the_same():
    image = smooth_image(3)
    splits = {"train": [facts("a", image), facts("b", smooth_image(4))], "test": [facts("c", as_jpeg(image))]}
    assert find_duplicates(splits) == [Duplicate(Place("train", "a"), Place("test", "c"), False, False)]


def test_equal_images_with_different_masks_are_told_apart():
    image = smooth_image(5)
    [pair] = find_duplicates({"train": [facts("a", image), facts("b", image, MASK + 1)]})
    assert pair.other_masks


def test_the_same_structure_in_another_color_is_another_image():
    image = smooth_image(6) * 0.5
    red = image + torch.tensor([0.4, 0.0, 0.0])[:, None, None]
    assert find_duplicates({"train": [facts("a", image), facts("b", red)]}) == []


def test_images_without_structure_are_duplicates_only_if_they_are_equal():
    gray = torch.full((3, 64, 64), 0.5)
    splits = {"train": [facts("a", gray), facts("b", gray + 0.001), facts("c", gray)]}
    assert find_duplicates(splits) == [Duplicate(Place("train", "a"), Place("train", "c"), True, False)]
