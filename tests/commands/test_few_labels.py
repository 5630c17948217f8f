"""experiment=few_labels, by the real command."""

import csv
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from hydra.utils import instantiate
from lightning import Trainer, seed_everything
from torch import nn

from lightning_seg.launch.building import build
from lightning_seg.launch.resolved import resolved
from tests.console import SHORT, SMALL, Run
from tests.small_encoder import replace

FEW = ("lightning-seg-train", "experiment=few_labels", "data.train_limit=4", "data.train_repeats=2", *SHORT, *SMALL)
# What takes each technique of a training away.
OFF = {
    "rotation": ["augment.rotation=0"],
    "turns": ["augment.d4=0"],
    "augmentation": ["augment=light"],
    "consistency": ["module.consistency_weight=0"],
    "unlabeled": ["data.unlabeled_per_image=0"],
    "regularization": ["loss.label_smoothing=0", "optimizer.weight_decay=0.01"],
}


def columns(run: Path) -> set[str]:
    with (run / "curves.csv").open(newline="") as file:
        return set(next(csv.reader(file)))


def first_step(*words: str) -> dict[str, float]:
    """What the first step of a training logs."""
    with initialize_config_module("lightning_seg.conf", version_base="1.3"):
        config = resolved(compose("train", [*FEW[1:], "trainer.max_steps=1", "trainer.limit_val_batches=0", *words]))
    seed_everything(config["seed"], workers=True, verbose=False)
    trainer: Trainer = build(config["trainer"], logger=False, enable_checkpointing=False)
    trainer.fit(build(config["module"]), build(config["data"]))
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


@pytest.mark.slow
def test_the_experiment_trains_tests_evaluates_and_predicts(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run(*FEW, "run=few")
    assert {"train/loss", "train/loss/consistency", "train/loss/dice"} <= columns(tmp_path / "runs/few")
    run("lightning-seg-evaluate", "checkpoint=runs/few/checkpoints/best.ckpt", "output=again.csv")
    assert Path("again.csv").read_text() == Path("runs/few/test.csv").read_text()

    run(*FEW, "run=off", "module.test_time_augmentation=false", "callbacks=none")
    assert Path("runs/off/test.csv").read_text() != Path("runs/few/test.csv").read_text()

    two = ("trainer=ddp_sim", "data.batch_size=2", "data.num_val=1", "callbacks=curves", "test=false")
    run(*FEW, "run=two", *two)
    assert "train/loss/consistency" in columns(tmp_path / "runs/two")


@pytest.mark.slow
def test_each_technique_is_a_switch_that_changes_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    replace(monkeypatch, "resnet18")
    everything = first_step()
    assert first_step() == everything
    for name, words in OFF.items():
        without = first_step(*words)
        assert without != everything, name
        assert ("train/loss/consistency" in without) == (name != "consistency")


def test_the_experiment_takes_other_losses_and_networks_with_dropout() -> None:
    with initialize_config_module("lightning_seg.conf", version_base="1.3"):
        config = compose("train", ["experiment=few_labels", "loss=dice", "~loss.label_smoothing"])
        assert type(instantiate(config.loss)).__name__ == "DiceLoss"
        config = compose("train", ["experiment=few_labels", "backbone=fpn", "+backbone.decoder_dropout=0.5"])
    rates = [part.p for part in instantiate(config.backbone).modules() if isinstance(part, nn.Dropout2d)]
    assert rates == [0.5]
