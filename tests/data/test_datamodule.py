from typing import Any

import lightning
import pytest
import torch
from torch.utils.data import SequentialSampler
from torchvision.transforms.v2 import RandomHorizontalFlip

from lightning_seg import SegmentationModule
from lightning_seg.data import SegmentationDataModule, ShapesDataModule, training_augmentation
from lightning_seg.data.datamodule import collate
from lightning_seg.data.warp import begin_kernels, kernels
from lightning_seg.losses import BoundaryLoss, CrossEntropyDiceLoss

CAMVID = ["sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist"]


def no_change() -> Any:
    nothing = dict.fromkeys(
        ("rotation", "horizontal_flip", "vertical_flip", "brightness", "contrast", "saturation", "hue", "blur"), 0.0
    )
    return training_augmentation(crop_size=None, scale=[1.0, 1.0], ignore_index=None, **nothing)


def module(**options: Any) -> SegmentationDataModule:
    return SegmentationDataModule(**{"num_classes": 3, "batch_size": 2, **options})


def shapes(**options: Any) -> ShapesDataModule:
    sizes = {"num_train": 5, "num_val": 3, "num_test": 2, "image_size": 32, "seed": 0, "batch_size": 2}
    return ShapesDataModule(**{**sizes, **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"num_classes": 11, "class_names": CAMVID, "ignore_index": 10},
            r'ignore_index=10 is also class_names\[10\] "bicyclist"; a class cannot be both scored and ignored',
        ),
        ({"num_classes": 1, "ignore_index": 1}, "ignore_index=1 is also the mask value 1 of the binary task"),
        ({"class_names": ["a", "b"]}, "2 class_names were given for num_classes=3"),
        ({"palette": [[0, 0, 0], [1, 1, 1]]}, "the palette has 2 colors, but masks hold 3 values"),
        ({"batch_size": 0}, "data.batch_size=0"),
        ({"eval_batch_size": 0}, "data.eval_batch_size=0"),
        ({"num_workers": -1}, "data.num_workers=-1"),
        ({"num_classes": 0}, "num_classes=0"),
    ],
)
def test_contradicting_arguments_are_refused_at_construction(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        module(**options)


@pytest.mark.parametrize("ignore_index", [None, 3, 11, 255, -1])
def test_ignore_index_may_be_any_value_that_is_not_a_class(ignore_index: int | None) -> None:
    assert module(ignore_index=ignore_index).ignore_index == ignore_index


@pytest.mark.parametrize(
    ("workers", "augment", "method", "begun"),
    [
        (2, no_change(), "fork", 1),
        (0, no_change(), "fork", 0),
        (2, None, "fork", 0),
        (2, no_change(), "spawn", 0),
    ],
)
def test_kernels_begin_once_for_the_processes_that_are_copies_of_this_one(
    monkeypatch: pytest.MonkeyPatch, workers: int, augment: Any, method: str, begun: int
) -> None:
    calls: list[int] = []
    monkeypatch.setattr("multiprocessing.get_start_method", lambda allow_none: method)
    monkeypatch.setattr("lightning_seg.data.datamodule.begin_kernels", lambda: calls.append(1))
    data = shapes(num_workers=workers, augment=augment)
    data.setup("fit")
    data.train_dataloader()
    assert len(calls) == begun


def test_kernels_that_began_wait_for_nothing_when_they_are_used() -> None:
    pytest.importorskip("numba")
    begin_kernels()
    compiled = kernels()
    assert compiled is not None
    assert compiled.sample_labels.overloads


def test_classes_have_names_and_colors_by_default() -> None:
    assert module().class_names == ["0", "1", "2"]
    assert module().palette == [(0, 0, 0), (128, 0, 0), (0, 128, 0)]
    assert len(module(num_classes=1).palette) == 2


def test_normalization_is_kept_for_the_module() -> None:
    kept = module(mean=[0, 0.5, 1], std=[1, 1, 2])
    assert (kept.mean, kept.std) == ([0.0, 0.5, 1.0], [1.0, 1.0, 2.0])


@pytest.mark.parametrize(("batch_size", "batches"), [(2, [2, 2]), (5, [5]), (8, [5])])
def test_last_small_training_batch_is_left_out_unless_it_is_the_only_one(batch_size: int, batches: list[int]) -> None:
    data = shapes(batch_size=batch_size)
    data.setup("fit")
    assert [len(batch["name"]) for batch in data.train_dataloader()] == batches


def test_evaluation_gives_every_image_once_and_in_order() -> None:
    data = shapes(eval_batch_size=2)
    data.setup()
    for loader, split, count in ((data.val_dataloader(), "val", 3), (data.test_dataloader(), "test", 2)):
        assert isinstance(loader.sampler, SequentialSampler)
        assert [name for batch in loader for name in batch["name"]] == [f"{split}_{i:05d}" for i in range(count)]


def test_training_order_changes_between_epochs() -> None:
    data = shapes(num_train=40)
    data.setup("fit")
    loader = data.train_dataloader()
    torch.manual_seed(0)
    orders = [[name for batch in loader for name in batch["name"]] for _ in range(2)]
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1])


def test_workers_persist() -> None:
    data = shapes(num_workers=1)
    data.setup("fit")
    assert data.train_dataloader().persistent_workers
    assert not shapes(num_workers=0).num_workers


def test_batch_has_the_types_and_shapes_promised() -> None:
    data = shapes(ignore_index=255)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (2, 3, 32, 32)
    assert batch["image"].dtype == torch.float32
    assert 0 <= batch["image"].min() <= batch["image"].max() <= 1
    assert batch["mask"].shape == (2, 32, 32)
    assert batch["mask"].dtype == torch.int64
    assert type(batch["image"]) is torch.Tensor
    assert type(batch["mask"]) is torch.Tensor


def test_images_of_different_size_in_a_batch_give_one_clear_line() -> None:
    def sample(height: int, name: str) -> Any:
        return {"image": torch.zeros(3, height, 8), "mask": torch.zeros(height, 8), "name": name}

    with pytest.raises(ValueError, match=r"a is 8×8 and b is 9×8.*augment\.crop_size.*data\.eval_batch_size=1"):
        collate([sample(8, "a"), sample(9, "b")])


def test_loaders_before_setup_say_what_to_call() -> None:
    with pytest.raises(RuntimeError, match=r'setup\("fit"\)'):
        module().train_dataloader()


class _Seen(lightning.Callback):
    """Keeps the distances of the batches, or None where there are none."""

    def __init__(self) -> None:
        self.train: list[Any] = []
        self.val: list[Any] = []

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        self.train.append((batch["mask"], batch.get("distances")))

    def on_validation_batch_start(
        self, trainer: Any, module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self.val.append((batch["mask"], batch.get("distances")))


def trained(loss: torch.nn.Module, **options: Any) -> tuple[_Seen, dict[str, float]]:
    torch.manual_seed(0)
    datamodule, seen = shapes(ignore_index=255, augment=RandomHorizontalFlip(), **options), _Seen()
    network = SegmentationModule(torch.nn.Conv2d(3, 6, 1), loss, num_classes=6, ignore_index=255)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    run = lightning.Trainer(
        accelerator="cpu", devices=1, max_epochs=1, enable_model_summary=False, callbacks=seen, **quiet
    )
    run.fit(network, datamodule)
    return seen, {name: run.callback_metrics[name].item() for name in ("train/loss", "val/loss")}


@pytest.mark.parametrize("workers", [0, 1])
def test_the_loading_processes_compute_the_distances_that_the_loss_reads_of_the_augmented_masks(workers: int) -> None:
    loss = BoundaryLoss(ignore_index=255, spacing=[2.0, 1.0], classes=[1, 2, 3])
    without, expected = trained(loss)
    seen, losses = trained(loss, distances=True, num_workers=workers)
    assert losses == pytest.approx(expected, rel=1e-6)
    for ours, theirs in ((seen.train, without.train), (seen.val, without.val)):
        for (mask, distances), (same_mask, none) in zip(ours, theirs, strict=True):
            assert none is None
            assert torch.equal(mask, same_mask)
            assert torch.equal(distances, loss.target_distances(mask, 6))
            assert distances.any()


def test_no_distances_are_computed_for_a_loss_that_reads_none() -> None:
    seen, _ = trained(CrossEntropyDiceLoss(ignore_index=255), distances=True)
    assert all(distances is None for _, distances in seen.train + seen.val)


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        (lambda sample: None, "augment, a function, returned a NoneType, and it must return a mapping with image and"),
        (lambda sample: {"image": sample["image"]}, "returned a mapping without mask"),
        (3, "augment is a int, and must be called with a sample"),
    ],
)
def test_what_is_no_augmentation_is_refused_by_what_it_is(augment: Any, message: str) -> None:
    options: dict[str, Any] = {"num_train": 2, "num_val": 1, "num_test": 1, "image_size": 32, "seed": 0}

    def first() -> Any:
        data = ShapesDataModule(**options, batch_size=1, augment=augment)
        data.setup("fit")
        return next(iter(data.train_dataloader()))

    with pytest.raises(TypeError, match=message):
        first()
