"""A module of one's own that logs other scores goes through all commands."""

import csv
import json
import sys
from pathlib import Path

import pytest

from tests.console import SCORES_ONLY, SHORT, SMALL, Run

MODULE = """
from torchmetrics import MetricCollection

from lightning_seg import SegmentationModule
from lightning_seg.metrics import PixelAccuracy


class AccuracyAlone(SegmentationModule):
    def build_metrics(self):
        spec = {"task": self.task, "num_classes": self.num_classes, "ignore_index": self.ignore_index}
        return MetricCollection({"right": PixelAccuracy(**spec)})
"""
OWN = ["module._target_=own_module.AccuracyAlone", "monitor=val/right"]


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_module.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_module", raising=False)
    return tmp_path


@pytest.mark.slow
def test_other_metrics_are_in_every_table(run: Run, own_module: Path) -> None:
    printed = run("lightning-seg-train", *SMALL, *SHORT, *OWN, "run=own")
    right = json.loads((own_module / "runs/own/result.json").read_text(encoding="utf-8"))["test"]["test/right"]
    assert f"right {right:.4f}" in printed
    row, *others = csv.DictReader((own_module / "runs/own/test.csv").open(encoding="utf-8"))
    assert (row["class"], float(row["right"]), others) == ("mean", right, [])

    printed = run("lightning-seg-train", "-m", *SMALL, *SHORT, *SCORES_ONLY, *OWN, "run=sweep", "seed=0,1")
    rows = list(csv.DictReader((own_module / "runs/sweep.csv").open(encoding="utf-8")))
    assert [row["status"] for row in rows] == ["finished", "finished"]
    assert float(rows[0]["test/right"]) == right
    assert "test/iou" not in rows[0]

    run("lightning-seg-report", "runs", "--output", "report.html")
    page = (own_module / "report.html").read_text(encoding="utf-8")
    assert '"name": "right"' in page or '"name":"right"' in page

    printed = run("lightning-seg-evaluate", "checkpoint=runs/own/checkpoints/best.ckpt", "trusted=[own_module]")
    assert f"right {right:.4f}" in printed
