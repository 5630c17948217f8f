"""What a training reports is what the checkpoint that it keeps gives; nothing scored is not a score."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightning_seg.runs.contents import read_result
from tests.console import SCORES_ONLY, SHORT, SMALL, Run

TRAIN = ("lightning-seg-train", *SHORT, *SMALL, *SCORES_ONLY, "run=one")
EMA = "{_target_:lightning.pytorch.callbacks.EMAWeightAveraging,decay:0.5}"
EVERY = "{_target_:lightning.pytorch.callbacks.ModelCheckpoint,dirpath:every,save_top_k:-1}"


@pytest.mark.slow
@pytest.mark.parametrize("monitor", ["val/loss", "val/dice"])
def test_the_test_is_to_the_last_digit_what_the_kept_checkpoint_gives(run: Run, folder: Path, monitor: str) -> None:
    callbacks = ["callbacks.checkpoint.save_top_k=2", f"+callbacks.ema={EMA}", f"+callbacks.every={EVERY}"]
    run(*TRAIN, *callbacks, f"monitor={monitor}", "trainer.max_epochs=3", "optimizer.lr=0.03", "loss=ce")
    result = read_result(folder / "runs/one")
    assert result is not None
    assert result["monitor"] == monitor
    for split, output in (("test", "test.csv"), ("val", "val.csv")):
        best = "checkpoint=runs/one/checkpoints/best.ckpt"
        printed = run("lightning-seg-evaluate", best, f"split={split}", f"output={output}", "trainer.accelerator=cpu")
    assert (folder / "test.csv").read_text() == (folder / "runs/one/test.csv").read_text()
    if monitor == "val/loss":
        assert f"loss {result['best']:.4f}" in printed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("trainer.limit_val_batches=0", "no epoch was scored: trainer.limit_val_batches=0 leaves validation out."),
        ("trainer.check_val_every_n_epoch=2", "no epoch was scored: the training ended before a validation that logs"),
    ],
)
def test_a_training_without_a_validation_says_that_nothing_was_scored(
    run: Run, folder: Path, override: str, line: str
) -> None:
    printed = run(*TRAIN, override)
    assert line in printed
    assert "at best" not in printed
    result = read_result(folder / "runs/one")
    assert result is not None
    assert math.isnan(result["best"])
    assert result["test"]["test/iou"] >= 0
    run("lightning-seg-evaluate", "checkpoint=runs/one/checkpoints/last.ckpt", "output=last.csv")
    assert (folder / "last.csv").read_text() == (folder / "runs/one/test.csv").read_text()


@pytest.mark.slow
def test_a_validation_of_nothing_but_void_is_not_a_score(run: Run, folder: Path) -> None:
    for path in (folder / "my_images/val/masks").iterdir():
        Image.fromarray(np.full((40, 48), 255, np.uint8)).save(path)
    data = ["data=folder", "data.root=my_images", "data.num_classes=3", "data.ignore_index=255", "augment.crop_size=32"]
    train = ("lightning-seg-train", *SHORT, *data, *SCORES_ONLY, "data.num_workers=0", "trainer.max_epochs=2")
    printed = run(*train, "run=one")
    assert "no epoch was scored: val/iou was nan in each validation" in printed
    assert not (folder / "runs/one/checkpoints/best.ckpt").exists()
    assert json.loads((folder / "runs/one/result.json").read_text())["best"] is None
    assert "has finished" in run(*train, "run=one", "resume=auto")


@pytest.mark.slow
def test_a_test_that_is_left_out_may_be_made_up_for(run: Run, folder: Path) -> None:
    printed = run(*TRAIN, "test=false")
    assert "at best" in printed
    assert not (folder / "runs/one/test.csv").exists()
    assert "has finished" in run(*TRAIN, "test=false", "resume=auto")
    run(*TRAIN, "resume=auto")
    assert (folder / "runs/one/test.csv").exists()


def test_a_test_of_no_batches_is_no_score(run: Run, folder: Path) -> None:
    assert "nothing was tested" in run(*TRAIN, "trainer.limit_test_batches=0")
    assert not (folder / "runs/one/test.csv").exists()
    assert "has finished" in run(*TRAIN, "trainer.limit_test_batches=0", "resume=auto")
