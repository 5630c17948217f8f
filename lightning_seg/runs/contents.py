"""What the folder of a run holds, each file's name in one place, and the marks of how it ended."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_seg.files import write_json
from lightning_seg.reading import read_json

CONFIG = "config.yaml"  # what the run was started with
DATA = "data.json"  # what its data are, by a digest
LOCK = ".lock"  # who trains in it now
CURVES = "curves.csv"  # losses and scores of each epoch
RESOURCES = "resource_usage.json"  # time and memory
SAMPLES = "validation.npz"  # predictions of validation images
PICTURES = "predictions.png"  # and of test images
CONFUSION = "confusion.json"  # pixel counts of the test
SCORES = "test.csv"  # the table of the test's scores
INTERVALS = "evaluation/summary.json"  # and how sure they are
RESULT = "result.json"  # that it has finished, and with what
PRUNED = "pruned.txt"  # that its search stopped it
DIVERGED = "diverged.json"  # that its loss was not finite, and where
DIVERGED_BATCH = "diverged.pt"  # the batch that it happened with
LAST = Path("checkpoints", "last.ckpt")  # what a run resumes from
BEST = Path("checkpoints", "best.ckpt")  # the weights that are tested


def write_result(folder: Path, result: Mapping[str, Any]) -> None:
    """Marks a run as finished, with its scores; what is not finite is null in the file."""
    write_json(folder / RESULT, result)


def read_result(folder: Path) -> dict[str, Any] | None:
    """The scores of a finished run, NaN where the file has null; None if it has not finished."""
    path = folder / RESULT
    if not path.is_file():
        return None
    result = read_json(path)
    if not isinstance(result, dict) or "best" not in result or not isinstance(result.get("test"), dict):
        raise ValueError(f"{path} is not the result of a run: remove it, and resume=auto tests the run again.")
    return {**result, "best": _number(result["best"]), "test": {k: _number(v) for k, v in result["test"].items()}}


def has_finished(result: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    """Whether a result has all that a configuration asks for, which may be a test that was left out before."""
    wants_test = config.get("test", True) and config["trainer"].get("limit_test_batches") != 0
    return bool(result["test"]) or not wants_test


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
