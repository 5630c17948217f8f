"""The study of few images: which trainings it asks for, and what it makes of their scores."""

import csv
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module

from tests.benchmarks import few_labels

GAINS = {"augmentation": 0.1, "consistency": 0.05, "regularization": -0.02, "orientations": 0.01}


def finish(training: few_labels.Training, output: Path) -> None:
    """Leaves the files of a training whose techniques each add their gain, and the seed a hundredth."""
    run = output / training.name
    run.mkdir(parents=True)
    iou = 0.5 + 0.01 * training.seed + sum(GAINS[name] for name in training.on)
    for name, score in (("test.csv", iou), ("orientations.csv", iou + GAINS["orientations"])):
        (run / name).write_text(f"class,iou,dice\nmembrane,0.1,0.1\nmean,{score},0.9\n")
    (run / "result.json").write_text("{}")


def test_what_each_technique_adds_is_found_again_at_each_number_of_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainings = list(few_labels.trainings(["membrane"], [4, None], [0, 1, 2]))
    assert len({training.name for training in trainings}) == len(trainings) == 2 * 3 * 5
    for training in trainings:
        finish(training, tmp_path)
    few_labels.main(["--summarize", "--datasets", "membrane", "--limits", "4", "all", "--output", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "+10.0 (+10.0 to +10.0)" in printed
    assert "-2.0 (-2.0 to -2.0)" in printed
    assert "51.0 ± 1.0" in printed  # none of the techniques, over seeds 0, 1 and 2
    with (tmp_path / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * len(trainings)
    assert {row["images"] for row in rows} == {"4", "all"}
    assert few_labels.read_scores(tmp_path / "scores.csv") == [
        score for training in trainings for score in few_labels.scores(training, tmp_path)
    ]
    assert (tmp_path / "membrane.png").stat().st_size > 0


def test_what_is_added_is_a_difference_of_the_same_seed(tmp_path: Path) -> None:
    for training in few_labels.trainings(["membrane"], [4], [0, 1]):
        if training.seed == 0 or training.on:
            finish(training, tmp_path)
    scores = [
        score for one in few_labels.trainings(["membrane"], [4], [0, 1]) for score in few_labels.scores(one, tmp_path)
    ]
    added = few_labels.effect(scores, 4, few_labels.TECHNIQUES)
    assert added is not None
    assert added.n == 1
    assert added.mean == pytest.approx(sum(GAINS.values()))
    assert few_labels.effect(scores, 8, few_labels.TECHNIQUES) is None


def test_a_training_is_done_once_and_what_it_asks_for_is_a_configuration(tmp_path: Path) -> None:
    options = few_labels.parse(["--output", str(tmp_path), "--data", str(tmp_path), "--steps", "3"])
    training = few_labels.Training("camvid", 8, 1, ("consistency",))
    train, evaluate = few_labels.commands(training, options)
    assert (train.name, evaluate.name) == ("train", "evaluate")
    with initialize_config_module("lightning_seg.conf", version_base="1.3"):
        config = compose("train", list(train.arguments))
    assert (config.data.train_limit, config.data.train_repeats, config.data.seed, config.seed) == (8, 2, 1, 1)
    assert (config.module.consistency_weight, config.loss.label_smoothing, config.augment.d4) == (1.0, 0, 0.0)
    assert (config.data.num_classes, config.data.ignore_index) == (11, 11)
    finish(training, tmp_path)
    assert few_labels.commands(training, options) == []
    (tmp_path / training.name / "orientations.csv").unlink()
    assert few_labels.commands(training, options) == [evaluate]


def test_every_training_image_is_there_and_every_third_validation_image(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (tmp_path / "own" / split / kind).mkdir(parents=True)
            for number in range(7):
                (tmp_path / "own" / split / kind / f"{number}.png").write_text(f"{split} {kind} {number}")
    for _ in range(2):
        few_labels.link_images(tmp_path / "own", tmp_path / "linked", 3)
    for kind in ("images", "masks"):
        assert len(list((tmp_path / "linked" / "train" / kind).iterdir())) == 7
        texts = sorted(path.read_text() for path in (tmp_path / "linked" / "val" / kind).iterdir())
        assert texts == [f"val {kind} {number}" for number in (0, 3, 6)]
