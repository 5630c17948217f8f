import csv
import os
from pathlib import Path

import pytest

from lightning_seg.report import Job, read_runs
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


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("result.json", '{"best": 0.5', "cannot be read as JSON"),
        ("resource_usage.json", "[1]", "holds a list where a mapping is expected"),
        ("curves.csv", "epoch,val/iou\n0,much\n", "is not a table of numbers"),
        ("validation.npz", "PK", "holds no validation samples"),
    ],
)
def test_a_damaged_file_is_named(write_run: WriteRun, file: str, text: str, message: str) -> None:
    folder = write_run("a")
    (folder / file).write_text(text)
    with pytest.raises(ValueError, match=f"{file} {message}"):
        read_run(folder)


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileNotFoundError, match="missing does not exist"):
        read_runs([tmp_path / "missing"])
    with pytest.raises(FileNotFoundError, match="holds no run"):
        read_runs([tmp_path])
    with pytest.raises(NotADirectoryError, match="is a file"):
        read_runs([tmp_path / "file"])
