"""A data module of one's own, which knows nothing of ours, goes through the commands."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.console import SHORT, Run

DATA = """
import lightning
import torch
from torch.utils.data import DataLoader


class Squares(lightning.LightningDataModule):
    def __init__(self, count):
        super().__init__()
        masks = torch.randint(0, 2, (count, 32, 32), generator=torch.Generator().manual_seed(0))
        self.rows = [(mask.float().expand(3, 32, 32).clone(), mask) for mask in masks]

    def train_dataloader(self):
        return DataLoader(self.rows, batch_size=2)

    val_dataloader = test_dataloader = train_dataloader


class NamedSquares(Squares):
    class_names = ("ground", "square")
    palette = ((1, 2, 3), (200, 100, 0))


class Untested(lightning.LightningDataModule):
    train_dataloader = val_dataloader = Squares.train_dataloader
"""
OWN = ["--config-dir", "mine", "data=own", *SHORT, "run=one"]
TRAIN = ("lightning-seg-train", *OWN, "module.num_classes=2")


@pytest.fixture
def own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a package, found there because the command is called there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "own_data", raising=False)
    (tmp_path / "own_data").mkdir()
    (tmp_path / "own_data/__init__.py").write_text(DATA)
    (tmp_path / "mine/data").mkdir(parents=True)
    (tmp_path / "mine/data/own.yaml").write_text("_target_: own_data.NamedSquares\ncount: 4\n")
    return tmp_path


@pytest.mark.slow
def test_it_is_trained_on_tested_drawn_evaluated_and_predicted_with_its_names_and_colors(
    run: Run, own_data: Path
) -> None:
    assert "square" in run(*TRAIN)
    result = json.loads((own_data / "runs/one/result.json").read_text(encoding="utf-8"))
    assert result["class_names"] == ["ground", "square"]
    assert json.loads((own_data / "runs/one/confusion.json").read_text())["class_names"] == ["ground", "square"]
    about = json.loads(str(np.load(own_data / "runs/one/validation.npz")["about"]))
    assert about["palette"] == [[1, 2, 3], [200, 100, 0]]
    assert (own_data / "runs/one/predictions.png").is_file()

    sys.path.remove(str(own_data))
    del sys.modules["own_data"]
    checkpoint = "checkpoint=runs/one/checkpoints/best.ckpt"
    assert "square" in run("lightning-seg-evaluate", checkpoint, "trusted=[own_data]")
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save("photo.png")
    run("lightning-seg-predict", checkpoint, "input=photo.png", "output=masks")
    palette = Image.open("masks/photo.png").getpalette()
    assert palette is not None
    assert palette[:6] == [1, 2, 3, 200, 100, 0]


@pytest.mark.slow
def test_one_without_names_colors_or_class_weights_is_trained_on_and_what_a_callback_was_given_stays(
    run: Run, own_data: Path
) -> None:
    given = ["callbacks.pictures.class_names=[a,b]", "callbacks.confusion.class_names=['0','2']"]
    colors = "callbacks.validation.palette=[[9,9,9],[8,8,8]]"
    run(*TRAIN, "data._target_=own_data.Squares", *given, colors)
    assert json.loads((own_data / "runs/one/confusion.json").read_text())["class_names"] == ["0", "2"]
    about = json.loads(str(np.load(own_data / "runs/one/validation.npz")["about"]))
    assert (about["class_names"], about["palette"]) == (["0", "1"], [[9, 9, 9], [8, 8, 8]])
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save("photo.png")
    run("lightning-seg-predict", "checkpoint=runs/one/checkpoints/best.ckpt", "input=photo.png", "output=masks")
    assert Path("masks/photo.png").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (OWN, "module.num_classes is not known, since this data configuration has no num_classes: give module.num"),
        ([*TRAIN[1:], "class_weights=median_frequency"], "needs a method class_weights, which NamedSquares does not"),
        ([*TRAIN[1:], "data._target_=own_data.Untested", "~data.count"], "the data module Untested has no test_datal"),
        (
            [*TRAIN[1:], "data._target_=collections.Counter"],
            "data builds a Counter, not a LightningDataModule",
        ),
        ([*TRAIN[1:], "callbacks.pictures.palette=[[1,1,1]]"], "the palette has 1 colors for 2 mask values"),
    ],
)
def test_what_must_be_given_is_said_in_one_line_before_anything_is_trained(
    fails: Run, own_data: Path, arguments: list[str], message: str
) -> None:
    assert message in fails("lightning-seg-train", *arguments)
    assert not os.path.exists("runs/one")
