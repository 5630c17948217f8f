"""What a run has left in its folder."""

import json
import math
import os
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from lightning_seg.csv_files import read_csv
from lightning_seg.reading import in_words, open_regular, read_json, read_yaml
from lightning_seg.runs.contents import CONFIG, CONFUSION, CURVES, DIVERGED, INTERVALS, RESOURCES, RESULT, SAMPLES
from lightning_seg.runs.identity import flattened
from lightning_seg.runs.kept import ENVIRONMENT, is_written
from lightning_seg.runs.scores import is_plain_number, overall_names, read_summary
from lightning_seg.text import is_number

# Of the samples of one run, unpacked, and the sides of one; a run has six images of 320 pixels.
_MOST_BYTES = 2**27
_MOST_PIXELS = 4096
_WORST = 5  # images that the page names
_MOST_BINS = 100  # of the reliability diagram
_MOST_VALUES = 5000  # of a configuration, which has 300
_MOST_SCORES = 1000  # of all classes together, which are ten
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
        details: the summary of the test image by image, see `lightning_seg.callbacks.EvaluationDetails`.
        tested: how many images and valid pixels the scores are of.
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
    tested: list[int] | None = None
    details: dict[str, Any] | None = None

    @property
    def samples(self) -> list[Sample]:
        """See `lightning_seg.callbacks.ValidationSamples`; read anew each time, as those of many runs are gigabytes.

        Raises:
            OSError: they cannot be read.
            ValueError: they are not what a run writes.
        """
        return _samples(self.folder / SAMPLES)


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

    A run that is damaged is left out, and is among the jobs with the status `damaged` and what is wrong with it.

    Raises:
        FileNotFoundError: a folder does not exist, or holds no run.
        NotADirectoryError: one of them is a file.
        OSError: a folder cannot be read.
        ValueError: all runs are damaged; it names the first file that is not what a run writes.
    """
    given = [Path(folder).expanduser() for folder in folders]
    found = find_runs(given)
    ends = {parent: _job_ends(parent) for parent in dict.fromkeys(folder.parent for folder in found)}
    runs, damaged = [], []
    for folder in found:
        try:
            runs.append(read_run(folder, ends[folder.parent].get(folder.name)))
        except (OSError, ValueError, MemoryError) as error:
            damaged.append(Job(folder.name, {}, "damaged", " ".join(str(error).split())))
    if damaged and not runs:
        more = f" ({len(damaged) - 1} more runs are damaged.)" if len(damaged) > 1 else ""
        raise ValueError(f"{damaged[0].error}{more}")
    roots = [folder.resolve() for folder in given]
    jobs = [
        job
        for parent, jobs_there in ends.items()
        if any(parent.is_relative_to(root) for root in roots)
        for name, job in jobs_there.items()
        if not (parent / name).is_dir()
    ]
    return runs, [*damaged, *jobs]


def find_runs(folders: Iterable[Path]) -> list[Path]:
    """The folders of the runs, each once, sorted; those of which only the configuration is damaged are among them.

    Raises:
        FileNotFoundError: a folder does not exist, or holds no run.
        NotADirectoryError: one of them is a file.
        OSError: a folder cannot be read.
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
        OSError: a file in it cannot be read.
        ValueError: one is not what a run writes.
    """
    result = _result(folder / RESULT)
    diverged = _json(folder / DIVERGED)
    if diverged is not None:
        job = Job(folder.name, {}, "diverged", str(diverged.get("reason", "")))
    _samples(folder / SAMPLES)  # damaged ones are said before a page is begun
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
        usage=_usage(folder / RESOURCES) or _usage(folder / "costs.json"),  # the latter of 0.1.0
        confusion=_confusion(folder / CONFUSION),
        tested=result.get("tested"),
        details=_details(folder),
    )


def _job_ends(parent: Path) -> dict[str, Job]:
    """What the tables of sweeps in a folder say of each job, the newest table last."""
    jobs: dict[str, Job] = {}
    for path in sorted(parent.glob("*.csv"), key=lambda path: path.lstat().st_mtime_ns):
        try:
            columns, rows = read_csv(path)
        except (OSError, ValueError):
            continue  # no table of a sweep
        if {"run", "status", "error"} <= set(columns):
            jobs |= {row["run"]: _job(row) for row in rows}
    return jobs


def _job(row: dict[str, str]) -> Job:
    results = ("run", "status", "seconds", "error")
    choices = {name: value for name, value in row.items() if name not in results and not name.startswith(_SCORES)}
    return Job(row["run"], choices, row["status"], row["error"])


def _runs_within(folder: Path) -> list[Path]:
    def refuse(error: OSError) -> None:
        raise in_words(error.filename, error) from None

    found = []
    for parent, children, files in os.walk(folder, onerror=refuse):
        if CONFIG in [*files, *children] and _is_run(Path(parent)):
            found.append(Path(parent))
            children.clear()  # what a run's logger keeps below it may have a config.yaml too
    return found


def _is_run(folder: Path) -> bool:
    try:
        _config(folder / CONFIG)
    except (OSError, ValueError):
        # Another program's configuration, unless what only a run leaves lies beside it.
        return any(os.path.lexists(folder / name) for name in (RESULT, CURVES, RESOURCES, SAMPLES, CONFUSION))
    return True


def _config(path: Path) -> dict[str, Any]:
    config = _mapping(path, read_yaml(path))
    _expect(path, {"module", "data", "trainer", "seed"} <= config.keys(), "module, data, trainer and seed")
    _expect(path, isinstance(config["trainer"], Mapping), "a mapping as trainer")
    if is_written(config["seed"]):  # runs with other values of the variable have other marks of it
        marks = config.get(ENVIRONMENT)
        mark = marks.get("seed") if isinstance(marks, Mapping) else None
        config["seed"] = f"{config['seed']} {mark}"
    else:
        _expect(path, isinstance(config["seed"], int), "an integer as seed")
    epochs = config["trainer"].get("max_epochs")
    _expect(path, is_plain_number(epochs) or is_written(epochs), "a number as trainer.max_epochs")
    _expect(path, len(flattened(config)) <= _MOST_VALUES, f"{_MOST_VALUES} values at most")
    return config


def _result(path: Path) -> dict[str, Any]:
    content = _json(path)
    if content is None:
        return {}
    scores = content.get("test")
    _expect(path, isinstance(scores, Mapping) and all(map(_is_number, scores.values())), "numbers as `test`")
    assert isinstance(scores, Mapping)
    _expect(path, len(overall_names(scores, "test")) <= _MOST_SCORES, f"{_MOST_SCORES} scores at most as `test`")
    _expect(path, _is_names(content.get("class_names")), "names as `class_names`")
    _expect(path, _is_number(content.get("best")), "a number as `best`")
    _expect(path, isinstance(content.get("monitor"), str | None), "a name as `monitor`")
    tested = content.get("tested")
    good = isinstance(tested, list) and len(tested) == 2 and all(type(one) is int for one in tested)
    _expect(path, tested is None or good, "two integers as `tested`")
    return content


def _usage(path: Path) -> dict[str, Any]:
    content = _json(path) or {}
    for name, value in content.items():
        is_text = name in ("memory", "device")
        _expect(
            path,
            value is None or isinstance(value, str) if is_text else _is_number(value),
            f"a number, or a text, as `{name}`",
        )
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in content.items()
    }


def _confusion(path: Path) -> dict[str, Any] | None:
    content = _json(path, most=2**26)
    if content is None:
        return None
    names: Any = content.get("class_names")
    _expect(path, _is_names(names), "names as `class_names`")
    shapes = {"multiclass": (len(names),) * 2, "multilabel": (len(names), 2, 2), "binary": (2, 2)}
    try:
        matrix = np.array(content.get("matrix"))
    except ValueError:
        matrix = np.array(None)
    good = (
        matrix.dtype.kind == "i" and matrix.shape == shapes.get(str(content.get("task"))) and bool((matrix >= 0).all())
    )
    _expect(path, good, f"pixel counts of {len(names)} classes as `matrix`")
    return content


def _details(folder: Path) -> dict[str, Any] | None:
    """The summary of an evaluation, its worst images and its reliability diagram."""
    path = folder / INTERVALS
    if not os.path.lexists(path):
        return None
    content = read_summary(path)
    worst = [
        {"image": row["image"], "iou": float(row["iou"]) if _is_finite(row["iou"]) else None}
        for row in _table(path.parent / "images.csv", ("image", "iou"))[:_WORST]
    ]
    calibration = [
        [float(row["confidence"]), float(row["accuracy"])]
        for row in _table(path.parent / "calibration.csv", ("confidence", "accuracy"))[:_MOST_BINS]
        if _is_finite(row["confidence"]) and _is_finite(row["accuracy"])
    ]
    return {**content, "worst": worst, "calibration": calibration}


def _table(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    if not os.path.lexists(path):
        return []
    found, rows = read_csv(path)
    _expect(path, set(columns) <= set(found), f"the columns {', '.join(columns)}")
    return rows


def _is_finite(text: str) -> bool:
    return is_number(text) and math.isfinite(float(text))


def _json(path: Path, most: int = 2**24) -> dict[str, Any] | None:
    return _mapping(path, read_json(path, most)) if os.path.lexists(path) else None


def _curves(path: Path) -> dict[str, list[float]]:
    if not os.path.lexists(path):
        return {}
    names, rows = read_csv(path)
    try:
        return {name: [float(row[name]) if row[name] else math.nan for row in rows] for name in names}
    except ValueError as error:
        raise ValueError(f"{path} is not a table of numbers ({error}): remove it, or the run.") from None


def _samples(path: Path) -> list[Sample]:
    if not os.path.lexists(path):
        return []
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
            if size > _MOST_BYTES:
                raise ValueError(f"unpacked it takes {size / 2**20:,.0f} MiB, which no run's samples do")
            about = json.loads(str(_array(archive, "about", "U", 0)))
            names, void = about["names"], about["void"]
            if not (_is_names(names) and _is_names(about["class_names"]) and isinstance(void, int)):
                raise ValueError("its class names are not text")
            colors = np.array(about["palette"])
            if colors.ndim != 2 or colors.shape[1] != 3 or colors.dtype.kind != "i" or len(colors) != void:
                raise ValueError("its palette is malformed")
            if colors.min() < 0 or colors.max() > 255:
                raise ValueError("its palette has colors outside of 0 to 255")
            return [_sample(archive, index, name, about) for index, name in enumerate(names)]
    except OSError:
        raise
    except (
        *(ValueError, KeyError, TypeError, zipfile.BadZipFile, EOFError, zlib.error, RecursionError),
        *(NotImplementedError, RuntimeError),  # of zipfile, for an unknown compression or a password
    ) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} does not hold validation samples ({reason}): remove it, or the run.") from None


def _sample(archive: zipfile.ZipFile, index: int, name: str, about: dict[str, Any]) -> Sample:
    image = _array(archive, f"image_{index}", "u", 3)
    kind = "target" if f"target_{index}.npy" in archive.namelist() else "truth"  # the latter of 0.1.0
    target, labels = (_array(archive, f"{part}_{index}", "u", 2) for part in (kind, "labels"))
    if image.dtype != np.uint8 or image.shape != (*target.shape, 3) or target.shape != labels.shape or not image.size:
        raise ValueError(f"image, target and labels {index} do not fit together")
    if target.max() > about["void"] or labels.max() >= about["void"]:
        raise ValueError(f"target or labels {index} have a label without a color")
    return Sample(name, image, target, labels, about["palette"], about["class_names"], about["void"])


def _array(archive: zipfile.ZipFile, name: str, kind: str, dimensions: int) -> npt.NDArray[Any]:
    """An array of an `.npz`, whose header is looked at before there is room made for it."""
    with archive.open(f"{name}.npy") as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
    size = math.prod(shape) * dtype.itemsize
    if dtype.kind != kind or len(shape) != dimensions or size > archive.getinfo(f"{name}.npy").file_size:
        raise ValueError(f"{name} is {dtype} of shape {shape}")
    if any(length > _MOST_PIXELS for length in shape):
        raise ValueError(f"{name} has {shape} pixels")
    with archive.open(f"{name}.npy") as file:
        array: npt.NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    return array


def _mapping(path: Path, content: Any) -> dict[str, Any]:
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__} where a mapping is expected: remove it, or the run.")
    return {str(name): value for name, value in content.items()}


def _expect(path: Path, holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(f"{path} is not what a run writes; expected {what}: remove it, or the run.")


def _is_number(value: Any) -> bool:
    return (
        value is None
        or (isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**63)
        or (isinstance(value, float) and not math.isfinite(value))
    )


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)
