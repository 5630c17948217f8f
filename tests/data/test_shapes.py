from typing import Any

import pytest
import torch

from lightning_seg.data import ShapesDataModule, ShapesDataset
from lightning_seg.data.shape_scenes import CLASS_NAMES
from tests.forkserver import forkserver


def dataset(split: str = "train", count: int = 60, **options: Any) -> ShapesDataset:
    return ShapesDataset(split, count, **{"image_size": 96, "seed": 0, "ignore_index": 255, **options})


def masks_of(data: ShapesDataset) -> torch.Tensor:
    return torch.stack([data[index]["mask"] for index in range(len(data))])


def test_dots_are_below_one_percent_of_the_pixels_and_in_most_images() -> None:
    masks = masks_of(dataset())
    dots = masks == CLASS_NAMES.index("dot")
    assert 0 < dots.float().mean() < 0.01
    assert dots.flatten(1).any(dim=1).float().mean() > 0.5


def test_every_class_and_the_void_rim_are_drawn_in_every_split() -> None:
    for split in ("train", "val", "test"):
        assert masks_of(dataset(split, 30)).unique().tolist() == [0, 1, 2, 3, 4, 5, 255]


def test_void_rim_is_background_beside_an_object() -> None:
    void = masks_of(dataset(count=10)) == 255
    whole = masks_of(dataset(count=10, ignore_index=None))
    assert void.any()
    assert (whole[void] == 0).all()
    objects = torch.nn.functional.max_pool2d((whole > 0).float().unsqueeze(1), 3, stride=1, padding=1).squeeze(1) > 0
    assert torch.equal(void, objects & (whole == 0))


@pytest.mark.parametrize("ignore_index", [6, 11, -1])
def test_void_takes_whatever_ignore_index_is_asked_for(ignore_index: int) -> None:
    usual, asked = masks_of(dataset(count=3)), masks_of(dataset(count=3, ignore_index=ignore_index))
    assert torch.equal(usual == 255, asked == ignore_index)


def test_binary_masks_tell_objects_from_background() -> None:
    masks, binary = masks_of(dataset(count=3)), masks_of(dataset(count=3, num_classes=1))
    assert torch.equal(binary, torch.where(masks == 255, 255, (masks > 0).long()))


def test_an_image_depends_on_seed_split_and_index_only() -> None:
    few, many = dataset(count=3), dataset(count=5)
    assert torch.equal(few[2]["image"], many[2]["image"])
    for other in (dataset(count=3, seed=1), dataset("val", 3)):
        assert not torch.equal(few[2]["image"], other[2]["image"])
    assert not torch.equal(many[2]["image"], many[3]["image"])


def drawn() -> bytes:
    sample = dataset(count=2, image_size=48, seed=3)[1]
    return sample["image"].numpy().tobytes() + sample["mask"].numpy().tobytes()


@pytest.mark.slow
def test_another_process_draws_the_same_images() -> None:
    with forkserver().Pool(1) as pool:
        other = pool.apply(drawn)
    assert other == drawn()


def test_changing_a_sample_in_place_leaves_the_data_set_as_it_was() -> None:
    data = dataset(count=1)
    before = data[0]
    data[0]["mask"].fill_(0)
    data[0]["image"].fill_(0)
    assert torch.equal(data[0]["mask"], before["mask"])
    assert torch.equal(data[0]["image"], before["image"])


@pytest.mark.parametrize(
    ("split", "options", "message"),
    [
        ("fit", {}, "'fit' is not one of train, val, test"),
        ("train", {"count": 0}, "data.num_train=0"),
        ("train", {"image_size": 16}, "data.image_size=16"),
        ("train", {"seed": -1}, "data.seed=-1"),
        ("train", {"num_classes": 4}, "6 classes .*data.num_classes=4"),
    ],
)
def test_arguments_out_of_range_are_refused(split: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataset(split, **{"count": 2, **options})


def test_module_draws_only_what_the_stage_needs() -> None:
    data = ShapesDataModule(num_train=2, num_val=2, num_test=2, image_size=32, seed=0, batch_size=1)
    data.setup("validate")
    assert (data.train_set, data.test_set) == (None, None)
    assert data.class_names == list(CLASS_NAMES)
    binary = ShapesDataModule(num_train=2, num_val=2, num_test=2, image_size=32, seed=0, batch_size=1, num_classes=1)
    assert binary.class_names == ["object"]
