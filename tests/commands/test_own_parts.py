"""Parts of one's own, of a package in the current folder, are chosen by name and go through the commands."""

import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from lightning_seg import load_module
from tests.console import SHORT, SMALL, Run

PACKAGE = """
import torch
from lightning.pytorch import Callback
from lightning.pytorch.loggers import CSVLogger
from torch import nn
from torchvision.transforms import v2

from lightning_seg.data import ShapesDataModule


class Net(nn.Sequential):
    def __init__(self, widths: list[int], options: dict[str, int]):
        assert type(widths) is list and type(options) is dict  # as libraries check for
        super().__init__(nn.Conv2d(3, widths[0], 1), nn.ReLU(), nn.Conv2d(widths[0], options["classes"], 1))


class Squared(nn.Module):
    def __init__(self, void):
        super().__init__()
        self.void = void

    def forward(self, logits, target):
        one_hot = nn.functional.one_hot(target.clamp(max=5), 6).movedim(-1, 1)
        return (logits.softmax(1) - one_hot).square().sum(1)[target != self.void].mean()


class Data(ShapesDataModule):
    pass


class Flip(v2.RandomHorizontalFlip):
    pass


class Optimizer(torch.optim.SGD):
    pass


def schedule(optimizer, steps, floor):
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(floor, 1 - step / steps))


class Log(CSVLogger):
    pass


class Said(Callback):
    def __init__(self, word):
        self.word = word

    def on_fit_start(self, trainer, pl_module):
        parts = [trainer.datamodule, trainer.datamodule.augment, trainer.optimizers[0], trainer.logger]
        print(self.word, *(type(part).__name__ for part in parts))
"""
PARTS = [
    *("backbone=custom", "backbone._target_=my_package.Net", "backbone.widths=[4]"),
    *("backbone.options.classes=6", "loss=custom", "loss._target_=my_package.Squared", "loss.void=255"),
    *("data=custom", "data._target_=my_package.Data", "data.num_train=4", "data.num_val=2", "data.num_test=2"),
    *("data.image_size=32", "data.batch_size=2", "data.seed=0", "data.ignore_index=255", "data.num_classes=6"),
    *("data.augment=${augment}", "augment=custom", "augment._target_=my_package.Flip", "augment.p=1.0"),
    *("optimizer=custom", "optimizer._target_=my_package.Optimizer", "optimizer.lr=0.1"),
    *("scheduler=custom", "scheduler._target_=my_package.schedule", "scheduler.floor=0.5"),
    *("logger=custom", "logger._target_=my_package.Log", "logger.save_dir=logs"),
    *("callbacks=[default,custom]", "callbacks.custom._target_=my_package.Said", "callbacks.custom.word=hello"),
]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "my_package", raising=False)
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package/__init__.py").write_text(PACKAGE)
    return tmp_path


@pytest.mark.slow
def test_every_part_of_a_training_may_be_ones_own_and_is_stored(run: Run, package: Path) -> None:
    printed = run("lightning-seg-train", *SHORT, *PARTS, "run=one")
    assert "hello Data Flip Optimizer Log" in printed
    module = load_module(package / "runs/one/checkpoints/best.ckpt", trusted=["my_package"])
    assert [layer.weight.shape[0] for layer in module.backbone if hasattr(layer, "weight")] == [4, 6]
    assert type(module.loss).__name__ == "Squared"


def test_a_folder_of_ones_own_has_files_to_choose_from(run: Run, package: Path) -> None:
    (package / "mine/backbone").mkdir(parents=True)
    file = {"defaults": ["/any_keys@_here_", "_self_"], "_target_": "my_package.Net", "options": {"classes": 6}}
    OmegaConf.save(OmegaConf.create(file), package / "mine/backbone/net.yaml")
    for way in (["--config-dir", "mine"], [f"hydra.searchpath=[file://{package}/mine]"]):
        printed = run("lightning-seg-train", *way, *SMALL, "backbone=net", "backbone.widths=[8]", "--cfg", "job")
        assert OmegaConf.create(printed).backbone == {
            "_target_": "my_package.Net",
            "options": {"classes": 6},
            "widths": [8],
        }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["backbone=custom"], "backbone._target_ must be given: backbone._target_=VALUE."),
        (
            ["backbone=custom", "backbone._target_=my_package.Net"],
            "backbone: Net needs widths and options: backbone.widths=VALUE backbone.options=VALUE.",
        ),
        (
            ["loss=custom", "loss._target_=my_package.Squared", "loss.viod=255"],
            "Squared takes no viod: did you mean loss.void?",
        ),
        (
            ["backbone._target_=my_package.Net"],
            "start without one: backbone=custom backbone._target_=my_package.Net, or from a file of yours",
        ),
        (["loss=custom", "loss._target_=torch.nn.CrossEntropyLoss"], "loss.ignore_index=255"),
    ],
)
def test_what_does_not_fit_a_part_is_named_with_what_to_write(
    fails: Run, package: Path, words: list[str], line: str
) -> None:
    assert line in fails("lightning-seg-train", *SMALL, *SHORT, *words)


@pytest.mark.slow
def test_processes_train_parts_of_ones_own_together_and_go_on_with_one_that_is_not_trained(
    run: Run, package: Path
) -> None:
    (package / "my_package/idle.py").write_text(
        "from torch import nn\nfrom my_package import Net\n\n\n"
        "class Idle(Net):\n    def __init__(self, widths, options):\n        super().__init__(widths, options)\n"
        "        self.idle = None\n        self.unused = nn.Linear(2, 2)\n\n"
        "    def forward(self, image):\n        return self[2](self[1](self[0](image)))\n"
    )
    own = [*PARTS, "backbone._target_=my_package.idle.Idle", "run=one", "test=false", "callbacks.pictures=null"]
    run("lightning-seg-train", *SHORT, *own, "trainer=ddp_sim", "data.num_train=12")  # three steps each
    assert (package / "runs/one/checkpoints/best.ckpt").is_file()
