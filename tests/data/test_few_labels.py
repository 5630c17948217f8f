from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.transforms import v2

from lightning_seg.data import SegmentationDataModule, ShapesDataModule
from tests.data.test_folder import folder, stems, write


def shapes(num_train: int = 6, **options: Any) -> ShapesDataModule:
    defaults: dict[str, Any] = {"num_val": 1, "num_test": 1, "image_size": 32, "seed": 0, "batch_size": 2}
    data = ShapesDataModule(num_train=num_train, **{**defaults, "ignore_index": 255, **options})
    data.setup()
    return data


def epoch(data: SegmentationDataModule) -> list[dict[str, Any]]:
    torch.manual_seed(5)
    return list(data.train_dataloader())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for split, count in (("train", 12), ("val", 2)):
        for index in range(count):
            write(tmp_path / split, f"{split}{index}", mask=[[index, index]] * 2)
    return tmp_path


def limited(root: Path, **options: Any) -> Any:
    data = folder(root, num_classes=12, **options)
    data.setup()
    return data


@pytest.mark.parametrize("seed", [0, 1])
def test_a_larger_choice_of_files_holds_the_smaller_and_all_others_are_unlabeled(root: Path, seed: int) -> None:
    chosen = {limit: limited(root, train_limit=limit, seed=seed) for limit in (1, 4, 8)}
    names = {limit: set(stems(data.train_set)) for limit, data in chosen.items()}
    assert [len(names[limit]) for limit in (1, 4, 8)] == [1, 4, 8]
    assert names[1] < names[4] < names[8]
    assert names[4] == set(stems(limited(root, train_limit=4, seed=seed).train_set))
    for limit, data in chosen.items():
        assert {path.stem for path in data.unlabeled_set.paths} == {f"train{i}" for i in range(12)} - names[limit]
        assert stems(data.val_set) == ["val0", "val1"]


def test_the_seed_of_the_data_chooses(root: Path) -> None:
    choices = {tuple(stems(limited(root, train_limit=4, seed=seed).train_set)) for seed in range(6)}
    assert len(choices) > 3


def test_masks_of_files_beyond_the_limit_are_neither_read_nor_counted(root: Path) -> None:
    kept = stems(limited(root, train_limit=4).train_set)
    for mask in (root / "train/masks").iterdir():
        if mask.stem not in kept:
            mask.write_text("no mask")
    data = limited(root, train_limit=4, unlabeled_per_image=1)
    assert len(epoch(data)) == 4
    assert data.count_training_pixels().shape[0] == 4


def test_images_that_never_had_a_mask_are_unlabeled_too(root: Path) -> None:
    write(root / "unlabeled", "extra")
    assert [path.stem for path in limited(root).unlabeled_set.paths] == ["extra"]
    assert len(limited(root, train_limit=4).unlabeled_set) == 9
    (root / "unlabeled").rename(root / "unlabelled")
    with pytest.warns(FutureWarning, match="unlabelled is now unlabeled/"):
        assert [path.stem for path in limited(root).unlabeled_set.paths] == ["extra"]
    (root / "unlabelled").rename(root / "unlabeled")
    for path in (root / "unlabeled/images").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match="is empty"):
        limited(root)


def test_shapes_are_limited_to_the_first_and_the_rest_is_as_it_was() -> None:
    whole, four = shapes(), shapes(train_limit=4)
    for index in range(6):
        part, place = (four.train_set, index) if index < 4 else (four.unlabeled_set, index - 4)
        assert part[place]["name"] == whole.train_set[index]["name"]  # type: ignore[index]
        assert torch.equal(part[place]["image"], whole.train_set[index]["image"])  # type: ignore[index]
    assert len(four.train_set) == 4  # type: ignore[arg-type]
    assert whole.unlabeled_set is None
    assert torch.equal(four.count_training_pixels(), whole.count_training_pixels()[:4])


def test_a_limit_that_cannot_be_kept_is_refused(root: Path) -> None:
    for make in (shapes, lambda **options: limited(root, **options)):
        with pytest.raises(ValueError, match=r"data\.train_limit=0 leaves no training image"):
            make(train_limit=0)
        with pytest.raises(ValueError, match=r"data\.train_limit=13, but there are (6|12) training images"):
            make(train_limit=13)
    with pytest.raises(ValueError, match=r"data\.train_repeats=0"):
        shapes(train_repeats=0)
    with pytest.raises(ValueError, match=r"data\.unlabeled_per_image=-1"):
        shapes(unlabeled_per_image=-1)


def test_an_epoch_shows_each_image_as_often_as_asked_each_time_anew() -> None:
    data = shapes(train_limit=4, train_repeats=3, augment=v2.ColorJitter(0.5))
    batches = epoch(data)
    assert len(batches) == 6
    shown = [(name, image) for batch in batches for name, image in zip(batch["name"], batch["image"], strict=True)]
    assert sorted(name for name, _ in shown) == sorted(f"train_{index:05d}" for index in range(4) for _ in range(3))
    assert len({float(image.sum()) for _, image in shown}) == 12


def test_unlabeled_images_come_from_beyond_the_limit_without_their_masks() -> None:
    data = shapes(train_limit=2, train_repeats=20, unlabeled_per_image=2)
    rest = [data.unlabeled_set[index]["image"] for index in range(4)]  # type: ignore[index]
    seen = set()
    for batch in epoch(data):
        assert batch.keys() == {"image", "mask", "name", "unlabeled"}
        assert batch["unlabeled"].shape == (4, 3, 32, 32)
        for image in batch["unlabeled"]:
            (which,) = [index for index, one in enumerate(rest) if torch.equal(one, image)]
            seen.add(which)
    assert seen == {0, 1, 2, 3}


def test_without_a_limit_unlabeled_images_are_the_training_images_themselves() -> None:
    data = shapes(num_train=2, unlabeled_per_image=1)
    own = [data.train_set[index]["image"] for index in range(2)]  # type: ignore[index]
    assert all(any(torch.equal(image, one) for one in own) for batch in epoch(data) for image in batch["unlabeled"])


@pytest.mark.parametrize("workers", [0, 2])
def test_labeled_samples_are_the_same_with_and_without_unlabeled_ones_on_any_workers(workers: int) -> None:
    augment = v2.Compose([v2.RandomHorizontalFlip(), v2.ColorJitter(0.5)])
    options = {"train_limit": 3, "train_repeats": 4, "augment": augment}
    plain = epoch(shapes(**options))
    alone = epoch(shapes(**options, unlabeled_per_image=2))
    beside = epoch(shapes(**options, unlabeled_per_image=2, num_workers=workers))
    for one, two, three in zip(plain, alone, beside, strict=True):
        assert one["name"] == three["name"]
        assert torch.equal(one["image"], three["image"])
        assert torch.equal(two["unlabeled"], three["unlabeled"])


def test_unlabeled_images_of_another_size_are_named(root: Path) -> None:
    write(root / "unlabeled", "wide", mask=[[0] * 5] * 2)
    data = limited(root, unlabeled_per_image=1, batch_size=2)
    with pytest.raises(ValueError, match=r"differ in size: .* and an unlabeled one is 2×5"):
        epoch(data)


def test_validation_has_neither_repeats_nor_unlabeled_images() -> None:
    data = shapes(train_limit=2, train_repeats=3, unlabeled_per_image=1)
    (batch,) = data.val_dataloader()
    assert batch.keys() == {"image", "mask", "name"}
