"""What makes loading fast changes nothing but the time that it takes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2

from lightning_seg.data import FolderDataModule, training_augmentation
from lightning_seg.data.augment import RandomZoomedCrop
from lightning_seg.data.class_weights import image_rarity
from lightning_seg.data.images import load_image, read_image
from lightning_seg.data.training_order import TrainingOrder


def write(root: Path, count: int = 4, size: tuple[int, int] = (24, 32), suffix: str = "jpg") -> None:
    random = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            image = random.integers(0, 256, (*size, 3), dtype=np.uint8)
            mask = (random.random(size) < 0.5).astype(np.uint8) + (index == 0)
            Image.fromarray(image).save(root / split / "images" / f"{index}.{suffix}")
            Image.fromarray(mask).save(root / split / "masks" / f"{index}.png")


def folder(root: Path, **options: Any) -> FolderDataModule:
    defaults: dict[str, Any] = {"num_classes": 3, "val_fraction": 0.2, "test_fraction": 0, "seed": 0, "batch_size": 2}
    module = FolderDataModule(root, **{**defaults, "ignore_index": 255, **options})
    module.setup("fit")
    return module


def test_a_jpeg_is_what_pillow_makes_of_it(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for mode, shape in (("L", (37, 53)), ("RGB", (37, 53, 3))):
        Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8)).save(tmp_path / "a.jpg", quality=80)
        expected = np.asarray(Image.open(tmp_path / "a.jpg").convert("RGB"))
        assert np.array_equal(read_image(tmp_path / "a.jpg").movedim(0, -1).numpy(), expected), mode


@pytest.mark.parametrize(("size", "crop"), [((40, 60), (24, 30)), ((20, 60), (32, 30)), ((20, 22), (32, 40))])
@pytest.mark.parametrize("seed", range(4))
def test_a_zoomed_crop_is_the_crop_of_the_zoomed_image(size: tuple[int, int], crop: tuple[int, int], seed: int) -> None:
    """Torchvision's RandomAffine and RandomCrop, one after the other, draw and give the same."""
    fill = {tv_tensors.Image: 0.0, tv_tensors.Mask: 255}
    # With a fill of 0 torchvision blends the rim, which is half black already, with black once more.
    rim = {tv_tensors.Image: None, tv_tensors.Mask: 255}
    affine = v2.RandomAffine(25.0, scale=(0.5, 2.0), interpolation=v2.InterpolationMode.BILINEAR, fill=rim)
    both = v2.Compose([affine, v2.RandomCrop(crop, pad_if_needed=True, fill=fill)])
    y, x = torch.meshgrid(torch.arange(size[0]) / 9, torch.arange(size[1]) / 7, indexing="ij")
    image = tv_tensors.Image(torch.stack([y.sin(), x.cos(), (x + y).sin()]) / 2 + 0.5)
    mask = tv_tensors.Mask((image[0] > 0.5).as_subclass(torch.Tensor).to(torch.uint8))
    torch.manual_seed(seed)
    expected = both({"image": image, "mask": mask})
    torch.manual_seed(seed)
    made = RandomZoomedCrop(crop, affine, 255)({"image": image, "mask": mask})
    assert made["image"].shape == (3, *crop)
    inside = expected["mask"] != 255
    assert inside.any()
    assert made["mask"][inside].equal(expected["mask"][inside])
    core = inside.float()[None, None]
    core = -torch.nn.functional.max_pool2d(torch.nn.functional.pad(-core, (1, 1, 1, 1), value=0), 3, 1)[0, 0] > 0.5
    assert torch.allclose(made["image"][:, core], expected["image"][:, core], atol=1e-4)
    if crop[0] <= size[0] and crop[1] <= size[1]:  # else it shows what lies beyond the zoomed image's own size
        assert made["mask"].equal(expected["mask"])
        assert torch.allclose(made["image"], expected["image"], atol=1e-4)


def test_a_crop_without_zoom_is_exact_and_keeps_uint8() -> None:
    image = tv_tensors.Image(torch.arange(3 * 10 * 12, dtype=torch.uint8).view(3, 10, 12))
    mask = tv_tensors.Mask(torch.arange(120, dtype=torch.uint8).view(10, 12))
    crop = v2.RandomCrop((6, 16), pad_if_needed=True, fill={tv_tensors.Image: 0, tv_tensors.Mask: 255})
    for seed in range(5):
        torch.manual_seed(seed)
        expected = crop({"image": image, "mask": mask})
        torch.manual_seed(seed)
        made = RandomZoomedCrop((6, 16), None, 255)({"image": image, "mask": mask})
        assert made["image"].equal(expected["image"])
        assert made["mask"].equal(expected["mask"])
        assert made["image"].dtype == torch.uint8


def augmentation(**options: Any) -> Any:
    nothing = dict.fromkeys(
        ("rotation", "horizontal_flip", "vertical_flip", "brightness", "contrast", "saturation", "hue", "blur"), 0.0
    )
    return training_augmentation(**{**nothing, "crop_size": 8, "scale": (1, 1), "ignore_index": 255, **options})


@pytest.mark.parametrize("options", [{}, {"rotation": 20, "scale": (0.5, 2.0)}])
def test_a_crop_on_a_class_holds_a_pixel_of_it(options: dict[str, Any]) -> None:
    mask = torch.zeros(64, 80, dtype=torch.uint8)
    mask[50, 70] = mask[49, 70] = mask[50, 71] = mask[49, 71] = 2
    mask[:3] = 255
    sample = {"image": tv_tensors.Image(torch.zeros(3, 64, 80)), "mask": tv_tensors.Mask(mask)}
    crops = [augmentation(crop_on=[2], crop_size=24, **options)(sample)["mask"] for _ in range(20)]
    assert sum(bool((crop == 2).any()) for crop in crops) >= 19  # a pixel may fall between two in a smaller image
    either = [bool((augmentation(crop_on="class", crop_size=8)(sample)["mask"] == 2).any()) for _ in range(60)]
    assert 0.25 < sum(either) / 60 < 0.75  # of the two classes each as likely, however few pixels it has


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop_on": "car"}, r"augment\.crop_on=car is neither class nor a list"),
        ({"crop_on": "class", "crop_size": None}, r"needs augment\.crop_size and data\.ignore_index"),
        ({"crop_on": [1], "ignore_index": None}, r"needs augment\.crop_size and data\.ignore_index"),
    ],
)
def test_crops_on_nothing_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        augmentation(**options)


@pytest.mark.parametrize("place", ["memory", "disk"])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_cache_gives_what_the_files_hold(
    tmp_path: Path, place: str, workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path)
    plain, kept = folder(tmp_path), folder(tmp_path, cache=place, num_workers=workers)
    for _ in range(2):
        for one, other in zip(plain.val_dataloader(), kept.val_dataloader(), strict=True):
            assert one["image"].equal(other["image"])
            assert one["mask"].equal(other["mask"])
    for path in (tmp_path / "val" / "images").iterdir():
        path.unlink()
    if workers == 0 or place == "memory":
        assert len(list(kept.val_dataloader())) == 4  # nothing is read any more, in whichever process it was


def test_a_cache_says_its_size_and_refuses_what_it_cannot_hold(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path)
    with caplog.at_level("INFO", "lightning_seg.data.cache"):
        folder(tmp_path, cache="memory")
    assert "data.cache=memory keeps 4 images of train, 0.00 GiB" in caplog.messages
    with pytest.raises(ValueError, match=r"data\.cache=ssd is neither memory nor disk"):
        folder(tmp_path, cache="ssd")
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10}))
    with pytest.raises(OSError, match=r"data\.cache=disk of train takes .* set TMPDIR"):
        folder(tmp_path, cache="disk")


def test_masks_are_looked_through_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path)
    data = folder(tmp_path)
    monkeypatch.setattr("lightning_seg.data.folder.check_values", None)
    assert len(list(data.train_dataloader())) == 2


def test_evaluation_sees_what_prediction_does(tmp_path: Path) -> None:
    write(tmp_path)
    data = folder(tmp_path, scale=0.5)
    batch = next(iter(data.val_dataloader()))
    assert batch["image"][0].equal(load_image(tmp_path / "val" / "images" / "0.jpg", 0.5))
    assert (batch["image"].dtype, batch["mask"].dtype) == (torch.float32, torch.int64)


def test_rare_classes_are_drawn_more_often_and_the_same_in_every_process() -> None:
    pixels = torch.tensor([[5, 0], [5, 0], [5, 0], [5, 1], [0, 0]])
    weights = image_rarity(pixels)
    assert torch.allclose(weights / weights[0], torch.tensor([1.0, 1, 1, 4, 1]).double())
    alone = list(TrainingOrder(range(5), num_replicas=1, rank=0, seed=3, weights=weights))  # type: ignore[arg-type]
    shared = [
        list(TrainingOrder(range(5), num_replicas=2, rank=rank, seed=3, weights=weights))  # type: ignore[arg-type]
        for rank in (0, 1)
    ]
    assert [pair for both in zip(*shared, strict=True) for pair in both][:5] == alone
    order = TrainingOrder(range(5), num_replicas=1, rank=0, seed=3, weights=weights)  # type: ignore[arg-type]
    drawn = [index for _ in range(400) for _, index in order]
    assert 0.42 < drawn.count(3) / len(drawn) < 0.58


def test_a_balanced_sampler_resumes_with_the_same_images(tmp_path: Path) -> None:
    write(tmp_path, count=6)

    def names(epoch: int, skip: int) -> list[str]:
        torch.manual_seed(1)
        loader = folder(tmp_path, sampler="balanced").train_dataloader()
        loader.sampler.set_epoch(epoch)  # type: ignore[union-attr]
        loader.sampler.skip = lambda: skip  # type: ignore[union-attr]
        return [name for batch in loader for name in batch["name"]]

    assert names(2, 0)[2:] == names(2, 2)
    with pytest.raises(ValueError, match=r"data\.sampler=rare is neither shuffle nor balanced"):
        folder(tmp_path, sampler="rare")


def test_albumentations_are_augmentations_and_follow_the_seed(tmp_path: Path) -> None:
    albumentations = pytest.importorskip("albumentations")
    write(tmp_path)
    pipeline = albumentations.Compose([albumentations.HorizontalFlip(p=0.5), albumentations.RandomCrop(16, 16)])

    def batches(workers: int) -> list[dict[str, Any]]:
        torch.manual_seed(5)
        return list(folder(tmp_path, augment=pipeline, num_workers=workers).train_dataloader())

    for one, other in zip(batches(0), batches(1), strict=True):
        assert one["image"].shape == (2, 3, 16, 16)
        assert one["mask"].dtype == torch.int64
        assert one["image"].equal(other["image"])
        assert one["mask"].equal(other["mask"])
    with pytest.raises(TypeError, match="leave Normalize and ToTensorV2 out"):
        next(iter(folder(tmp_path, augment=albumentations.Compose([albumentations.Normalize()])).train_dataloader()))
