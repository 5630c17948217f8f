"""Names in any script, where the locale knows ASCII alone."""

import codecs
import csv
import io
import locale
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.console import SHORT, Run


@pytest.fixture
def ascii_alone() -> Iterator[None]:
    """The locale `C` without Python's UTF-8 mode, in which files and the terminal take ASCII unless told otherwise."""
    if sys.flags.utf8_mode:
        pytest.skip("in Python's UTF-8 mode no locale is asked")
    before = locale.setlocale(locale.LC_ALL)
    locale.setlocale(locale.LC_ALL, "C")
    try:
        with open(os.devnull) as file:
            assert codecs.lookup(file.encoding).name == "ascii"
        yield
    finally:
        locale.setlocale(locale.LC_ALL, before)


@pytest.mark.usefixtures("ascii_alone")
def test_class_names_of_any_script_are_written_and_printed(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "mine/experiment").mkdir(parents=True)
    names = "# @package _global_\ndata: {class_names: [Himmel, Straße, 木]}\n"
    (folder / "mine/experiment/names.yaml").write_text(names, encoding="utf-8")
    data = ["data=folder", "data.root=my_images", "data.num_classes=3", "data.ignore_index=255", "data.batch_size=2"]
    data += ["~backbone", "+backbone={_target_:torch.nn.Conv2d,in_channels:3,out_channels:3,kernel_size:1}"]
    data += ["data.num_workers=0"]
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", terminal)
    run("lightning-seg-train", "--config-dir", "mine", "experiment=names", *data, *SHORT, "run=one")
    terminal.seek(0)
    assert r"Stra\xdfe" in terminal.read()
    with (folder / "runs/one/test.csv").open(encoding="utf-8") as file:
        assert [row["class"] for row in csv.DictReader(file)] == ["Himmel", "Straße", "木", "mean"]
