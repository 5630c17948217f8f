"""What trains can be loaded: a run is refused before it trains if its checkpoints could not be."""

import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lightning_seg.checkpoint import check_loadable
from lightning_seg.launch.building import build

PACKAGE = """
from functools import partial

from torch import nn


class Net(nn.Sequential):
    @classmethod
    def from_pretrained(cls, name):
        return cls()

    def __init__(self, width=2, weights=None):
        super().__init__(nn.Conv2d(3, 6, 1))
        if weights:
            self.head = nn.Conv2d(6, width, 1)


class LooksAtValues(Net):
    def __init__(self):
        super().__init__()
        self.rate = nn.Parameter(self[0].weight.detach().mean()).item()


def made(width=2):
    return Net(width, weights="brought along")


halved = partial(made, width=1)
short = lambda width=2: Net(width)
"""
MODULE = {
    "_target_": "lightning_seg.SegmentationModule",
    "loss": {"_target_": "lightning_seg.losses.CrossEntropyLoss"},
    "num_classes": 6,
}


@pytest.fixture
def _package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_nets.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_nets", raising=False)


def check(**backbone: Any) -> None:
    config = {"module": {**MODULE, "backbone": backbone}}
    check_loadable(config, build(config["module"]))


@pytest.mark.usefixtures("_package")
@pytest.mark.parametrize("name", ["my_nets.Net", "my_nets.made", "my_nets.LooksAtValues"])
def test_classes_and_functions_of_the_run_can_be_built_again_and_draw_no_random_number(name: str) -> None:
    config = {"module": {**MODULE, "backbone": {"_target_": name}}}
    module = build(config["module"])
    torch.manual_seed(0), random.seed(0), np.random.seed(0)
    expected = torch.rand(1), random.random(), np.random.rand()
    torch.manual_seed(0), random.seed(0), np.random.seed(0)
    check_loadable(config, module)
    assert (torch.rand(1), random.random(), np.random.rand()) == expected


@pytest.mark.usefixtures("_package")
@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        (
            {"_target_": "my_nets.Net.from_pretrained", "name": "x"},
            "backbone._target_=my_nets.Net.from_pretrained builds what no checkpoint can build again: it must be a cl",
        ),
        ({"_target_": "my_nets.halved"}, "backbone._target_=my_nets.halved builds what no checkpoint"),
        ({"_target_": "my_nets.short"}, "backbone._target_=my_nets.short builds what no checkpoint"),
        (
            {"_target_": "torch.nn.Sequential", "_args_": [{"_target_": "torch.nn.Conv2d", "_args_": [3, 6, 1]}]},
            "backbone._args_, which no configuration of lightning_seg has: write this part as a class or function",
        ),
        (
            {"_target_": "my_nets.Net", "weights": "hub"},
            r"the network has weights 2 missing \(backbone.head.bias, ...\). Weights that change the network as",
        ),
    ],
    ids=["class method", "partial", "lambda", "positional", "hidden weights"],
)
def test_what_could_not_be_built_again_is_refused_with_what_to_write(backbone: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check(**backbone)
