"""Images of any bands: which are read, in which range, and what is refused instead of dropped."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors

from lightning_seg.data import FolderDataModule, image_size, load_image, training_augmentation
from tests.console import SHORT, Run

tifffile = pytest.importorskip("tifffile")
RANDOM = np.random.default_rng(0)
EIGHT = RANDOM.integers(0, 256, (6, 9, 5), dtype=np.uint8)


def write(path: Path, pixels: Any, **options: Any) -> Path:
    if path.suffix == ".npy":
        np.save(path, pixels)
    else:
        tifffile.imwrite(path, pixels, **options)
    return path


FORMS: dict[str, tuple[str, Any, dict[str, Any], Any]] = {
    "8 bits": ("tif", EIGHT, {"photometric": "minisblack", "planarconfig": "contig"}, EIGHT / 255),
    "plane by plane": (
        "tif",
        np.moveaxis(EIGHT, -1, 0),
        {"photometric": "minisblack", "planarconfig": "separate"},
        EIGHT / 255,
    ),
    "16 bits": (
        "tif",
        EIGHT.astype(np.uint16) * 257,
        {"photometric": "minisblack", "planarconfig": "contig"},
        EIGHT / 255,
    ),
    "compressed": (
        "tif",
        EIGHT,
        {"photometric": "minisblack", "planarconfig": "contig", "compression": "zlib"},
        EIGHT / 255,
    ),
    "array": ("npy", EIGHT, {}, EIGHT / 255),
    "array, channels first": ("npy", np.moveaxis(EIGHT, -1, 0), {}, EIGHT / 255),
}


@pytest.mark.parametrize("form", FORMS)
def test_bands_are_read_as_they_lie_in_the_file(tmp_path: Path, form: str) -> None:
    suffix, pixels, options, expected = FORMS[form]
    path = write(tmp_path / f"a.{suffix}", pixels, **options)
    every = load_image(path, channels="all")
    assert (every.shape, every.dtype) == ((5, 6, 9), torch.float32)
    assert np.allclose(every.movedim(0, -1), expected, atol=1e-6)
    assert torch.equal(load_image(path, channels=[4, 0, 2]), every[[4, 0, 2]])
    assert image_size(path, by_bands=True) == (6, 9)


@pytest.mark.parametrize("dtype", [np.float32, np.int16, np.uint16])
def test_a_range_says_what_is_black_and_white(tmp_path: Path, dtype: Any) -> None:
    pixels = np.array([[[0, 2048, 4095], [8000, 1024, 100]]], dtype)
    path = write(tmp_path / "a.tif", pixels, photometric="rgb")
    made = load_image(path, value_range=[0, 4095])
    assert np.allclose(made.movedim(0, -1), (pixels / 4095).clip(0, 1), atol=1e-6)


def test_a_png_gives_its_alpha_if_asked(tmp_path: Path) -> None:
    Image.fromarray(EIGHT[..., :4], "RGBA").save(tmp_path / "a.png")
    assert load_image(tmp_path / "a.png").shape[0] == 3
    assert np.allclose(load_image(tmp_path / "a.png", channels="all").movedim(0, -1), EIGHT[..., :4] / 255)


REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "five bands as rgb": (
        np.save,
        {},
        r"has 5 bands, and it is unknown which three are the colors: give data\.channels",
    ),
    "a band too many": (np.save, {"channels": [0, 5]}, r"has 5 bands, and data\.channels asks for band 5, from 0"),
    "floats": (
        lambda p, a: np.save(p, a / 7),
        {"channels": "all"},
        r"values of float64, whose range is unknown: give data\.range",
    ),
    "no data": (
        lambda p, a: np.save(p, np.where(a > 9, a, np.nan)),
        {"channels": "all", "value_range": [0, 1]},
        "holds values that are not finite",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_bands_that_were_not_named_are_refused(tmp_path: Path, what: str) -> None:
    save, options, message = REFUSED[what]
    save(tmp_path / "a.npy", EIGHT)
    with pytest.raises(ValueError, match=message):
        load_image(tmp_path / "a.npy", **options)


def test_a_fourth_band_of_a_tiff_that_is_marked_as_alpha_is_not_dropped(tmp_path: Path) -> None:
    options = {"photometric": "rgb", "extrasamples": ["unassalpha"]}
    path = write(tmp_path / "a.tif", EIGHT[..., :4], **options)
    with pytest.raises(
        ValueError, match=r"the last is marked as alpha .* data\.channels=\[0,1,2\], or data\.channels=all"
    ):
        load_image(path)
    assert load_image(path, channels=[0, 1, 2]).shape[0] == 3
    opaque = EIGHT[..., :4].copy()
    opaque[..., 3] = 255
    assert np.allclose(load_image(write(tmp_path / "b.tif", opaque, **options)).movedim(0, -1), opaque[..., :3] / 255)


def test_pages_that_were_not_named_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", np.moveaxis(EIGHT, -1, 0)[:2], photometric="minisblack")
    with pytest.raises(ValueError, match=r"has several pages: say which with data\.page"):
        load_image(tmp_path / "a.tif", channels="all")
    assert np.allclose(load_image(tmp_path / "a.tif", channels="all", page=1)[0], EIGHT[..., 1] / 255)


def folder(root: Path, **options: Any) -> FolderDataModule:
    defaults: dict[str, Any] = {"num_classes": 2, "val_fraction": 0.2, "test_fraction": 0, "seed": 0, "batch_size": 2}
    return FolderDataModule(root, **{**defaults, **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": "bgr"}, r"data\.channels=bgr is neither rgb, all, nor a list"),
        ({"channels": [-1]}, r"data\.channels=\[-1\] must be bands, counted from 0"),
        ({"range": [1, 1]}, r"data\.range=\[1, 1\] must be the values of black and white"),
        ({"mean": "auto", "std": [1, 1, 1]}, r"must both be auto, or neither"),
    ],
)
def test_options_that_name_nothing_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        folder(tmp_path, **options)


def bands(root: Path, count: int = 4) -> None:
    for split in ("train", "val"):
        for part in ("images", "masks"):
            (root / split / part).mkdir(parents=True)
        for index in range(count):
            mask = np.zeros((32, 32), np.uint8)
            mask[8:20, 8:20] = 1
            pixels = RANDOM.integers(0, 1000, (32, 32, 4)) + 3000 * mask.astype(int)[..., None] * (np.arange(4) == 3)
            tifffile.imwrite(
                root / split / "images" / f"{index}.tif",
                pixels.astype(np.uint16),
                photometric="minisblack",
                planarconfig="contig",
            )
            Image.fromarray(mask).save(root / split / "masks" / f"{index}.png")


def test_normalization_is_measured_over_the_training_images(tmp_path: Path) -> None:
    bands(tmp_path)
    data = folder(tmp_path, channels=[3, 0], range=[0, 4000], mean="auto", std="auto")
    mean, std = data.measure_normalization()
    pixels = torch.stack([data.train_set[index]["image"] for index in range(4)]).double()  # type: ignore[index]
    assert np.allclose(mean, pixels.mean((0, 2, 3)))
    assert np.allclose(std, pixels.std((0, 2, 3), correction=0))


def test_colors_change_where_there_are_three_or_one() -> None:
    augment = training_augmentation(
        **{**dict.fromkeys(("rotation", "horizontal_flip", "vertical_flip", "hue", "blur"), 0.0), "saturation": 0.0},
        **{"brightness": 0.5, "contrast": 0.5, "crop_size": None, "scale": (1, 1), "ignore_index": 255},
    )
    for channels, changes in ((1, True), (3, True), (4, False)):
        image = tv_tensors.Image(torch.rand(channels, 8, 8))
        made = augment({"image": image, "mask": tv_tensors.Mask(torch.zeros(8, 8, dtype=torch.int64))})["image"]
        assert made.equal(image) is not changes


@pytest.mark.slow
def test_four_bands_go_through_training_evaluation_and_prediction(
    tmp_path: Path, run: Run, fails: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bands(tmp_path / "town")
    train = [
        *("data=folder", "data.root=town", "data.num_classes=2", "data.channels=[0,1,2,3]", "data.range=[0,4000]"),
        *("data.num_workers=0", "data.batch_size=2", "augment=none", "run=bands", *SHORT),
    ]
    assert "backbone.in_channels=3, but FolderDataModule loads images of 4 channels" in fails(
        "lightning-seg-train", *train
    )
    train += ["backbone.in_channels=4"]
    assert "data.mean has 3 numbers, and images have 4 channels" in fails("lightning-seg-train", *train)
    run("lightning-seg-train", *train, "data.mean=auto", "data.std=auto")
    checkpoint = "checkpoint=runs/bands/checkpoints/best.ckpt"
    assert "iou" in run("lightning-seg-evaluate", checkpoint, "trainer.accelerator=cpu").lower()
    run("lightning-seg-predict", checkpoint, "input=town/val/images", "output=masks", "overlay=true", "device=cpu")
    assert len(list((tmp_path / "masks").glob("*_overlay.png"))) == 4
