"""Names in any script, where the locale knows ASCII alone."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.console import SHORT

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.slow
def test_class_names_of_any_script_are_written_and_printed(folder: Path) -> None:
    (folder / "mine/experiment").mkdir(parents=True)
    names = "# @package _global_\ndata: {class_names: [Himmel, Straße, 木]}\n"
    (folder / "mine/experiment/names.yaml").write_text(names, encoding="utf-8")
    data = ["data=folder", "data.root=my_images", "data.num_classes=3", "data.ignore_index=255", "data.batch_size=2"]
    data += ["~backbone", "+backbone={_target_:torch.nn.Conv2d,in_channels:3,out_channels:3,kernel_size:1}"]
    command = [sys.executable, "-m", "lightning_seg.commands.train", "--config-dir", "mine", "experiment=names"]
    done = subprocess.run(
        [*command, *data, *SHORT, "run=one"], env=os.environ | ASCII, capture_output=True, encoding="ascii"
    )
    assert done.returncode == 0, done.stderr
    assert r"Stra\xdfe" in done.stdout
    with (folder / "runs/one/test.csv").open(encoding="utf-8") as file:
        assert [row["class"] for row in csv.DictReader(file)] == ["Himmel", "Straße", "木", "mean"]
