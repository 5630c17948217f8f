"""Folders of runs as the training command leaves them, with scores that a test chooses."""

import copy
import csv
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from lightning_seg.callbacks.evenly_spaced import Prediction
from lightning_seg.callbacks.validation_samples import ValidationSamples
from lightning_seg.reading import as_yaml

CLASSES = ["ground", "tree & <b>bush</b>"]
WriteRun = Callable[..., Path]


def composed(*overrides: str) -> dict[str, Any]:
    """A configuration as a run stores it."""
    return copy.deepcopy(_composed_once(*overrides))


@cache
def _composed_once(*overrides: str) -> dict[str, Any]:
    with initialize_config_module("lightning_seg.conf", version_base="1.3"):
        config = compose("train", [*overrides])
    container = OmegaConf.to_container(config, resolve=True)
    assert isinstance(container, dict)
    return {str(name): value for name, value in container.items()}


@cache
def _written_once(*overrides: str) -> str:
    """As YAML, but for its folder."""
    return as_yaml({name: value for name, value in _composed_once(*overrides).items() if name != "folder"})


@pytest.fixture
def write_run(tmp_path: Path) -> WriteRun:
    """Writes a run below `runs/`: its name, what was chosen on the command line, and its scores."""
    return writing_runs(tmp_path)


def writing_runs(root: Path) -> WriteRun:
    """Writes runs below `root/runs`."""

    def write(
        name: str,
        *overrides: str,
        iou: float | None = 0.5,
        curve: tuple[float, ...] = (0.1, 0.3, 0.5),
        seconds: float = 0.25,
        labels: int = 0,
    ) -> Path:
        folder = root / "runs" / name
        folder.mkdir(parents=True)
        text = _written_once(*overrides) + f"folder: {json.dumps(str(folder))}\n"
        (folder / "config.yaml").write_text(text, encoding="utf-8")
        with (folder / "curves.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["epoch", "step", "learning_rate", "val/iou", "train/loss"])
            writer.writerows([epoch, 10 * (epoch + 1), 0.001, value, 2 - value] for epoch, value in enumerate(curve))
        usage = {
            "seconds_per_step": seconds,
            "peak_memory_bytes": 3_000_000_000,
            "memory": "cuda",
            "parameters": 12_744_134,
        }
        (folder / "resource_usage.json").write_text(json.dumps(usage))
        if iou is None:
            return folder
        by_class = {f"test/iou/{CLASSES[0]}": iou + 0.1, f"test/iou/{CLASSES[1]}": iou - 0.1}
        scores = {"test/iou": iou, "test/dice": iou + 0.2, "test/accuracy": 0.9, **by_class}
        result = {"best": iou - 0.01, "monitor": "val/iou", "class_names": CLASSES, "test": scores}
        (folder / "result.json").write_text(json.dumps(result))
        matrix = {"task": "multiclass", "class_names": CLASSES, "matrix": [[90, 10], [30, 70]]}
        (folder / "confusion.json").write_text(json.dumps(matrix))
        write_samples(folder / "validation.npz", labels)
        (folder / "evaluation").mkdir()
        interval = {"value": iou, "low": iou - 0.02, "high": iou + 0.02}
        summary = {"images": 3, "intervals": {"iou": interval, "dice": interval}, "expected_calibration_error": 0.07}
        (folder / "evaluation/summary.json").write_text(json.dumps(summary))
        (folder / "evaluation/images.csv").write_text("image,iou\r\nworst,0.1\r\nempty,\r\n")
        (folder / "evaluation/calibration.csv").write_text("confidence,accuracy,pixels\r\n0.5,0.4,9\r\n0.9,0.8,7\r\n")
        return folder

    return write


def write_samples(path: Path, label: int) -> None:
    """Two images of 8 x 12 pixels, half of whose target is the first class and half the second, predicted as one."""
    callback = ValidationSamples(path, [[20, 40, 60], [200, 180, 160]], CLASSES, count=2, size=320, ignore_index=255)
    target = torch.zeros(8, 12, dtype=torch.int64)
    target[:, 6:] = 1
    target[0] = 255
    image = torch.linspace(0, 1, 8 * 12 * 3).reshape(3, 8, 12)
    arrays = {}
    for index, name in enumerate(["first", "second"]):
        sample = Prediction(name, image, target, torch.full((8, 12), label))
        arrays |= {f"{part}_{index}": array for part, array in callback._shrunk(sample, 2).items()}
    about = {"names": ["first", "second"], "palette": callback.palette, "class_names": CLASSES, "void": 2}
    np.savez_compressed(path, about=np.array(json.dumps(about)), **arrays)
