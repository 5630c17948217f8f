"""A data module of one's own, which knows nothing of ours, goes through the command."""

import json
import sys
from pathlib import Path

import pytest

from tests.console import SHORT, Run

DATA = """
import lightning
import torch
from torch.utils.data import DataLoader


class Squares(lightning.LightningDataModule):
    def __init__(self, num_classes, ignore_index, class_names, palette, mean, std):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        masks = torch.randint(0, 2, (4, 32, 32), generator=generator)
        self.rows = [{"image": mask.float().expand(3, 32, 32), "mask": mask} for mask in masks]

    def train_dataloader(self):
        return DataLoader(self.rows, batch_size=2)

    val_dataloader = test_dataloader = train_dataloader
"""
CONFIG = """
_target_: own_data.Squares
num_classes: 2
ignore_index: null
class_names: [ground, square]
palette: [[0, 0, 0], [255, 255, 255]]
mean: [0.5, 0.5, 0.5]
std: [0.5, 0.5, 0.5]
"""


@pytest.fixture
def own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_data.py").write_text(DATA)
    (tmp_path / "mine/data").mkdir(parents=True)
    (tmp_path / "mine/data/own.yaml").write_text(CONFIG)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_data", raising=False)
    return tmp_path


def test_it_is_trained_on_tested_and_drawn(run: Run, own_data: Path) -> None:
    printed = run("lightning-seg-train", "--config-dir", "mine", "data=own", "augment=none", *SHORT, "run=one")
    assert "square" in printed
    result = json.loads((own_data / "runs/one/result.json").read_text(encoding="utf-8"))
    assert result["class_names"] == ["ground", "square"]
    assert (own_data / "runs/one/predictions.png").is_file()
    checkpoint = "checkpoint=runs/one/checkpoints/best.ckpt"
    assert "square" in run("lightning-seg-evaluate", checkpoint, "trusted=[own_data]")


def test_what_a_callback_was_given_on_its_own_stays(run: Run, own_data: Path) -> None:
    names = "callbacks.confusion.class_names=[a,b]"
    run("lightning-seg-train", "--config-dir", "mine", "data=own", "augment=none", *SHORT, "run=one", names)
    content = json.loads((own_data / "runs/one/confusion.json").read_text(encoding="utf-8"))
    assert content["class_names"] == ["a", "b"]
