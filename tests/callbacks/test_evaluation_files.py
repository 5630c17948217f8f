import json

import lightning
import numpy as np
import pytest
import torch
from torch import nn

from lightning_seg import SegmentationModule
from lightning_seg.callbacks import ConfusionCounts, ValidationSamples
from lightning_seg.data import ShapesDataModule
from lightning_seg.losses import CrossEntropyLoss

NAMES = ["background", "disc", "square", "triangle", "line", "dot"]
PALETTE = [(20 * value, 0, 0) for value in range(6)]


def run_test(folder, *callbacks, task="multiclass", num_classes=6, image_size=64):
    torch.manual_seed(0)
    names = NAMES if num_classes > 1 else ["object"]
    data = ShapesDataModule(
        num_train=2,
        num_val=9,
        num_test=3,
        image_size=image_size,
        seed=0,
        batch_size=2,
        num_classes=num_classes,
        ignore_index=255,
        class_names=names,
    )
    module = SegmentationModule(
        nn.Conv2d(3, num_classes, 3, padding=1),
        CrossEntropyLoss(ignore_index=255, task=task),
        task=task,
        num_classes=num_classes,
        ignore_index=255,
        class_names=names,
    )
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = lightning.Trainer(callbacks=list(callbacks), default_root_dir=folder, enable_checkpointing=False, **quiet)
    data.setup("validate")
    scores = trainer.test(module, data, verbose=False)[0]
    return scores, module, data


@pytest.mark.parametrize(("task", "num_classes"), [("multiclass", 6), ("binary", 1)])
def test_the_written_confusion_matrix_is_that_of_the_test_scores(tmp_path, task, num_classes):
    path = tmp_path / "confusion.json"
    names = NAMES if num_classes > 1 else ["object"]
    scores, module, data = run_test(tmp_path, ConfusionCounts(path, names), task=task, num_classes=num_classes)
    written = json.loads(path.read_text())
    matrix = np.array(written["matrix"])
    expected = np.zeros_like(matrix)
    for index in range(3):
        sample = data.test_set[index]
        with torch.no_grad():
            labels = module.predict_labels(module(sample["image"][None]))[0]
        for target, label in zip(sample["mask"].flatten().tolist(), labels.flatten().tolist(), strict=True):
            if target != 255:
                expected[target, label] += 1
    assert (matrix == expected).all()
    assert (written["task"], written["class_names"]) == (task, names)
    right = np.diag(matrix)
    iou = right / (matrix.sum(0) + matrix.sum(1) - right)
    assert scores["test/iou"] == pytest.approx(np.nanmean(iou[-num_classes:]), rel=1e-6)


def test_validation_samples_hold_image_target_and_the_prediction_of_the_tested_weights(tmp_path):
    path = tmp_path / "new" / "validation.npz"
    callback = ValidationSamples(path, PALETTE, NAMES, count=3, size=320, ignore_index=255)
    _, module, data = run_test(tmp_path, callback)
    file = np.load(path, allow_pickle=False)
    about = json.loads(str(file["about"]))
    assert about == {
        "names": ["val_00001", "val_00004", "val_00007"],
        "palette": [list(color) for color in PALETTE],
        "class_names": NAMES,
        "void": 6,
    }
    for place, index in enumerate((1, 4, 7)):
        sample = data.val_set[index]
        target = np.where(sample["mask"] == 255, 6, sample["mask"])
        with torch.no_grad():
            labels = module.predict_labels(module(sample["image"][None]))[0]
        assert (file[f"image_{place}"] == np.round(255 * sample["image"].permute(1, 2, 0).numpy())).all()
        assert (file[f"target_{place}"] == target).all()
        assert (file[f"labels_{place}"] == labels.numpy()).all()
    assert [made.name for made in path.parent.iterdir()] == ["validation.npz"]


def test_larger_validation_images_are_shrunk_with_their_labels_in_place(tmp_path):
    path = tmp_path / "validation.npz"
    run_test(tmp_path, ValidationSamples(path, PALETTE, NAMES, count=2, size=32, ignore_index=255), image_size=96)
    small = np.load(path)
    run_test(tmp_path, ValidationSamples(path, PALETTE, NAMES, count=2, size=96, ignore_index=255), image_size=96)
    large = np.load(path)
    assert small["image_0"].shape == (32, 32, 3)
    for part in ("target_1", "labels_1"):
        assert (small[part] == large[part][1::3, 1::3]).all()


def test_a_task_without_single_labels_leaves_no_samples(tmp_path):
    callback = ValidationSamples(tmp_path / "validation.npz", PALETTE, NAMES, count=2, size=32)
    module = SegmentationModule(
        nn.Conv2d(3, 6, 1), CrossEntropyLoss(task="multilabel"), task="multilabel", num_classes=6
    )
    callback.on_test_epoch_end(lightning.Trainer(accelerator="cpu", logger=False), module)
    assert not (tmp_path / "validation.npz").exists()


def test_samples_without_extent_are_refused(tmp_path):
    with pytest.raises(ValueError, match="count=0 and size=32"):
        ValidationSamples(tmp_path / "validation.npz", PALETTE, NAMES, count=0, size=32)
