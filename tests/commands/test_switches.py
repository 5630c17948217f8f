"""Switches of a training, each one value, through the command; what each does is tested beside its code."""

import csv
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from lightning_seg import load_module
from lightning_seg.commands.train import without_defaults
from lightning_seg.runs.contents import read_result
from tests.console import SHORT, SMALL, Run

TRAIN = ("lightning-seg-train", *SMALL, *SHORT, "callbacks=[checkpoint,last,curves]", "test=false", "loss=ce")


def test_the_time_of_a_training_is_limited_and_its_logger_gets_the_configuration(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run(
        *TRAIN, "run=one", "trainer.max_epochs=100000", "trainer.max_time=00:00:00:01", "logger=csv",
        "scheduler=plateau", "scheduler.patience=0", "scheduler.min_delta=1",
    )  # fmt: skip
    curves = list(csv.DictReader((tmp_path / "runs/one/curves.csv").open()))
    assert 0 < len(curves) < 1000
    told = yaml.safe_load((tmp_path / "runs/one/csv/hparams.yaml").read_text())
    assert (told["optimizer"]["lr"], told["module"]["num_classes"], told["seed"]) == (0.001, 6, 0)
    # No epoch is better by a whole unit: each but the first lowers the rate.
    stored = torch.load(tmp_path / "runs/one/checkpoints/last.ckpt", weights_only=True)
    lowered = [len(curves) - 2, len(curves) - 1]  # the time may end between a validation and its step of the schedule
    assert stored["lr_schedulers"][0]["_last_lr"][0] in [pytest.approx(0.001 * 0.5**times) for times in lowered]


def test_how_a_network_is_executed_leaves_its_checkpoint_as_it_is(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    compiled: list[nn.Module] = []
    monkeypatch.setattr(nn.Module, "compile", lambda network: compiled.append(network))
    said = run(
        *TRAIN, "run=one", "compile=true", "channels_last=true", "gradient_checkpointing=true",
        "module.layer_decay=0.8", "callbacks=[checkpoint,last,curves,ema,freeze]",
    )  # fmt: skip
    (part,) = [line for line in said.splitlines() if line.startswith("the pretrained part is backbone.encoder, ")]
    assert part.endswith(", of random weights: pretrained ones are backbone.encoder_weights or init_from=PATH")
    assert [type(network).__name__ for network in compiled] == ["PadToStride"]
    module = load_module(tmp_path / "runs/one/checkpoints/best.ckpt")
    assert module(torch.rand(1, 3, 32, 32)).shape == (1, 6, 32, 32)


@pytest.mark.slow
def test_a_learning_rate_is_suggested_in_one_line_and_nothing_is_kept(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lightning_seg.learning_rate.STEPS", 20)
    said = run(*TRAIN, "find_learning_rate=true", "data.mean=auto", "data.std=auto")
    (rate,) = re.findall(r"^optimizer.lr=(\S+) is suggested: .*$", said, re.MULTILINE)
    assert 1e-6 < float(rate) < 1
    assert len([line for line in said.splitlines() if "data.mean=auto, data.std=auto: " not in line]) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["scheduler=plateau", "scheduler.monitor=val/iuo"], "scheduler.monitor=val/iuo is not logged; did you mean"),
        (["scheduler=plateau", "trainer.limit_val_batches=0"], "val/iou is a score of the validation, which trainer."),
        (["scheduler=plateau", "scheduler.factor=2"], "scheduler.factor=2, but it must be from 0 to 1"),
        (["module.layer_decay=1.5"], "module.layer_decay=1.5, but it must be above 0 and 1 at most"),
        (["trainer.max_time=90"], "trainer.max_time=90 must be days:hours:minutes:seconds, as in 00:02:30:00"),
        (["compile=3"], "compile=3 must be true or false"),
    ],
)
def test_what_cannot_be_is_refused(
    fails: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in fails(*TRAIN, "run=one", *options)
    assert read_result(tmp_path / "runs/one") is None


@pytest.mark.parametrize(
    ("chosen", "target", "missing"),
    [
        ({"ema": {}}, {}, "callbacks=[default,ema]"),
        ({"early_stopping": {}, "ema": {}}, {}, "callbacks=[default,early_stopping,ema]"),
        ({}, {}, None),  # callbacks=none
        ({"checkpoint": None, "ema": {}}, {}, None),  # left out by name
        ({"custom": {}}, {"monitor": "val/iou"}, None),  # one's own that keeps the best
    ],
)
def test_callbacks_chosen_in_place_of_the_default_ones_are_said(
    chosen: dict[str, Any], target: dict[str, Any], missing: str | None
) -> None:
    trainer = Trainer(logger=False, callbacks=[ModelCheckpoint(**target)] if target else None)
    said = without_defaults(trainer, {"callbacks": chosen})
    assert said.endswith(f"; {missing} has both.") if missing else said == ""
