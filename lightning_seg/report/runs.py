"""What a run has left in its folder."""

import csv
import json
import math
import os
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from lightning_seg.runs.contents import CONFIG, CONFUSION, CURVES, DIVERGED, RESOURCES, RESULT, SAMPLES

_SCORES = ("train/", "val/", "test/")


@dataclass(frozen=True)
class Sample:
    """A validation image with its target and prediction.

    `image` uint8 `(H, W, 3)`; `target` and `labels` `(H, W)`, values that index `palette`, or in the target `void`.
    """

    name: str
    image: npt.NDArray[np.uint8]
    target: npt.NDArray[np.integer[Any]]
    labels: npt.NDArray[np.integer[Any]]
    palette: list[list[int]]
    class_names: list[str]
    void: int


@dataclass(frozen=True)
class Run:
    """A run as its folder describes it; what it has not written is empty or None.

    Args:
        folder: where it is.
        config: its configuration, nested.
        status: `finished` has scores of the test split; `failed` and `pruned` say the tables of sweeps; `diverged` a
            mark in its folder; `unfinished` is all else: still running, or stopped.
        error: what it failed with.
        scores: by logged name, `test/iou` and so on, in [0, 1]; NaN where a class does not occur.
        class_names: one for each class.
        monitor: the name of the score that chose the best epoch, and `best`, its value.
        curves: each column of the curves over the rows of the file, NaN where a row has no value.
        usage: see `lightning_seg.callbacks.ResourceUsage`.
        confusion: see `lightning_seg.callbacks.ConfusionCounts`.
        samples: see `lightning_seg.callbacks.ValidationSamples`.
    """

    folder: Path
    config: dict[str, Any]
    status: Literal["finished", "failed", "pruned", "diverged", "unfinished"]
    error: str | None = None
    scores: dict[str, float] = field(default_factory=dict)
    class_names: list[str] = field(default_factory=list)
    monitor: str | None = None
    best: float | None = None
    curves: dict[str, list[float]] = field(default_factory=dict)
    usage: dict[str, Any] = field(default_factory=dict)
    confusion: dict[str, Any] | None = None
    samples: list[Sample] = field(default_factory=list)


@dataclass(frozen=True)
class Job:
    """How a job of a sweep ended, according to the sweep's table.

    Args:
        name: of its run.
        choices: what it had of the swept parameters.
        status: how it ended.
        error: empty if it has none.
    """

    name: str
    choices: dict[str, str]
    status: str
    error: str


def read_runs(folders: Iterable[str | Path]) -> tuple[list[Run], list[Job]]:
    """All runs that are given or lie, at any depth, in what is given, and the jobs of their sweeps that left no run.

    Raises:
        FileNotFoundError: a folder does not exist, or holds no run.
        NotADirectoryError: one of them is a file.
        ValueError: a file of a run is not what a run writes.
    """
    given = [Path(folder).expanduser() for folder in folders]
    found = find_runs(given)
    ends = {parent: _job_ends(parent) for parent in dict.fromkeys(folder.parent for folder in found)}
    runs = [read_run(folder, ends[folder.parent].get(folder.name)) for folder in found]
    roots = [folder.resolve() for folder in given]
    jobs = [
        job
        for parent, jobs_there in ends.items()
        if any(parent.is_relative_to(root) for root in roots)
        for name, job in jobs_there.items()
        if not (parent / name).is_dir()
    ]
    return runs, jobs


def find_runs(folders: Iterable[Path]) -> list[Path]:
    """The folders of the runs, each once, sorted.

    Raises:
        FileNotFoundError: a folder does not exist, or holds no run.
        NotADirectoryError: one of them is a file.
    """
    found: dict[Path, None] = {}
    for folder in folders:
        if not folder.exists():
            raise FileNotFoundError(f"{folder} does not exist: give the folder of a run, or one that holds runs.")
        if not folder.is_dir():
            raise NotADirectoryError(f"{folder} is a file: give the folder of a run, or one that holds runs.")
        within = _runs_within(folder.resolve())
        if not within:
            raise FileNotFoundError(
                f"{folder} holds no run: a run's folder has a {CONFIG} that lightning-seg-train wrote."
            )
        found |= dict.fromkeys(within)
    return sorted(found)


def read_run(folder: Path, job: Job | None = None) -> Run:
    """Reads the folder of a run.

    Args:
        folder: where it is.
        job: what the table of its sweep says.

    Raises:
        ValueError: a file in it is not what a run writes.
    """
    result = _json(folder / RESULT) or {}
    diverged = _json(folder / DIVERGED)
    if diverged is not None:
        job = Job(folder.name, {}, "diverged", str(diverged.get("reason", "")))
    ended = job if not result and job and job.status in ("failed", "pruned", "diverged") else None
    return Run(
        folder=folder,
        config=_config(folder / CONFIG),
        status="finished" if result else ended.status if ended else "unfinished",  # type: ignore[arg-type]
        error=ended.error if ended else None,
        scores={name: math.nan if value is None else float(value) for name, value in result.get("test", {}).items()},
        class_names=result.get("class_names", []),
        monitor=result.get("monitor"),
        best=result.get("best"),
        curves=_curves(folder / CURVES),
        usage=_json(folder / RESOURCES) or _json(folder / "costs.json") or {},  # the latter of 0.1.0
        confusion=_json(folder / CONFUSION),
        samples=_samples(folder / SAMPLES),
    )


def _job_ends(parent: Path) -> dict[str, Job]:
    """What the tables of sweeps in a folder say of each job, the newest table last."""
    jobs: dict[str, Job] = {}
    for path in sorted(parent.glob("*.csv"), key=lambda path: path.stat().st_mtime_ns):
        with path.open(newline="", encoding="utf-8", errors="replace") as file:
            reader = csv.DictReader(file)
            if {"run", "status", "error"} <= set(reader.fieldnames or ()):
                jobs |= {row["run"]: _job(row) for row in reader}
    return jobs


def _job(row: dict[str, str]) -> Job:
    results = ("run", "status", "seconds", "error")
    choices = {name: value for name, value in row.items() if name not in results and not name.startswith(_SCORES)}
    return Job(row["run"], choices, row["status"], row["error"] or "")


def _runs_within(folder: Path) -> list[Path]:
    found = []
    for parent, children, files in os.walk(folder):
        if CONFIG in files and _is_run(Path(parent)):
            found.append(Path(parent))
            children.clear()  # what a run's logger keeps below it may have a config.yaml too
    return found


def _is_run(folder: Path) -> bool:
    try:
        return {"module", "data", "trainer", "seed"} <= _config(folder / CONFIG).keys()
    except ValueError:
        return False


def _config(path: Path) -> dict[str, Any]:
    try:
        config = OmegaConf.to_container(OmegaConf.load(path))
    except (YAMLError, OmegaConfBaseException, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path} is not a configuration: expected a mapping.")
    return {str(name): value for name, value in config.items()}


def _json(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} cannot be read as JSON ({error}): remove it, or the run.") from error
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__} where a mapping is expected: remove it, or the run.")
    return dict(content)


def _curves(path: Path) -> dict[str, list[float]]:
    if not path.is_file():
        return {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            names = list(reader.fieldnames or [])
            rows = [[float(row[name]) if row[name] else math.nan for name in names] for row in reader]
    except (ValueError, TypeError, csv.Error) as error:
        raise ValueError(f"{path} is not a table of numbers ({error}): remove it, or the run.") from error
    return {name: [row[column] for row in rows] for column, name in enumerate(names)}


def _samples(path: Path) -> list[Sample]:
    if not path.is_file():
        return []
    try:
        with np.load(path, allow_pickle=False) as file:
            about = json.loads(str(file["about"]))
            return [
                Sample(
                    name,
                    file[f"image_{index}"],
                    file[f"target_{index}" if f"target_{index}" in file else f"truth_{index}"],  # of 0.1.0
                    file[f"labels_{index}"],
                    about["palette"],
                    about["class_names"],
                    about["void"],
                )
                for index, name in enumerate(about["names"])
            ]
    except (ValueError, KeyError, zipfile.BadZipFile, EOFError) as error:
        raise ValueError(f"{path} holds no validation samples ({error}): remove it, or the run.") from error
