import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate
from torch.utils.data import Dataset

from lightning_seg.inspection.duplicates import MOST_BITS
from lightning_seg.inspection.facts import image_facts, perceptual_hash, read_facts, without_augmentation

VOID = 255


def facts(mask: torch.Tensor, values: int = 3):
    return image_facts(0, "one", torch.zeros(3, *mask.shape[-2:]), mask, values)


def smooth_image(seed: int, side: int = 64) -> torch.Tensor:
    noise = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    return interpolate(noise, size=(side, side), mode="bicubic", align_corners=False)[0].clamp(0, 1)


def flooded(mask: np.ndarray, value: int) -> list[int]:
    """Areas of the components whose corners touch, by brute force."""
    left = {tuple(place) for place in np.argwhere(mask == value).tolist()}
    areas = []
    while left:
        heap, area = [left.pop()], 0
        while heap:
            row, column = heap.pop()
            area += 1
            near = {(row + down, column + right) for down in (-1, 0, 1) for right in (-1, 0, 1)} & left
            left -= near
            heap += near
        areas.append(area)
    return sorted(areas)


def test_objects_are_components_whose_corners_touch():
    mask = torch.randint(3, (24, 31), generator=torch.Generator().manual_seed(0))
    mask[mask == 2] = VOID
    found = facts(mask)
    assert {value: sorted(one.areas.tolist()) for value, one in found.objects.items()} == {
        value: flooded(mask.numpy(), value) for value in (0, 1)
    }


@pytest.mark.parametrize(("width", "thickness"), [(1, 1), (3, 3), (5, 5), (9, 9)])
def test_thickness_is_the_width_of_a_line(width: int, thickness: int):
    mask = torch.zeros(40, 60, dtype=torch.int64)
    mask[10 : 10 + width, 5:50] = 1
    assert facts(mask).objects[1].thickness.tolist() == [thickness]


def test_pixels_that_are_no_value_are_void():
    mask = torch.tensor([[0, 0, 1, VOID], [-1, 2, 1, 7]])
    found = facts(mask)
    assert found.pixels.tolist() == [2, 2, 1]
    assert found.void.tolist() == [3, 3, 3]


def test_each_channel_is_counted_for_itself_where_a_pixel_has_several_labels():
    sky, sea = torch.zeros(8, 9, dtype=torch.int64), torch.zeros(8, 9, dtype=torch.int64)
    sky[:2], sky[5, 5], sky[7] = 1, 1, VOID
    sea[1:4, 2:6] = 1  # of which four pixels are sky, too
    found = facts(torch.stack([sky, sea, torch.zeros_like(sea)]))
    assert found.pixels.tolist() == [19, 12, 0]
    assert found.void.tolist() == [9, 0, 0]
    assert {index: one.areas.tolist() for index, one in found.objects.items()} == {0: [18, 1], 1: [12]}
    assert {index: one.thickness.tolist() for index, one in found.objects.items()} == {0: [3, 1], 1: [3]}


def test_means_and_squares_are_those_of_the_pixels():
    image = torch.rand(3, 7, 9)
    found = image_facts(0, "one", image, torch.zeros(7, 9, dtype=torch.int64), 1)
    np.testing.assert_allclose(found.channel_sums / 63, image.double().mean((1, 2)).numpy())
    np.testing.assert_allclose(found.channel_squares / 63, image.double().square().mean((1, 2)).numpy())


def as_jpeg(image: torch.Tensor) -> torch.Tensor:
    file = io.BytesIO()
    Image.fromarray((255 * image).to(torch.uint8).movedim(0, -1).numpy()).save(file, "JPEG", quality=60)
    return torch.from_numpy(np.array(Image.open(file))).movedim(-1, 0) / 255


@pytest.mark.parametrize(
    "change",
    [
        as_jpeg,
        lambda image: interpolate(image[None], scale_factor=0.5, mode="area")[0],
        lambda image: 0.8 * image + 0.05,
    ],
    ids=["compressed", "resized", "darker"],
)
def test_the_hash_of_an_image_survives_what_copies_go_through(change):
    for seed in range(5):
        image = smooth_image(seed)
        before, after = perceptual_hash(image), perceptual_hash(change(image))
        assert (before ^ after).bit_count() <= MOST_BITS


def test_hashes_of_different_images_differ_in_about_half_of_their_bits():
    hashes = [perceptual_hash(smooth_image(seed)) for seed in range(20)]
    distances = [(one ^ other).bit_count() for one in hashes for other in hashes if one is not other]
    assert min(distances) > 12
    assert 25 < np.mean(distances) < 38


def test_an_image_of_one_color_has_no_hash():
    assert perceptual_hash(torch.full((3, 20, 20), 0.5)) is None


class Samples(Dataset):
    augment = staticmethod(lambda sample: pytest.fail("the augmentation was called"))

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int):
        if self.augment is not None:
            self.augment(index)
        if index == 2:
            raise ValueError("mask 2.png holds\n 9")
        return {"image": torch.rand(3, 8, 8), "mask": torch.zeros(8, 8, dtype=torch.int64), "name": str(index)}


@pytest.mark.parametrize("workers", [0, 2])
def test_what_cannot_be_read_is_named_and_the_rest_is_read_without_augmentation(workers: int):
    found, unreadable = read_facts(Samples(), 2, workers, "reading")
    assert [(one.position, one.name) for one in found] == [(0, "0"), (1, "1"), (3, "3")]
    assert [one.reason for one in unreadable] == ["mask 2.png holds 9"]


def test_the_dataset_keeps_its_augmentation():
    dataset = Samples()
    assert without_augmentation(dataset).augment is None
    assert dataset.augment is not None


@pytest.mark.parametrize(
    ("shape", "multilabel", "expected"),
    [((2, 8, 8), False, r"\(H, W\), or"), ((3, 8, 8), True, r"\(2, H, W\) is"), ((8, 8), True, r"\(2, H, W\) is")],
)
def test_masks_of_another_kind_than_the_task_are_refused(shape: tuple[int, ...], multilabel: bool, expected: str):
    class Other(Samples):
        augment = None

        def __getitem__(self, index: int):
            return {"image": torch.rand(3, 8, 8), "mask": torch.zeros(shape, dtype=torch.int64), "name": "a"}

    with pytest.raises(ValueError, match=rf"a has a mask of shape .*, and {expected}"):
        read_facts(Other(), 2, 0, "reading", multilabel=multilabel)
