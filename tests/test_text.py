import ast
import logging
import os
import re
from pathlib import Path

import pytest
import torch
from rich.table import Table

import lightning_seg
from lightning_seg.inference.pictures import prediction_picture
from lightning_seg.runs.scores import print_scores
from lightning_seg.sweeps.jobs import Job
from lightning_seg.sweeps.table import show_jobs
from lightning_seg.text import number_of, print_table, printable, say, say_lines, text_logger

NAMES = {
    "road [asphalt]": "road [asphalt]",
    "[/x]": "[/x]",
    "[bold red]": "[bold red]",
    ":smile:": ":smile:",
    "straße 道路": "straße 道路",
    "a\nlightning-seg-train: done": "a\\nlightning-seg-train: done",
    "\x1b[2Jgone": "\\x1b[2Jgone",
    "\x1b]0;title\x07": "\\x1b]0;title\\x07",
    "\x9b31m": "\\x9b31m",
    "a\rb\tc\x08": "a\\rb\\tc\\x08",
    "\u202egnp.exe": "\\u202egnp.exe",
    "line\u2028end": "line\\u2028end",
    "caf\udce9": "caf\\udce9",  # the byte 0xe9 of a name that is no UTF-8
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_printed_as_text_on_one_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert printable(name) == NAMES[name]
    say(name)
    say(name, error=True)
    captured = capsys.readouterr()
    assert captured.out == captured.err == f"{NAMES[name]}\n"


@pytest.mark.parametrize("name", NAMES)
def test_a_table_of_scores_shows_the_name_of_a_class_as_it_is(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    scores = {"test/iou": 0.5, f"test/iou/{name}": 0.25}
    print_scores(scores, "test", [name])
    printed = capsys.readouterr().out
    assert f"{NAMES[name]} " in printed
    assert all(character.isprintable() for line in printed.splitlines() for character in line)


@pytest.mark.parametrize("columns", ["40", "80", None])
def test_a_table_loses_no_character_however_narrow_the_terminal(
    columns: str | None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if columns is None:
        monkeypatch.delenv("COLUMNS", raising=False)
    else:
        monkeypatch.setenv("COLUMNS", columns)
        monkeypatch.setenv("FORCE_COLOR", "1")  # as in a terminal
    numbers = [f"{number}.123456" for number in range(6)]
    table = Table("class", *numbers)
    table.add_row("a_class_with_a_long_name", *numbers)
    print_table(table)
    lines = re.sub("\x1b\\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert (max(map(len, lines)) <= int(columns)) if columns else len(lines) == 5
    row = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]
    assert ["".join(cells) for cells in zip(*row, strict=True)] == ["a_class_with_a_long_name", *numbers]


@pytest.mark.parametrize("name", NAMES)
def test_the_table_of_a_sweep_shows_choices_and_errors_as_they_are(
    name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    job = Job(tmp_path / "job", ["a=1"], {name: name})
    job.status, job.error = "failed", f"no {name}"
    show_jobs([job], "val/iou", tmp_path / "sweep")
    printed = capsys.readouterr().out
    assert printed.count(NAMES[name]) == 3
    assert all(character.isprintable() for line in printed.splitlines() for character in line)


def test_a_log_shows_names_as_text(caplog: pytest.LogCaptureFixture) -> None:
    log = text_logger("tests.names")
    with caplog.at_level(logging.INFO, "tests.names"):
        log.info("%s is in %d masks", "\x1b[31mroad\n", 3)
    assert caplog.messages == ["\\x1b[31mroad\\n is in 3 masks"]


def test_the_lines_of_a_traceback_stay_lines(capsys: pytest.CaptureFixture[str]) -> None:
    say_lines("Traceback\n  File \x1b[1m\n")
    assert capsys.readouterr().out == "Traceback\n  File \\x1b[1m\n"


def test_a_picture_has_a_legend_of_any_names() -> None:
    labels = torch.zeros(4, 4, dtype=torch.int64)
    names = [f"{name}{index}" for index, name in enumerate(NAMES)]
    palette = [(index, 0, 0) for index in range(len(names))]
    assert prediction_picture([torch.zeros(3, 4, 4)], [labels], [labels], palette, names).size[0] > 0


def test_nothing_is_printed_or_logged_by_other_means() -> None:
    """So that no name reaches a terminal unseen: whoever prints uses `lightning_seg.text`."""
    package = Path(lightning_seg.__file__).parent
    others = {"print", "Console", "getLogger", "input", "print_exception", "print_exc"}
    for path in sorted(package.rglob("*.py")):
        if path == package / "text.py":
            continue
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        silenced = [node.value for node in nodes if isinstance(node, ast.Attribute) and node.attr == "setLevel"]
        for node in nodes:
            if isinstance(node, ast.Call) and node not in silenced:
                name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
                receiver = isinstance(node.func, ast.Attribute) and "console" in ast.unparse(node.func)
                assert name not in others or receiver, f"{path}:{node.lineno} calls {name}"


@pytest.mark.parametrize(("number", "said"), [(0, "0 images"), (1, "1 image"), (2, "2 images"), (1200, "1,200 images")])
def test_a_number_of_things_is_said_with_its_plural(number: int, said: str) -> None:
    assert number_of(number, "image") == said


def test_a_command_goes_on_where_nobody_reads_its_output_any_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table("a")
    table.add_row("1")
    for printed in (lambda: say("a line"), lambda: print_table(table)):
        reader, writer = os.pipe()
        os.close(reader)
        with os.fdopen(writer, "w", encoding="utf-8") as stream:
            monkeypatch.setattr("sys.stdout", stream)
            printed()
            printed()
