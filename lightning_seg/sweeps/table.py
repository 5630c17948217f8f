"""The table that ends a sweep, on the screen and as a CSV file."""

import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from rich.table import Table

from lightning_seg.csv_files import read_csv, write_csv
from lightning_seg.runs.contents import read_result
from lightning_seg.runs.scores import is_share, overall_names, score_title
from lightning_seg.sweeps.jobs import Job
from lightning_seg.text import print_table, printable, say

_FIRST = ["run", "status"]
_STYLES = {"failed": "red", "diverged": "red", "unfinished": "yellow", "pruned": "dim", "finished before": "dim"}


def show_jobs(jobs: Sequence[Job], monitor: str, sweep: Path) -> None:
    """Prints one row a job, and writes the same to `<sweep>.csv`.

    Scores are those that the runs have kept. A file of another origin is left alone, and a number is added to the name.

    Args:
        jobs: in the order of the rows.
        monitor: what the best epoch of a run is chosen by.
        sweep: the folder of all runs and the sweep's name.
    """
    choices = list(dict.fromkeys(key for job in jobs for key in job.choices))
    results = [read_result(job.folder) for job in jobs]
    tests = dict.fromkeys(name for result in results if result for name in _test_scores(result))
    monitors = dict.fromkeys(result.get("monitor", monitor) for result in results if result) or [monitor]
    columns = [*dict.fromkeys([*_FIRST, *choices, *monitors, *tests]), "seconds", "error"]
    rows = [_row(job, result, monitor) for job, result in zip(jobs, results, strict=True)]
    path = _own(sweep)
    write_csv(path, [columns, *([row.get(column, "") for column in columns] for row in rows)])
    _print(rows, [name for name in columns if name != "run"], sweep.name)
    say(f"the runs are in {sweep.parent}, this table is {path}")


def _row(job: Job, result: Mapping[str, Any] | None, monitor: str) -> dict[str, Any]:
    scores = {}
    if result is not None:
        best = {result.get("monitor", monitor): result["best"]}
        scores = {**_test_scores(result), **best, "seconds": result.get("seconds", "")}
    return {"run": job.folder.name, "status": job.status, **job.choices, **scores, "error": job.error}


def _test_scores(result: Mapping[str, Any]) -> dict[str, float]:
    """What was logged of all classes together, by logged name, but for the loss."""
    names = [f"test/{name}" for name in overall_names(result["test"], "test") if name != "loss"]
    return {name: result["test"][name] for name in names}


def _print(rows: Sequence[dict[str, Any]], columns: Sequence[str], name: str) -> None:
    table = Table(title=printable(name))
    shown = [column for column in columns if any(row.get(column, "") != "" for row in rows)]
    for column in shown:
        scores = column == "seconds" or column.split("/")[0] in ("val", "test")
        title = score_title(column) if scores else printable(column)
        table.add_column(title, justify="right" if scores else "left", no_wrap=column == "status")
    for row in rows:
        table.add_row(
            *(printable(_text(column, row.get(column, _missing(column, row)))) for column in shown),
            style=_STYLES.get(row["status"]),
        )
    print_table(table)


def _missing(column: str, row: Mapping[str, Any]) -> str:
    """A dash for a score that another finished run has."""
    return "–" if "finished" in row["status"] and column.startswith("test/") else ""


def _text(column: str, value: Any) -> str:
    if not isinstance(value, float):
        return f"{float(value):.4g}" if re.fullmatch(r"\d+\.\d{4,}(e-?\d+)?", str(value)) else str(value)
    if math.isnan(value):
        return "–"
    if column == "seconds":
        return f"{value:.1f}"
    return f"{100 * value:.2f}" if is_share(column) else f"{value:.4f}"


def _own(sweep: Path) -> Path:
    """The sweep's file: one that is not there yet, or that a sweep has written."""
    for number in count(1):
        path = sweep.with_name(f"{sweep.name}.csv" if number == 1 else f"{sweep.name}-{number}.csv")
        if not path.exists():
            return path
        with suppress(OSError, ValueError):  # a file of another origin
            if read_csv(path)[0][: len(_FIRST)] == _FIRST:
                return path
    raise AssertionError
