import csv
import json
import os
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lightning_seg.report import Job, read_runs
from lightning_seg.report.page import report_page
from lightning_seg.report.runs import find_runs, read_run
from tests.report.conftest import WriteRun


def write_table(path: Path, *rows: tuple[str, str, str]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("run", "status", "error"), *rows])


def test_runs_are_found_at_any_depth_and_once(write_run: WriteRun, tmp_path: Path) -> None:
    first, second = write_run("a"), write_run("deep/er/b")
    assert find_runs([tmp_path, first, tmp_path / "runs" / ".." / "runs"]) == [first, second]


def test_what_lies_in_a_run_or_is_another_programs_is_not_a_run(write_run: WriteRun, tmp_path: Path) -> None:
    run = write_run("a")
    (run / "wandb" / "files").mkdir(parents=True)
    (run / "wandb" / "files" / "config.yaml").write_text((run / "config.yaml").read_text())
    for name, text in {"other": "a: 1", "list": "[1]", "broken": "a: [", "binary": "\0"}.items():
        (tmp_path / "runs" / name).mkdir()
        (tmp_path / "runs" / name / "config.yaml").write_text(text)
    assert find_runs([tmp_path]) == [run]


def test_a_run_is_read_as_it_was_written(write_run: WriteRun) -> None:
    run = read_run(write_run("a", "seed=3", iou=0.6, curve=(0.25, 0.5), labels=1))
    assert (run.status, run.error, run.monitor, run.best) == ("finished", None, "val/iou", pytest.approx(0.59))
    assert run.config["seed"] == 3
    assert run.scores["test/iou"] == 0.6
    assert run.curves["val/iou"] == [0.25, 0.5]
    assert run.curves["step"] == [10, 20]
    assert run.details is not None
    assert run.details["worst"] == [{"image": "worst", "iou": 0.1}, {"image": "empty", "iou": None}]
    assert run.details["calibration"] == [[0.5, 0.4], [0.9, 0.8]]
    assert run.confusion is not None
    assert run.confusion["matrix"] == [[90, 10], [30, 70]]
    assert [sample.name for sample in run.samples] == ["first", "second"]
    assert run.samples[0].labels.tolist() == [[1] * 12] * 8
    assert run.samples[0].target[1].tolist() == [0] * 6 + [1] * 6
    assert set(run.samples[0].target[0].tolist()) == {2}


def test_a_value_that_a_curve_lacks_is_not_a_number(write_run: WriteRun) -> None:
    folder = write_run("a")
    (folder / "curves.csv").write_text("epoch,val/iou\n0,\n1,0.5\n2,nan\n")
    values = read_run(folder).curves["val/iou"]
    assert values[1] == 0.5
    assert [value != value for value in values] == [True, False, True]


def test_a_run_without_scores_is_unfinished_unless_its_sweep_says_more(write_run: WriteRun, tmp_path: Path) -> None:
    for name in ("stopped", "failed", "pruned", "finished"):
        write_run(name, iou=0.5 if name == "finished" else None)
    rows = [("failed", "failed", "no memory"), ("pruned", "pruned", ""), ("finished", "failed", "but was resumed")]
    write_table(tmp_path / "runs" / "sweep.csv", *rows)
    runs, jobs = read_runs([tmp_path])
    ends = {run.folder.name: (run.status, run.error) for run in runs}
    assert ends == {
        "stopped": ("unfinished", None),
        "failed": ("failed", "no memory"),
        "pruned": ("pruned", ""),
        "finished": ("finished", None),
    }
    assert jobs == []


def test_jobs_that_left_no_run_are_told_and_the_newest_table_counts(write_run: WriteRun, tmp_path: Path) -> None:
    run = write_run("kept")
    for age, (name, error) in enumerate([("old", "first error"), ("new", "second error")]):
        table = tmp_path / "runs" / f"{name}.csv"
        table.write_text(f"run,status,loss,seed,val/iou,test/iou,seconds,error\ngone,failed,dice,1,,,,{error}\n")
        os.utime(table, (age, age))
    (tmp_path / "runs" / "other.csv").write_text("a,b\n1,2\n")
    (job,) = read_runs([tmp_path])[1]
    assert job == Job("gone", {"loss": "dice", "seed": "1"}, "failed", "second error")
    assert read_runs([run])[1] == []


def npz(**changes: Any) -> Callable[[Path], None]:
    """The samples of a run, with other arrays."""

    def write(path: Path) -> None:
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
        np.savez_compressed(path, **{**arrays, **changes})

    return write


def about(**changes: Any) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
        content = {**json.loads(str(arrays["about"])), **changes}
        np.savez_compressed(path, **{**arrays, "about": np.array(json.dumps(content))})

    return write


def text(content: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_text(content)

    return write


def replaced_by(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.unlink()
        make(path)

    return write


def lying_header(path: Path) -> None:
    """An array of terabytes by its header, in a file of a few bytes."""
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (4000, 4000, 3000000), }"
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    with zipfile.ZipFile(path) as archive:
        about = archive.read("about.npy")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("about.npy", about)
        archive.writestr("image_0.npy", content)
        archive.writestr("target_0.npy", content)


ALIASES = "a: &a [x]\n" + "\n".join(f"b{n}: [*a, *a]" for n in range(9))
DAMAGES: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "JSON cut short": ("result.json", text('{"best": 0.5'), "cannot be read as JSON"),
    "a deep list": ("result.json", text("[" * 100_000), "cannot be read as JSON"),
    "no scores": ("result.json", text("{}"), "expected numbers as `test`"),
    "scores in words": ("result.json", text('{"test": {"test/iou": "x"}}'), "expected numbers as `test`"),
    "names in numbers": ("result.json", text('{"test": {}, "class_names": [1]}'), "expected names"),
    "a best in words": (
        "result.json",
        text('{"test": {}, "class_names": [], "best": "x"}'),
        "expected a number as `best`",
    ),
    "thousands of scores": (
        "result.json",
        text(json.dumps({"test": {f"test/{index}": 0.5 for index in range(2000)}, "class_names": []})),
        "expected 1000 scores at most",
    ),
    "a pipe of scores": ("result.json", replaced_by(os.mkfifo), "is a named pipe"),
    "a list of costs": ("resource_usage.json", text("[1]"), "holds a list where a mapping is expected"),
    "costs in lists": (
        "resource_usage.json",
        text('{"parameters": []}'),
        "expected a number, or a text, as `parameters`",
    ),
    "a memory in lists": ("resource_usage.json", text('{"memory": []}'), "expected a number, or a text, as `memory`"),
    "curves in words": ("curves.csv", text("epoch,val/iou\n0,much\n"), "is not a table of numbers"),
    "curves with too many cells": ("curves.csv", text("epoch\n0,1\n"), "has 2 cells in row 2 and 1 columns"),
    "a directory of curves": ("curves.csv", replaced_by(os.mkdir), "is a directory"),
    "a link to a device": ("curves.csv", replaced_by(lambda path: path.symlink_to("/dev/zero")), "is a device"),
    "a ragged matrix": (
        "confusion.json",
        text('{"task": "multiclass", "class_names": ["a", "b"], "matrix": [[1], [1, 2]]}'),
        "expected pixel counts of 2 classes",
    ),
    "another matrix": (
        "confusion.json",
        text('{"task": "multiclass", "class_names": ["a", "b"], "matrix": [[1]]}'),
        "expected pixel counts of 2 classes",
    ),
    "a negative matrix": (
        "confusion.json",
        text('{"task": "multiclass", "class_names": ["a"], "matrix": [[-1]]}'),
        "expected pixel counts of 1 classes",
    ),
    "no archive": ("validation.npz", text("PK"), "does not hold validation samples"),
    "a bomb": ("validation.npz", npz(x=np.zeros(2**28, np.uint8)), "unpacked it takes 256 MiB"),
    "a header that lies": ("validation.npz", lying_header, "image_0 is uint8 of shape"),
    "floats": ("validation.npz", npz(image_0=np.zeros((8, 12, 3))), "image_0 is float64"),
    "another size": ("validation.npz", npz(labels_0=np.zeros((2, 2), np.uint8)), "do not fit together"),
    "no pixels": ("validation.npz", npz(image_0=np.zeros((0, 12, 3), np.uint8)), "do not fit together"),
    "a label without a color": ("validation.npz", npz(labels_0=np.full((8, 12), 9, np.uint8)), "label without a color"),
    "a palette in words": ("validation.npz", about(palette="red"), "its palette is malformed"),
    "names in a number": ("validation.npz", about(names=3), "its class names are not text"),
    "more names": ("validation.npz", about(names=["a", "b", "c"]), "no item named 'image_2.npy'"),
    "configuration cut short": ("config.yaml", text("seed: 0\n"), "expected module, data, trainer and seed"),
    "a broken configuration": ("config.yaml", text("a: ["), "cannot be read as YAML"),
    "aliases": ("config.yaml", text(ALIASES), "refers to another part"),
    "a configuration that is a pipe": ("config.yaml", replaced_by(os.mkfifo), "is a named pipe"),
    "thousands of keys": (
        "config.yaml",
        text(
            "{seed: 1, module: {}, data: {}, trainer: {}}\n".replace(
                "data: {}", f"data: {dict.fromkeys(range(6000), 1)}"
            )
        ),
        "expected 5000 values at most",
    ),
    "epochs without end": (
        "config.yaml",
        text("{seed: 1, module: {}, data: {}, trainer: {max_epochs: .inf}}"),
        "expected a number as trainer.max_epochs",
    ),
    "a configuration that is a folder": ("config.yaml", replaced_by(os.mkdir), "is a directory"),
    "a seed in words": (
        "config.yaml",
        text("{seed: [1], module: {}, data: {}, trainer: {}}"),
        "expected an integer as seed",
    ),
    "a trainer in words": ("config.yaml", text("{seed: 1, module: {}, data: {}, trainer: x}"), "expected a mapping"),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_a_damaged_run_is_named_and_left_out_and_the_page_is_made(
    write_run: WriteRun, tmp_path: Path, what: str
) -> None:
    file, damage, message = DAMAGES[what]
    write_run("good")
    bad = write_run("bad", iou=None) if file == "config.yaml" else write_run("bad")
    damage(bad / file)
    runs, jobs = read_runs([tmp_path])
    assert [run.folder.name for run in runs] == ["good"]
    ((name, status, error),) = [(job.name, job.status, job.error) for job in jobs]
    assert (name, status) == ("bad", "damaged")
    assert file in error
    assert re.search(message, error)
    assert "\n" not in error
    assert "bad" in report_page(runs, jobs)
    with pytest.raises(ValueError, match=re.escape(file)):
        read_runs([bad])


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_befalls_the_files_of_a_run_the_others_are_shown(
    write_run: WriteRun, tmp_path: Path, data: st.DataObject
) -> None:
    if not (tmp_path / "runs").exists():
        write_run("good")
        write_run("whole")
    whole, bad = tmp_path / "runs" / "whole", tmp_path / "runs" / "bad"
    shutil.rmtree(bad, ignore_errors=True)
    shutil.copytree(whole, bad)
    files = sorted(path.relative_to(whole).as_posix() for path in whole.rglob("*") if path.is_file())
    path = bad / data.draw(st.sampled_from(files))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(content)))
        content[at : at + data.draw(st.integers(0, 20))] = data.draw(st.binary(max_size=20))
    path.write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]))
    runs, jobs = read_runs([tmp_path / "runs"])
    assert {"good", "whole"} <= {run.folder.name for run in runs}
    assert report_page(runs, jobs)


def test_numbers_without_bound_in_a_table_are_no_numbers_of_the_page(write_run: WriteRun) -> None:
    folder = write_run("a")
    (folder / "evaluation/images.csv").write_text("image,iou\na,inf\nb,nan\nc,0.5\n")
    (folder / "evaluation/calibration.csv").write_text("confidence,accuracy\ninf,nan\n0.5,1e400\n0.5,0.25\n")
    details = read_run(folder).details
    assert details is not None
    assert [one["iou"] for one in details["worst"]] == [None, None, 0.5]
    assert details["calibration"] == [[0.5, 0.25]]


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileNotFoundError, match="missing does not exist"):
        read_runs([tmp_path / "missing"])
    with pytest.raises(FileNotFoundError, match="holds no run"):
        read_runs([tmp_path])
    with pytest.raises(NotADirectoryError, match="is a file"):
        read_runs([tmp_path / "file"])
