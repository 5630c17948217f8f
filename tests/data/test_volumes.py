"""Volumes: what lies in files, where their voxels are, and what a network gets to see of them."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lightning_seg.data import VolumesDataModule, volume_augmentation
from lightning_seg.data.volume_files import read_volume
from lightning_seg.data.volume_reading import VolumeReading

pytest.importorskip("nibabel")
pytest.importorskip("nrrd")
from tests.data.volume_files import affine, scene, write, write_cases

CHANGES: dict[str, Any] = {
    **{"patch_size": [12, 12, 8], "foreground": 0.5, "flip": 0.5, "affine": 1.0, "rotation": 15, "scale": [0.8, 1.2]},
    **{"noise": 0.05, "brightness": 0.2, "contrast": 0.3, "ignore_index": 255},
}


def volumes(root: Path, **options: Any) -> VolumesDataModule:
    given = {"num_classes": 3, "val_fraction": 0.2, "test_fraction": 0.2, "seed": 0, "batch_size": 2}
    return VolumesDataModule(root, **{**given, "ignore_index": 255, **options})


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".npy"])
@pytest.mark.parametrize("channels", [0, 2])
def test_every_kind_of_file_gives_its_voxels_and_their_places(tmp_path: Path, suffix: str, channels: int) -> None:
    voxels = scene((5, 6, 7))[0]
    voxels = np.stack([voxels] * channels, -1) if channels else voxels
    place = affine((1.0, 2.0, 3.0), "LPS")
    read = read_volume(write(tmp_path / f"a{suffix}", voxels, place), array_spacing=[1, 2, 3])
    assert np.array_equal(read.voxels, voxels if channels else voxels[..., None])
    assert read.spacing == pytest.approx((1, 2, 3))
    if suffix != ".npy":
        assert np.allclose(read.affine, place)


def test_axes_are_turned_to_one_orientation_and_back(tmp_path: Path) -> None:
    voxels = scene((5, 6, 7))[0]
    upright = VolumeReading()([write(tmp_path / "a.nii", voxels, affine(axes="RAS"))])
    for axes, turned in {"LPS": voxels[::-1, ::-1], "SAR": voxels.transpose(2, 1, 0)}.items():
        path = write(tmp_path / f"{axes}.nii", turned, affine(axes=axes))
        seen = VolumeReading()([path])
        assert torch.equal(seen.image, upright.image)
        assert np.array_equal(VolumeReading().turned_back(voxels, seen.file), turned)
    as_it_is = VolumeReading(orientation=None)([path])
    assert as_it_is.image.shape == (1, 7, 6, 5)


def test_images_are_resampled_to_a_spacing_and_scored_masks_are_not(tmp_path: Path) -> None:
    write_cases(tmp_path, {"train": 2, "val": 2, "test": 1})
    data = volumes(tmp_path, spacing=[2, 2, 2])
    data.setup("fit")
    train, val = data.train_set[0], data.val_set[1]
    assert train["image"].shape == (1, 10, 12, 16)
    assert train["mask"].shape == (10, 12, 16)
    assert val["image"].shape == (1, 10, 12, 16)
    assert val["mask"].shape == (20, 24, 16)
    assert train["spacing"].tolist() == [2, 2, 2]
    assert val["spacing"].tolist() == [1, 1, 2]
    assert train["image"].dtype == torch.float32
    assert train["image"].min() >= 0
    assert train["image"].max() <= 1
    raw = read_volume(tmp_path / "train/images/case0.nii.gz").voxels[..., 0]
    low, high = np.percentile(raw.astype(np.float32), [0.5, 99.5])
    middle = ((raw[9:11, 11:13, 8] - low) / (high - low)).clip(0, 1).mean()
    assert float(train["image"][0, 4:6, 5:7, 8].mean()) == pytest.approx(middle, abs=0.25)


def test_a_range_says_what_is_black_and_white(tmp_path: Path) -> None:
    voxels = np.array([-1000, 0, 500, 3000], np.int16).reshape(4, 1, 1)
    seen = VolumeReading(value_range=[0, 1000])([write(tmp_path / "a.nii", voxels)])
    assert seen.image.flatten().tolist() == [0, 0, 0.5, 1]


def test_modalities_are_channels_in_the_order_of_their_names(tmp_path: Path) -> None:
    for case in ("a", "b", "c"):
        image, mask = scene((6, 6, 6))
        write(tmp_path / "imagesTr" / f"{case}_t1.nii.gz", image)
        write(tmp_path / "imagesTr" / f"{case}_flair.nii.gz", 900 - image)
        write(tmp_path / "labelsTr" / f"{case}.nii.gz", mask)
    given = {"images": "imagesTr/{id}_{modality}.nii.gz", "masks": "labelsTr/{id}.nii.gz"}
    data = volumes(tmp_path, **given, modalities=["flair", "t1"], range=[0, 1000])
    data.setup("fit")
    sample = data.train_set[0]
    assert sample["image"].shape == (2, 6, 6, 6)
    torch.testing.assert_close(sample["image"].sum(0), torch.full((6, 6, 6), 0.9), atol=1e-3, rtol=0)
    chosen = volumes(tmp_path, **given, modalities=["flair", "t1"], range=[0, 1000], channels=[1])
    chosen.setup("fit")
    assert torch.equal(chosen.train_set[0]["image"], sample["image"][1:])
    (tmp_path / "imagesTr" / "b_t1.nii.gz").unlink()
    with pytest.raises(
        ValueError, match=r"b_flair\.nii\.gz is one of several modalities, and nothing of its case fits"
    ):
        volumes(tmp_path, **given, modalities=["flair", "t1"]).setup("fit")


def test_patches_are_functions_of_seed_epoch_and_volume(tmp_path: Path) -> None:
    write_cases(tmp_path, {"train": 4, "val": 1})

    def batches(workers: int, cache: str | None = None) -> list[Any]:
        torch.manual_seed(7)
        data = volumes(tmp_path, augment=volume_augmentation(**CHANGES), num_workers=workers, cache=cache)
        data.setup("fit")
        loader = data.train_dataloader()
        return [batch for _ in range(2) for batch in loader]

    here = batches(0)
    assert here[0]["image"].shape == (2, 1, 12, 12, 8)
    assert here[0]["mask"].shape == (2, 12, 12, 8)
    assert not any(torch.equal(here[0]["image"], other["image"]) for other in here[1:])
    for others in (batches(2), batches(0, cache="memory"), batches(1, cache="disk")):
        for one, other in zip(here, others, strict=True):
            assert torch.equal(one["image"], other["image"])
            assert torch.equal(one["mask"], other["mask"])


@pytest.mark.parametrize("place", ["memory", "disk"])
@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
def test_a_cache_of_volumes_says_its_size_before_it_is_filled_and_reads_no_file_twice(
    tmp_path: Path, place: str, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    image, mask = scene((10, 12, 8))
    for name, axes in {"a": "RAS", "b": "SAL"}.items():
        matrix = affine((1.0, 1.0, 2.0), axes)
        write(tmp_path / "images" / f"{name}{suffix}", np.stack([image, image + 1], -1), matrix)
        write(tmp_path / "masks" / f"{name}{suffix}", mask, matrix)
    data = volumes(tmp_path, cache=place, spacing=[2, 2, 2], val_fraction=0.5, test_fraction=0)
    with caplog.at_level("INFO", "lightning_seg.data.cache"):
        data.setup("fit")
    assert f"data.cache={place} keeps 1 volume of train, 0.00 GiB" in caplog.messages
    for files in (data.train_set, data.val_set):
        plain = [files.read(index) for index in range(len(files))]
        kept = [files[index] for index in range(len(files))]
        files.reading = None
        again = [files[index] for index in range(len(files))]
        for one, *others in zip(plain, kept, again, strict=True):
            for other in others:
                for part in ("image", "mask", "spacing"):
                    assert torch.equal(one[part], other[part])
                    assert one[part].dtype == other[part].dtype


def test_patches_are_centered_on_voxels_of_a_class_as_often_as_is_asked() -> None:
    mask = torch.zeros(24, 24, 24, dtype=torch.int64)
    mask[20:22, 2:4, 20:22], mask[:8] = 2, 255
    image = torch.rand(1, 24, 24, 24)
    still = {**CHANGES, "patch_size": 4, "flip": 0, "affine": 0, "noise": 0, "brightness": 0, "contrast": 0}
    found = {}
    for share in (0.0, 1.0):
        augment = volume_augmentation(**{**still, "foreground": share})
        patches = [augment({"image": image, "mask": mask, "name": "a"})["mask"] for _ in range(20)]
        found[share] = sum(bool((patch == 2).any()) for patch in patches)
        assert all(patch.shape == (4, 4, 4) and set(patch.unique().tolist()) <= {0, 2, 255} for patch in patches)
    assert found[1.0] == 20
    assert found[0.0] < 10


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another size": ({"mask": scene((5, 6, 8))[1]}, r"a\.nii is 5×6×7 voxels and its mask .* is 5×6×8"),
    "another spacing": ({"place": affine((1, 1, 3))}, "differ in spacing, by 12 mm at a corner"),
    "another orientation": ({"place": affine(axes="LPS")}, "differ in orientation or origin"),
    "a label that is no class": ({"mask": scene((5, 6, 7))[1] * 3}, r"mask .*a\.nii holds"),
    "labels that are not whole": ({"mask": scene((5, 6, 7))[1] * np.float32(0.5)}, "that are not integers"),
    "not finite": ({"image": np.full((5, 6, 7), np.nan, np.float32)}, "holds voxels that are not finite"),
    "complex": ({"image": np.zeros((5, 6, 7), np.complex64)}, "holds complex64, and real numbers are expected"),
    "two axes": ({"image": np.zeros((5, 6), np.float32)}, r"has the shape \(5, 6\), expected \(X, Y, Z\)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_a_volume_with_its_mask_is_refused_before_training(tmp_path: Path, case: str) -> None:
    changes, message = REFUSED[case]
    for name in ("a", "b", "c"):
        image, mask = scene((5, 6, 7))
        write(tmp_path / "images" / f"{name}.nii", changes.get("image", image))
        write(tmp_path / "masks" / f"{name}.nii", changes.get("mask", mask), changes.get("place"))
    with pytest.raises(ValueError, match=message):
        volumes(tmp_path).setup("fit")


def test_damaged_files_are_said_in_one_line(tmp_path: Path) -> None:
    whole = write(tmp_path / "a.nii.gz", scene((9, 9, 9))[0]).read_bytes()
    for name, content in {
        "cut.nii.gz": whole[: len(whole) // 2],
        "text.nii": b"no volume",
        "x.nrrd": b"NRRD0004\n",
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name} cannot be read as a volume") as refused:
            read_volume(tmp_path / name)
        assert "\n" not in str(refused.value)
    elsewhere = tmp_path / "b.nrrd"
    elsewhere.write_text("NRRD0004\ntype: uint8\ndimension: 3\nsizes: 1 1 1\nencoding: raw\ndata file: secret.raw\n\n")
    with pytest.raises(ValueError, match="keeps its voxels in another file"):
        read_volume(elsewhere)


NRRD = b"NRRD0004\ntype: int16\ndimension: 3\nendian: little\n"
LIES: dict[str, tuple[str, bytes, str]] = {
    "lines": ("nrrd", NRRD + b"sizes: 3 4 5\nencoding: raw\nline skip: 999999999\n\n", "skips 999,999,999 lines, more"),
    "sizes": ("nrrd", NRRD + b"sizes: nan 4 5\nencoding: raw\n\n", "has the shape"),
    "a bomb": (
        "nrrd",
        NRRD + b"sizes: 3 4 5\nencoding: gzip\n\n" + gzip.compress(bytes(2**22)),
        "holds more voxels than its sizes say",
    ),
    "words": ("nrrd", NRRD + b"sizes: " + b"x" * 10**6 + b"\nencoding: raw\n\n", r"cannot be read .{0,400}$"),
    "a spacing": (
        "nrrd",
        NRRD + b"sizes: 3 4 5\nspacings: 1e300 1 1\nencoding: raw\n\n" + bytes(120),
        "does not say where its voxels lie",
    ),
    "another spacing": (
        "nrrd",
        NRRD + b"sizes: 3 4 5\nspacings: 1e9 1 1\nencoding: raw\n\n" + bytes(120),
        r"would have 60,000,000,000 voxels in data\.spacing=\[1, 1, 1\], more than 2,147,483,648",
    ),
}


@pytest.mark.parametrize("what", LIES)
def test_headers_that_lie_take_neither_time_nor_memory(tmp_path: Path, what: str) -> None:
    suffix, content, message = LIES[what]
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as refused:
        VolumeReading(spacing=[1, 1, 1])([path])
    assert str(path) in str(refused.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": 0.5}, r"data\.scale is for 2-D images"),
        ({"spacing": [1, 1]}, r"data\.spacing=\[1, 1\] must be three distances above 0"),
        ({"orientation": "RAF"}, r"data\.orientation=RAF must be one of L R"),
        ({"range": [5, 1]}, r"data\.range=\[5, 1\] must be the values of black and white"),
        ({"modalities": ["t1"]}, r"give both, the pattern with \{modality\}, or neither"),
        ({"channels": "rgb"}, r"data\.channels=rgb of volumes is all, or a list"),
        ({"array_spacing": [1, 1, 3]}, r"data\.array_spacing=\[1, 1, 3\] is that of \.npy files, which .* has none of"),
        ({"cache": "ssd"}, r"data\.cache=ssd is neither memory nor disk"),
    ],
)
def test_options_of_pictures_and_mistakes_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    write_cases(tmp_path, {"train": 1, "val": 1})
    with pytest.raises(ValueError, match=message):
        volumes(tmp_path, **options).setup("fit")
