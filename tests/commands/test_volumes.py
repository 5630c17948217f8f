"""Volumes through the commands: training, evaluation in windows, and predictions in the voxels of the input."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from lightning_seg import load_module
from lightning_seg.commands.evaluate import take_volume_reading
from tests.console import SHORT, Run

nibabel = pytest.importorskip("nibabel")
pytest.importorskip("nrrd")
pytest.importorskip("monai")
from tests.data.volume_files import write_cases  # noqa: E402

SMALL = ["backbone.channels=[4,8]", "backbone.strides=[2]", "data.num_workers=0", *SHORT]


@pytest.mark.slow
def test_volumes_are_trained_on_evaluated_and_predicted_in_their_own_voxels(
    run: Run, fails: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_cases(tmp_path / "scans", {"train": 2, "val": 1, "test": 2})
    given = ["data.num_classes=3", "data.spacing=[1,1,1]", "data.tile=16", "data.margin=4", "augment.patch_size=16"]
    run("lightning-seg-train", "experiment=volumes", "data.root=scans", *given, *SMALL)
    folder = tmp_path / "runs" / "volumes"
    assert (folder / "predictions.png").is_file()
    with np.load(folder / "validation.npz") as shown:  # the middle slice of the last axis, its second one upward
        assert shown["image_0"].shape == (24, 20, 3)
        mask = np.asarray(nibabel.load("scans/val/masks/case0.nii.gz").dataobj)[..., 8]
        assert np.array_equal(shown["target_0"], np.rot90(mask))
    rows = list(csv.DictReader((folder / "evaluation" / "cases.csv").open()))
    assert [row["case"] for row in rows] == ["case0", "case1"]
    assert {"dice/1", "hausdorff95/1", "surface_dice/2"} <= rows[0].keys()

    best = folder / "checkpoints" / "best.ckpt"
    evaluate = ("lightning-seg-evaluate", f"checkpoint={best}", "trainer.accelerator=cpu", "tolerance=1")
    said = run(*evaluate, "details=details")
    assert "2 images" in said
    assert (tmp_path / "details" / "cases.csv").is_file()
    assert json.loads((tmp_path / "details" / "summary.json").read_text())["surface_tolerance"] == 1
    assert "tolerance=1 is that of the surface Dice: give details=FOLDER" in fails(*evaluate)

    images = tmp_path / "scans" / "test" / "images"
    run("lightning-seg-predict", f"checkpoint={best}", f"input={images}", "output=out", "probabilities=true")
    module = load_module(best)
    for name in ("case0", "case1"):  # whose axes point to other sides
        source, made = nibabel.load(images / f"{name}.nii.gz"), nibabel.load(tmp_path / "out" / f"{name}.nii.gz")
        assert np.array_equal(source.affine, made.affine)
        labels = np.asarray(made.dataobj)
        assert labels.shape == source.shape
        assert np.array_equal(labels, module.predict(images / f"{name}.nii.gz").numpy())
        shares = np.asarray(nibabel.load(tmp_path / "out" / f"{name}_probabilities.nii.gz").dataobj)
        assert np.array_equal(shares.argmax(-1), labels)


def test_the_embedded_volumes_are_trained_on(
    run: Run, fails: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sizes = ["data.num_train=2", "data.num_val=1", "data.num_test=1", "data.image_size=16", "augment.patch_size=16"]
    run("lightning-seg-train", "experiment=shapes_3d", *sizes, *SMALL)
    assert (tmp_path / "runs" / "shapes_3d" / "predictions.png").is_file()


@pytest.mark.slow
def test_a_small_network_learns_the_embedded_volumes_in_half_a_minute(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sizes = ["data.image_size=16", "augment.patch_size=16", "data.num_val=1", "data.num_test=4"]
    steps = ["data.num_train=48", "data.train_repeats=4", "trainer.max_epochs=1", "optimizer.lr=1e-2"]
    run("lightning-seg-train", "experiment=shapes_3d", "backbone.channels=[8,16,32]", *sizes, *steps,
        "callbacks=[checkpoint,last]", "trainer.accelerator=cpu")  # fmt: skip
    *_, mean = csv.DictReader((tmp_path / "runs" / "shapes_3d" / "test.csv").open())
    assert float(mean["dice"]) > 0.8  # 0.94


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        (
            ["data.dimensions=3"],
            "backbone=monai backbone.spatial_dims=3, and augment=volumes",
        ),
        (["backbone=unet_3d"], "data gives pictures, and backbone is a network for volumes: use backbone=unet."),
        (["data=volumes", "data.root=x", "data.num_classes=2", "backbone=unet_3d"], "use augment=volumes."),
        (["experiment=volumes", "data.root=x", "data.num_classes=2", "task=multilabel"], "reads one label a voxel."),
    ],
)
def test_parts_of_pictures_are_not_taken_for_volumes(fails: Run, choices: list[str], message: str) -> None:
    assert message in fails("lightning-seg-train", *choices)


def test_an_inspection_is_of_pictures(fails: Run) -> None:
    message = fails("lightning-seg-inspect", "experiment=volumes", "data.root=x", "data.num_classes=2")
    assert "lightning-seg-inspect is for 2-D images" in message


def test_other_volumes_are_evaluated_in_the_spacing_of_the_training_unless_it_is_given() -> None:
    name = {"_target_": "lightning_seg.data.VolumesDataModule"}
    stored = {**name, "spacing": [1, 1, 2], "orientation": "LPS", "range": [0, 9], "channels": [1]}
    now = OmegaConf.create({**name, "spacing": None, "orientation": "RAS", "range": "percentiles", "channels": "all"})
    take_volume_reading(now, stored, ["data.range"])
    assert now == {**stored, "range": "percentiles"}
