import csv
import math
from pathlib import Path

import pytest

from lightning_seg.runs.scores import overall_names, print_scores, score_rows, score_text, write_scores

USUAL = {
    "test/iou": 0.5,
    "test/dice": 0.6,
    "test/accuracy": 0.9,
    "test/iou/sky": 0.5,
    "test/iou/road": math.nan,
    "test/dice/sky": 0.6,
    "test/dice/road": math.nan,
    "test/loss": 1.25,
}


def test_rows_are_the_classes_and_their_mean() -> None:
    sky, road, mean = score_rows(USUAL, "test", ["sky", "road"])
    assert (sky, mean) == (("sky", 0.5, 0.6), ("mean", 0.5, 0.6))
    assert road[0] == "road"
    assert math.isnan(road[1])


def test_undefined_and_missing_scores_are_dashes(capsys: pytest.CaptureFixture[str]) -> None:
    scores = {name: value for name, value in USUAL.items() if name != "test/dice/sky"}
    print_scores(scores, "test", ["sky", "road"], split="all", counts=(1, 2345))
    printed = capsys.readouterr().out
    (sky,) = (line for line in printed.splitlines() if "sky" in line)
    (road,) = (line for line in printed.splitlines() if "road" in line)
    assert "50.00" in sky
    assert sky.count("–") == 1
    assert road.count("–") == 2
    assert "all scores" in printed
    assert "accuracy 90.00 %, loss 1.2500, of 1 image and 2,345 pixels" in printed


@pytest.mark.parametrize(
    ("scores", "header"),
    [
        (USUAL, ["class", "iou", "dice"]),
        ({"test/right": 0.5, "test/loss": 1.0}, ["class", "right", "loss"]),
        ({"test/f1/sky": 0.5, "test/f1": 0.25, "test/loss": 1.0}, ["class", "f1"]),
    ],
)
def test_the_file_has_the_columns_that_were_logged(tmp_path: Path, scores: dict[str, float], header: list[str]) -> None:
    write_scores(tmp_path / "test.csv", scores, "test", ["sky", "road"])
    assert next(csv.reader((tmp_path / "test.csv").open(encoding="utf-8"))) == header


def test_the_file_says_of_how_many_images_and_pixels_it_is(tmp_path: Path) -> None:
    write_scores(tmp_path / "test.csv", USUAL, "test", ["sky", "road"], (3, 2345))
    rows = list(csv.reader((tmp_path / "test.csv").open(encoding="utf-8")))
    assert rows == [
        ["class", "iou", "dice", "images", "pixels"],
        ["sky", "0.5", "0.6", "", ""],
        ["road", "nan", "nan", "", ""],
        ["mean", "0.5", "0.6", "3", "2345"],
    ]


def test_overall_scores_end_with_the_loss() -> None:
    assert overall_names({"test/loss": 1.0, **USUAL}, "test") == ["iou", "dice", "accuracy", "loss"]


def test_nothing_logged_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    print_scores({}, "test", ["sky"])
    assert "no scores of test were logged" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("val/iou", "50.00 %"),
        ("test/dice/car", "50.00 %"),
        ("val/iou_macro", "50.00 %"),
        ("val/loss", "0.5000"),
        ("val/dice_loss", "0.5000"),
        ("val/hd95", "0.5000"),
    ],
)
def test_shares_are_printed_in_percent_and_losses_as_they_are(name: str, text: str) -> None:
    assert score_text(name, 0.5) == text
