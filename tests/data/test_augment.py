from collections import Counter
from typing import Any

import pytest
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from lightning_seg.data import ShapesDataModule, training_augmentation

NOTHING = {
    "crop_size": None,
    "scale": (1.0, 1.0),
    "rotation": 0.0,
    "horizontal_flip": 0.0,
    "vertical_flip": 0.0,
    "brightness": 0.0,
    "contrast": 0.0,
    "saturation": 0.0,
    "hue": 0.0,
    "blur": 0.0,
    "ignore_index": 255,
}


def augmentation(**options: Any) -> v2.Compose:
    return training_augmentation(**{**NOTHING, **options})


def sample(height: int = 64, width: int = 64) -> dict[str, Any]:
    """An image that is its own mask: 0.2 times the label, in stripes and blocks."""
    rows, columns = torch.arange(height)[:, None] // 16, torch.arange(width) // 16
    mask = (rows + 2 * columns) % 4 + 1
    return {"image": tv_tensors.Image((mask * 0.2).expand(3, -1, -1).clone()), "mask": tv_tensors.Mask(mask)}


GEOMETRY = [
    {"horizontal_flip": 1.0},
    {"vertical_flip": 1.0},
    {"d4": 1.0},
    {"rotation": 30.0},
    {"scale": (0.5, 2.0)},
    {"crop_size": 40},
    {"crop_size": (30, 96)},
    {"rotation": 15.0, "scale": (0.5, 2.0), "crop_size": 48, "horizontal_flip": 0.5, "vertical_flip": 0.5},
]


@pytest.mark.parametrize("options", GEOMETRY)
@pytest.mark.parametrize("ignore_index", [255, -1, 11])
def test_image_and_mask_move_together(options: dict[str, Any], ignore_index: int) -> None:
    torch.manual_seed(0)
    augment = augmentation(**options, ignore_index=ignore_index)
    for _ in range(5):
        changed = augment(sample())
        image, mask = changed["image"], changed["mask"]
        assert image.shape[-2:] == mask.shape
        expected = torch.where(mask == ignore_index, 0, mask * 0.2)
        # Bilinear pixels on a border between labels lie between them.
        agree = ((image[0] - expected).abs() < 0.02).float().mean()
        assert agree > (0.99 if not {"rotation", "scale"} & options.keys() else 0.7)
        assert set(mask.unique().tolist()) <= {1, 2, 3, 4, ignore_index}


def test_flips_are_exact() -> None:
    before = sample()
    after = augmentation(horizontal_flip=1.0)(before)
    assert torch.equal(after["mask"], before["mask"].flip(-1))
    assert torch.equal(after["image"], before["image"].flip(-1))


def test_all_eight_orientations_come_about_as_often_and_exactly() -> None:
    torch.manual_seed(0)
    mask = torch.arange(16).view(4, 4)
    augment = augmentation(d4=1.0)
    seen: Counter[tuple[int, ...]] = Counter()
    for _ in range(800):
        changed = augment({"image": tv_tensors.Image(mask.expand(3, -1, -1) / 16), "mask": tv_tensors.Mask(mask)})
        assert torch.equal(changed["image"][0] * 16, changed["mask"].float())
        seen[tuple(changed["mask"].flatten().tolist())] += 1
    turned = [one.rot90(turns) for turns in range(4) for one in (mask, mask.flip(1))]
    assert seen.keys() == {tuple(one.flatten().tolist()) for one in turned}
    assert min(seen.values()) > 60  # 100 are expected, with a standard deviation of 9.4.


def test_images_that_are_not_square_keep_their_size_in_four_orientations() -> None:
    torch.manual_seed(0)
    mask = torch.arange(12).view(3, 4)
    before = {"image": tv_tensors.Image(mask.expand(3, -1, -1) / 12), "mask": tv_tensors.Mask(mask)}
    changed = [augmentation(d4=1.0)(before)["mask"] for _ in range(60)]
    assert {one.shape for one in changed} == {(3, 4)}
    expected = [mask, mask.flip(0), mask.flip(1), mask.flip(0, 1)]
    assert {tuple(one.flatten().tolist()) for one in changed} == {tuple(one.flatten().tolist()) for one in expected}


@pytest.mark.parametrize("ignore_index", [255, -1])
def test_void_stays_void_and_the_outside_of_a_rotation_becomes_void(ignore_index: int) -> None:
    """The image is void in its upper half, which is bright, and class 0 in the lower, so that both can be told."""
    torch.manual_seed(0)
    mask = torch.full((32, 32), ignore_index)
    mask[16:] = 0
    image = (mask == ignore_index).float() * 0.6 + 0.4
    before = {"image": tv_tensors.Image(image.expand(3, -1, -1).clone()), "mask": tv_tensors.Mask(mask)}
    turned = augmentation(d4=1.0, ignore_index=ignore_index)(before)["mask"]
    assert (turned == ignore_index).sum() == 16 * 32
    changed = augmentation(rotation=180.0, d4=1.0, ignore_index=ignore_index)(before)
    outside, was_void, was_zero = (abs(changed["image"][0] - value) < 1e-3 for value in (0.0, 1.0, 0.4))
    assert outside.sum() > 50
    assert (changed["mask"][outside | was_void] == ignore_index).all()
    assert (changed["mask"][was_zero] == 0).all()


def test_crop_larger_than_the_image_is_void_outside() -> None:
    mask = augmentation(crop_size=100, ignore_index=255)(sample(64, 64))["mask"]
    assert mask.shape == (100, 100)
    assert (mask == 255).sum() == 100 * 100 - 64 * 64


def test_crop_larger_than_the_image_without_void_repeats_its_border() -> None:
    changed = augmentation(crop_size=100, ignore_index=None)(sample(20, 20))
    assert changed["mask"].shape == (100, 100)
    assert torch.allclose(changed["image"][0], changed["mask"] * 0.2)


def test_colors_change_the_image_and_never_the_mask() -> None:
    before = sample()
    after = augmentation(brightness=0.5, contrast=0.5, saturation=0.5, hue=0.2, blur=1.0)(before)
    assert torch.equal(after["mask"], before["mask"])
    assert not torch.equal(after["image"], before["image"])
    assert 0 <= after["image"].min() <= after["image"].max() <= 1


def test_all_off_changes_nothing() -> None:
    before = sample()
    after = augmentation()(before)
    assert torch.equal(after["image"], before["image"])
    assert torch.equal(after["mask"], before["mask"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rotation": 10, "ignore_index": None}, "set data.ignore_index .* or rotation=0"),
        ({"scale": (0.5, 1), "ignore_index": None}, "no scale below 1"),
        ({"scale": (2, 1)}, "augment.scale"),
        ({"scale": (1,)}, "two factors, the smallest and the largest"),
        ({"crop_on": 3, "crop_size": 8}, "augment.crop_on=3 is neither class nor a list of mask values"),
        ({"horizontal_flip": 1.5}, "augment.horizontal_flip=1.5 must be a probability"),
        ({"d4": 2}, "augment.d4=2 must be a probability"),
        ({"crop_size": 0}, "augment.crop_size=0"),
        ({"crop_size": (4, 5, 6)}, "augment.crop_size"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        augmentation(**options)


def images(num_workers: int, seed: int, epochs: int = 2) -> list[dict[str, torch.Tensor]]:
    """What each epoch showed of each image."""
    data = ShapesDataModule(
        num_train=8,
        num_val=1,
        num_test=1,
        image_size=32,
        seed=0,
        batch_size=2,
        ignore_index=255,
        num_workers=num_workers,
        augment=augmentation(crop_size=24, horizontal_flip=0.5, brightness=0.3),
    )
    data.setup("fit")
    torch.manual_seed(seed)
    loader = data.train_dataloader()
    return [
        {name: image for batch in loader for name, image in zip(batch["name"], batch["image"], strict=True)}
        for _ in range(epochs)
    ]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_augmentation_differs_between_epochs_and_not_between_runs_of_one_seed(num_workers: int) -> None:
    first, again, other = images(num_workers, 0), images(num_workers, 0), images(num_workers, 1)
    for name in first[0]:
        assert not torch.equal(first[0][name], first[1][name])
        assert not torch.equal(first[0][name], other[0][name])
        for epoch in range(2):
            assert torch.equal(first[epoch][name], again[epoch][name])


def test_workers_do_not_repeat_each_other() -> None:
    data = ShapesDataModule(
        num_train=2,
        num_val=1,
        num_test=1,
        image_size=32,
        seed=0,
        batch_size=1,
        num_workers=2,
        augment=lambda inputs: {**inputs, "image": torch.rand(3, 4, 4)},
    )
    data.setup("fit")
    one, other = (batch["image"] for batch in data.train_dataloader())
    assert not torch.equal(one, other)


def test_only_training_images_are_augmented() -> None:
    data = ShapesDataModule(
        num_train=1, num_val=1, num_test=1, image_size=32, seed=0, batch_size=1, augment=augmentation(crop_size=16)
    )
    data.setup()
    loaders = (data.train_dataloader(), data.val_dataloader(), data.test_dataloader())
    assert [next(iter(loader))["image"].shape[-1] for loader in loaders] == [16, 32, 32]


def test_the_former_name_of_d4_works_with_a_warning() -> None:
    with pytest.warns(FutureWarning, match=r"augment\.dihedral is now augment\.d4"):
        assert repr(augmentation(dihedral=1.0)) == repr(augmentation(d4=1.0))
