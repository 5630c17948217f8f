"""The study of losses: which trainings it asks for, and the learning rates that it then uses."""

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from hydra.utils import instantiate

from lightning_seg import losses
from tests.benchmarks import loss_study
from tests.benchmarks.trainings import Command

CLASSES = ["road", "pole"]


def finish(output: Path, part: str, name: str, iou: float) -> None:
    """Leaves what a finished training leaves."""
    folder = output / part / name
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("{module: {}, data: {}, trainer: {}, seed: 0}")
    test = {"test/iou": iou, "test/iou/road": iou + 0.25, "test/iou/pole": iou - 0.25}
    (folder / "result.json").write_text(json.dumps({"test": test, "class_names": CLASSES}))
    (folder / "resource_usage.json").write_text(json.dumps({"seconds_per_step": 0.5, "peak_memory_bytes": 2**30}))


def test_each_loss_uses_the_learning_rate_of_its_best_short_training(tmp_path: Path) -> None:
    for name, iou in {
        "ce-0.001-0": 0.25, "ce-0.003-0": 0.5, "ce-0.01-0": 0.375, "dice-0.001-0": 0.25, "dice-0.01-0": 0.75,
    }.items():  # fmt: skip
        finish(tmp_path, loss_study.CHOICE, name, iou)
    finish(tmp_path, loss_study.COMPARISON, "ce-0.001-1", 0.99)
    assert loss_study.chosen_rates(tmp_path) == {"ce": "0.003", "dice": "0.01"}


def test_a_loss_that_is_best_at_the_highest_learning_rate_is_tried_at_a_higher_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def train(steps: Iterable[Sequence[Command]], jobs: int, log: Path) -> None:
        for (command,) in steps:
            (name,) = [word.removeprefix("run=") for word in command.arguments if word.startswith("run=")]
            loss, rate, _ = name.split("-")
            asked.append(name)
            finish(tmp_path, loss_study.CHOICE, name, float(rate) if loss == "lovasz" else 0.5 - float(rate))

    monkeypatch.setattr(loss_study, "run_all", train)
    loss_study.choose_rates(loss_study.parse(["--losses", "ce", "lovasz", "--output", str(tmp_path)]))
    tried = {loss: [name.split("-")[1] for name in asked if name.startswith(loss)] for loss in ("ce", "lovasz")}
    assert tried == {"ce": list(loss_study.RATES), "lovasz": [*loss_study.RATES, loss_study.HIGHER_RATE]}
    assert loss_study.chosen_rates(tmp_path) == {"ce": "0.001", "lovasz": "0.1"}


def test_scores_are_a_row_for_each_finished_training(tmp_path: Path) -> None:
    finish(tmp_path, loss_study.COMPARISON, "ce_dice-0.003-2", 0.5)
    unfinished = tmp_path / loss_study.COMPARISON / "ce-0.003-2"
    unfinished.mkdir()
    (unfinished / "config.yaml").write_text("{module: {}, data: {}, trainer: {}, seed: 0}")
    loss_study.main(["--summarize", "--output", str(tmp_path)])
    with (tmp_path / "scores.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["part"], row["loss"], row["rate"], row["seed"]) == (loss_study.COMPARISON, "ce_dice", "0.003", "2")
    assert [float(row[name]) for name in ("iou", "iou/road", "iou/pole", "seconds_per_step")] == [0.5, 0.75, 0.25, 0.5]


def test_a_folder_without_trainings_is_told(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="holds no finished training"):
        loss_study.main(["--summarize", "--output", str(tmp_path)])


@pytest.mark.parametrize("loss", loss_study.LOSSES)
def test_a_training_is_done_once_and_what_it_asks_for_is_a_configuration(tmp_path: Path, loss: str) -> None:
    options = loss_study.parse(["--output", str(tmp_path), "--data", str(tmp_path), "data.batch_size=4"])
    (train,) = loss_study.training(options, loss_study.COMPARISON, loss, "0.003", 2, "trainer.max_epochs=5")
    with initialize_config_module("lightning_seg.conf", version_base="1.3"):
        config = compose("train", list(train.arguments))
    assert (config.optimizer.lr, config.seed, config.trainer.max_epochs, config.data.batch_size) == (0.003, 2, 5, 4)
    assert config.trainer.check_val_every_n_epoch == 5
    if loss == "weighted_ce":
        assert config.loss.class_weights == "median_frequency"
        config.loss.class_weights = [1.0] * 11
    assert isinstance(instantiate(config.loss), losses.Loss | losses.CompoundLoss)
    finish(tmp_path, loss_study.COMPARISON, f"{loss}-0.003-2", 0.5)
    assert loss_study.training(options, loss_study.COMPARISON, loss, "0.003", 2) == []


def test_a_sweep_of_the_experiment_trains_what_the_study_does() -> None:
    with initialize_config_module("lightning_seg.conf", version_base="1.3"):
        config = compose("train", ["experiment=loss_study", "data.root=x"], return_hydra_config=True)
    params = config.hydra.sweeper.params
    assert tuple(params.loss.split(",")) == loss_study.LOSSES
    assert tuple(params["optimizer.lr"].split(",")) == loss_study.RATES
    assert params.seed == "1,2,3"
