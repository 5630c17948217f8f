"""What makes loading fast changes nothing but the time that it takes."""

import struct
import zlib
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar

import lightning
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2

from lightning_seg import SegmentationModule
from lightning_seg.data import FolderDataModule, training_augmentation
from lightning_seg.data.augment import TrainingAugmentation
from lightning_seg.data.class_weights import image_rarity
from lightning_seg.data.colors import blurred, changed_colors
from lightning_seg.data.folder_dataset import FolderDataset
from lightning_seg.data.images import load_image, read_image
from lightning_seg.data.training_order import TrainingOrder
from lightning_seg.losses import CrossEntropyDiceLoss


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


def test_images_are_read_where_torchvision_has_no_decoders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    for mode, shape in (("L", (9, 8)), ("RGB", (9, 8, 3))):
        Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8)).save(tmp_path / f"{mode}.jpg")
    wide = wide_png(tmp_path / "wide.png")
    before = {path: read_image(path) for path in tmp_path.iterdir()}
    assert before[wide].dtype == torch.uint16
    monkeypatch.setattr("lightning_seg.data.torch_decoders._decoder", lambda name: None)
    for path, image in before.items():
        if path == wide:
            with pytest.raises(ValueError, match=r"wide\.png has 16 bits a channel, which Pillow does not read"):
                read_image(path)
        else:
            assert read_image(path).equal(image)


def wide_png(path: Path) -> Path:
    """Colors of 16 bits."""
    pixels = np.arange(2 * 3 * 3, dtype=">u2").reshape(2, 9) * 3000
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 3, 2, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    parts = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return path


class Moved(torch.Tensor):
    """A tensor that tells how it was moved."""

    how: ClassVar[list[Any]] = []

    def to(self, *arguments: Any, **options: Any) -> "Moved":  # type: ignore[override]
        self.how.append((options.get("non_blocking"), *arguments))
        return self


def test_batches_are_pinned_and_moved_while_the_gpu_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path)
    data = folder(tmp_path)
    assert not data.train_dataloader().pin_memory
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert data.train_dataloader().pin_memory
    assert data.val_dataloader().pin_memory
    batch = {name: torch.zeros(1).as_subclass(Moved) for name in ("image", "mask")}
    device = torch.device("meta")
    for one in (data, SegmentationModule(torch.nn.Identity(), torch.nn.Identity(), num_classes=3)):
        Moved.how.clear()
        one.transfer_batch_to_device(batch, device, 0)
        assert Moved.how == [(True, device)] * 2


def test_masks_are_of_one_byte_until_the_loss(tmp_path: Path) -> None:
    write(tmp_path)
    data, seen = folder(tmp_path), []

    class Spy(SegmentationModule):
        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            seen.append((batch["mask"].dtype, batch["image"].dtype))
            return batch

        def compute_loss(self, logits: torch.Tensor, target: torch.Tensor) -> Any:
            seen.append(target.dtype)
            return super().compute_loss(logits, target)

    module = Spy(torch.nn.Conv2d(3, 3, 1), CrossEntropyDiceLoss(ignore_index=255), num_classes=3, ignore_index=255)
    quiet: dict[str, Any] = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar"), False)
    lightning.Trainer(fast_dev_run=1, accelerator="cpu", enable_model_summary=False, **quiet).fit(module, data)
    assert set(seen) == {(torch.uint8, torch.float32), torch.int64}


@pytest.fixture(params=["kernels", "torch"])
def back_end(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "torch":
        for module in ("warp", "colors"):
            monkeypatch.setattr(f"lightning_seg.data.{module}.kernels", lambda: None)
    return str(request.param)


def picture(height: int, width: int) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
    y, x = torch.meshgrid(torch.arange(height) / 9, torch.arange(width) / 7, indexing="ij")
    image = ((torch.stack([y.sin(), x.cos(), (x + y).sin()]) / 2 + 0.5) * 255).to(torch.uint8)
    return tv_tensors.Image(image), tv_tensors.Mask((image[0] > 127).to(torch.uint8))


@pytest.mark.parametrize(("size", "crop"), [((40, 60), (24, 30)), ((20, 60), (32, 30)), ((40, 60), None)])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_a_zoomed_crop_is_the_crop_of_the_zoomed_image(
    size: tuple[int, int], crop: tuple[int, int] | None, seed: int, dtype: torch.dtype, back_end: str
) -> None:
    """Torchvision's RandomAffine and RandomCrop, one after the other, draw and give the same."""
    image, mask = picture(*size)
    if dtype == torch.float32:
        image = tv_tensors.Image(image / 255)
    fill = {tv_tensors.Image: 0.0, tv_tensors.Mask: 255}
    steps: list[Any] = [v2.RandomAffine(25.0, scale=(0.5, 2.0), interpolation=v2.InterpolationMode.BILINEAR, fill=fill)]
    steps += [] if crop is None else [v2.RandomCrop(crop, pad_if_needed=True, fill=fill)]
    torch.manual_seed(seed)
    expected = v2.Compose(steps)({"image": image, "mask": mask})
    torch.manual_seed(seed)
    made = augmentation(crop_size=crop, rotation=25.0, scale=(0.5, 2.0))({"image": image, "mask": mask})
    assert made["image"].shape == (3, *(crop or size))
    assert (made["image"].dtype, made["mask"].dtype) == (dtype, torch.uint8)
    inside = expected["mask"] != 255
    assert inside.any()
    # A label may be another where a place lies between two.
    assert (made["mask"][inside] == expected["mask"][inside]).float().mean() > 0.995
    core = -torch.nn.functional.max_pool2d(torch.nn.functional.pad(-inside[None, None].float(), (1, 1, 1, 1)), 3, 1)
    off = (made["image"].float() - expected["image"].float()).abs()[:, core[0, 0] > 0.5]
    assert off.max() <= (2 if dtype == torch.uint8 else 1e-4)
    assert (made["image"].as_subclass(torch.Tensor)[:, made["mask"] == 255] == 0).all()  # and no rim of half black
    if crop is None or (crop[0] <= size[0] and crop[1] <= size[1]):  # else it shows what lies beyond the image's size
        assert ((made["mask"] == 255) == ~inside).float().mean() > 0.995


def test_a_crop_without_zoom_is_exact_and_keeps_uint8() -> None:
    image = tv_tensors.Image(torch.arange(3 * 10 * 12, dtype=torch.uint8).view(3, 10, 12))
    mask = tv_tensors.Mask(torch.arange(120, dtype=torch.uint8).view(10, 12))
    crop = v2.RandomCrop((6, 16), pad_if_needed=True, fill={tv_tensors.Image: 0, tv_tensors.Mask: 255})
    for seed in range(5):
        torch.manual_seed(seed)
        expected = crop({"image": image, "mask": mask})
        torch.manual_seed(seed)
        made = augmentation(crop_size=(6, 16))({"image": image, "mask": mask})
        assert made["image"].equal(expected["image"])
        assert made["mask"].equal(expected["mask"])
        assert made["image"].dtype == torch.uint8


@pytest.mark.parametrize("void", [-1, 1000])
def test_a_void_value_that_uint8_does_not_hold_is_kept(void: int, back_end: str) -> None:
    image, mask = picture(20, 20)
    made = augmentation(crop_size=40, rotation=10.0, ignore_index=void)({"image": image, "mask": mask})["mask"]
    assert made.dtype == torch.int64
    assert (made == void).sum() > 1000


def test_without_void_a_larger_crop_repeats_the_outermost_pixels(back_end: str) -> None:
    image, mask = picture(9, 9)
    made = augmentation(crop_size=60, scale=(1.5, 1.5), ignore_index=None)({"image": image, "mask": mask})
    rows = made["image"][0].float()
    assert rows[0].equal(rows[1])
    assert rows[-1].equal(rows[-2])
    assert set(made["mask"].unique().tolist()) <= {0, 1}


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32])
def test_colors_change_as_torchvision_changes_them(name: str, dtype: torch.dtype, back_end: str) -> None:
    image = torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(0))
    top = 1 if dtype == torch.float32 else torch.iinfo(dtype).max
    stored = (image * top).to(dtype)
    for amount in (0.0, 0.6, 1.4):
        expected = getattr(v2.functional, f"adjust_{name}")(stored.double() / top, amount)
        made = changed_colors(stored, [(name, amount)])
        assert made.dtype == dtype
        assert (made.double() / top - expected).abs().max() < (0.01 if dtype == torch.uint8 else 1e-3)


def test_several_changes_of_color_are_one_after_the_other(back_end: str) -> None:
    image = (torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(0)) * 80 + 80).to(torch.uint8)
    changes = [("contrast", 1.2), ("hue", 0.05), ("saturation", 0.7), ("brightness", 0.9)]
    expected = image.double() / 255
    for change in changes:
        expected = changed_colors(expected, [change])
    assert (changed_colors(image, changes).double() / 255 - expected).abs().max() < 0.01


def test_hue_turns_colors_and_leaves_gray_and_luminance_alone(back_end: str) -> None:
    image = (torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(0)) * 0.2 + 0.4).double()
    turned = changed_colors(image, [("hue", 0.25)])
    assert not torch.allclose(turned, image, atol=0.02)
    luminance = torch.tensor([0.299, 0.587, 0.114]).double()
    assert torch.allclose(torch.einsum("c,chw->hw", luminance, turned - image), torch.zeros(20, 30).double(), atol=1e-3)
    back = image
    for _ in range(4):  # once round the circle
        back = changed_colors(back, [("hue", 0.25)])
    assert torch.allclose(back, image, atol=1e-3)
    gray = torch.full((3, 4, 4), 77, dtype=torch.uint8)
    assert (changed_colors(gray, [("hue", 0.3), ("saturation", 1.8)]).int() - 77).abs().max() <= 1


@pytest.mark.parametrize("sigma", [0.1, 0.8, 1.5])
def test_blur_is_torchvisions(sigma: float) -> None:
    image = torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(0))
    expected = v2.functional.gaussian_blur(image, [5, 5], [sigma, sigma])
    assert torch.allclose(blurred(image, sigma), expected, atol=1e-5)
    small = (image * 255).to(torch.uint8)
    assert (blurred(small, sigma).float() / 255 - expected).abs().max() < 0.01
    assert blurred(image[:, :1, :2], sigma).shape == (3, 1, 2)  # of fewer pixels than it mirrors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"brightness": -1}, r"augment\.brightness=-1 is the largest change.*give 0 or more"),
        ({"hue": 0.7}, r"augment\.hue=0\.7 is the largest change: give 0 to 0\.5"),
    ],
)
def test_changes_of_color_out_of_range_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        augmentation(**options)


def test_boxes_which_would_no_longer_fit_are_refused() -> None:
    image, mask = picture(8, 8)
    boxes = tv_tensors.BoundingBoxes(torch.zeros(1, 4), format="XYXY", canvas_size=(8, 8))
    with pytest.raises(TypeError, match="and a sample has a BoundingBoxes"):
        augmentation()({"image": image, "mask": mask, "boxes": boxes})


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


def write_parts(root: Path, kind: str, dtype: str = "uint8", bands: int = 3) -> dict[str, Any]:
    """Files of which parts can be read, and the options that read them."""
    tifffile = pytest.importorskip("tifffile")
    random = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    ways: dict[str, dict[str, Any]] = {
        "tiles": {"tile": (16, 32), "compression": "zlib", "predictor": dtype != "float32"},
        "strips": {"rowsperstrip": 7, "compression": "zlib"},
        "mapped": {"byteorder": ">"},
        "lzw": {"tile": (16, 16), "compression": "lzw"},
        "planes": {"planarconfig": "separate", "tile": (16, 16), "compression": "zlib"},
    }
    if kind == "lzw":
        pytest.importorskip("imagecodecs")
    for index in range(4):
        image = (random.random((70, 90, bands)) * 250).astype(dtype)
        mask = random.integers(0, 3, (70, 90), dtype=np.uint8)
        if kind == "npy":
            np.save(root / f"images/{index}.npy", image)
            np.save(root / f"masks/{index}.npy", mask)
            continue
        stored = np.moveaxis(image, -1, 0) if kind == "planes" else image
        color = (
            {"photometric": "rgb"} if bands == 3 else {"photometric": "minisblack", "extrasamples": [0] * (bands - 1)}
        )
        plain = {"planarconfig": "contig", **ways[kind]}
        tifffile.imwrite(root / f"images/{index}.tif", stored, **color, **plain)
        tifffile.imwrite(root / f"masks/{index}.tif", mask, photometric="minisblack", tile=(32, 32))
    return {} if bands == 3 and dtype == "uint8" else {"channels": "all", "range": [0, 250]}


@pytest.mark.parametrize(
    ("kind", "dtype", "bands"),
    [
        *((kind, "uint8", 3) for kind in ("tiles", "strips", "mapped", "lzw", "planes", "npy")),
        ("tiles", "float32", 5),
        ("planes", "uint16", 4),
        ("npy", "uint16", 4),
        ("mapped", "float32", 5),
    ],
)
@pytest.mark.parametrize("changes", [{}, {"rotation": 20.0, "scale": (0.5, 2.0), "contrast": 0.3, "d4": 1.0}])
def test_a_crop_of_a_file_that_has_parts_reads_no_more_and_gives_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, dtype: str, bands: int, changes: dict[str, Any]
) -> None:
    options = {"val_fraction": 0.25, "test_fraction": 0, **write_parts(tmp_path, kind, dtype, bands)}
    for crop in ({"crop_size": 24}, {"crop_size": 24, "crop_on": "class"}, {"crop_size": (100, 30)}):
        augment = augmentation(**crop, **changes)
        data = folder(tmp_path, **options, augment=augment)
        seen, read = [], FolderDataset.read_image

        def boxed(self: Any, path: Path, box: Any = None, seen: Any = seen, read: Any = read) -> torch.Tensor:
            part = read(self, path, box)
            seen.append(part.shape[-2] * part.shape[-1] if box is not None else 70 * 90)
            return part  # type: ignore[no-any-return]

        with monkeypatch.context() as patch:
            patch.setattr(FolderDataset, "read_image", boxed)
            torch.manual_seed(3)
            parts = list(data.train_dataloader())
            patch.setattr("lightning_seg.data.folder_dataset.has_parts", lambda path: False)
            torch.manual_seed(3)
            whole = list(data.train_dataloader())
        for one, other in zip(parts, whole, strict=True):
            assert one["image"].equal(other["image"])
            assert one["mask"].equal(other["mask"])
        count = len(seen) // 2
        assert seen[count:] == [70 * 90] * count
        assert max(seen[:count]) < 70 * 90 or "rotation" in changes or crop["crop_size"] != 24


class Inverted(TrainingAugmentation):
    def __call__(self, sample: Any) -> Any:
        changed = super().__call__(sample)
        return {**changed, "image": tv_tensors.Image(255 - changed["image"])}


def test_an_augmentation_that_is_derived_from_ours_is_called_for_a_file_that_has_parts(tmp_path: Path) -> None:
    options = {"val_fraction": 0.25, "test_fraction": 0, **write_parts(tmp_path, "npy")}
    plain = augmentation(crop_size=(70, 90), horizontal_flip=0)
    own = Inverted(**{field.name: getattr(plain, field.name) for field in fields(plain)})
    sample, inverted = (folder(tmp_path, **options, augment=one).train_set[0] for one in (plain, own))
    assert inverted["image"].add(sample["image"]).allclose(torch.ones(()))


def test_a_crop_of_what_is_cached_is_the_same(tmp_path: Path) -> None:
    write(tmp_path)
    augment = augmentation(crop_size=12, rotation=20.0, brightness=0.2)
    batches = []
    for options in ({}, {"cache": "memory"}):
        data = folder(tmp_path, augment=augment, **options)
        for _ in range(2):  # filling the cache, and from it
            torch.manual_seed(3)
            batches.append(torch.cat([batch["image"] for batch in data.train_dataloader()]))
    assert all(one.equal(batches[0]) for one in batches)


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


def test_a_cache_keeps_bands_of_16_bits_and_floats_and_refuses_a_mixture(tmp_path: Path) -> None:
    for part, size in {"images": (6, 8, 4), "masks": (6, 8)}.items():
        (tmp_path / part).mkdir()
        for index in range(4):
            dtype = np.uint8 if part == "masks" or index % 2 else np.uint16
            np.save(tmp_path / part / f"{index}.npy", np.full(size, index * (part == "images"), dtype))
    options: dict[str, Any] = {"channels": "all", "val_fraction": 0.2, "test_fraction": 0, "cache": "memory"}
    train: Any = folder(tmp_path, **options, range=[0, 4]).train_set
    for _ in range(2):
        for sample in (train[index] for index in range(len(train))):
            assert sample["image"].unique().tolist() == [int(sample["name"]) / 4]
    with pytest.raises(ValueError, match=r"npy is of uint.*, and data\.cache keeps uint.*, as the first image is"):
        [mixed[index] for mixed in [folder(tmp_path, **options).train_set] for index in range(3)]  # type: ignore[index]


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
    monkeypatch.setattr("lightning_seg.data.folder_dataset.check_values", None)
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


def test_crops_on_classes_resume_exactly_and_in_any_process(tmp_path: Path) -> None:
    write(tmp_path, count=6)

    def images(skip: int, workers: int = 0) -> torch.Tensor:
        torch.manual_seed(1)
        augment = augmentation(crop_on="class", rotation=20.0, brightness=0.2, blur=0.5)
        data = folder(tmp_path, augment=augment, sampler="balanced", num_workers=workers)
        loader = data.train_dataloader()
        loader.sampler.set_epoch(2)  # type: ignore[union-attr]
        loader.sampler.skip = lambda: skip  # type: ignore[union-attr]
        return torch.cat([batch["image"] for batch in loader])

    whole = images(0)
    assert whole[2:].equal(images(2))
    assert whole.equal(images(0, workers=1))


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
