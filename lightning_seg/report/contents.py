"""All that the page shows, as data."""

import hashlib
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from lightning_seg.report.pictures import errors_uri, image_uri, labels_uri, target_uri
from lightning_seg.report.runs import Job, Run, Sample
from lightning_seg.report.statistics import CONFIDENCE, Difference, Summary, paired_difference, summary
from lightning_seg.report.sweep import Parameter, group_runs, repeat_of, swept_parameters
from lightning_seg.runs.scores import overall_names

# Shares, shown in percent; other scores of a module's own are shown as they are.
_SCORES = {"iou": "IoU, %", "dice": "Dice, %", "accuracy": "Accuracy, %"}
_USAGE = ("seconds_per_step", "peak_memory_bytes", "parameters")
_POINTS = 200  # of a curve, more than a chart has room for
_CLASS_CURVES = 30  # classes beyond which curves of single classes are left out


def report_contents(runs: Sequence[Run], jobs: Sequence[Job] = ()) -> dict[str, Any]:
    """What the page holds, ready to be written as JSON.

    `parameters` that were swept; `groups` of runs that differ in seed and fold alone, best first, with their means;
    `differences[a][b]`, how much group a is above group b (n, mean, low, high); `runs`; `jobs` that
    left no run; `classes`; `samples`.
    A seed that was run several times counts once, with the mean of its runs.

    Raises:
        ValueError: there are no runs.
    """
    if not runs:
        raise ValueError("got no runs; expected at least one.")
    parameters = swept_parameters([run.config for run in runs])
    scores = _score_names(runs)
    members = sorted(group_runs(parameters, len(runs)), key=lambda group: _descending(_score(runs, group, scores[0])))
    classes = list(dict.fromkeys(name for run in runs for name in run.class_names))
    group_of = {run: group for group, indices in enumerate(members) for run in indices}
    samples, colors = _pictures(runs)
    return {
        "confidence": CONFIDENCE,
        "parameters": [_parameter(parameter, members) for parameter in parameters],
        "scores": [{"name": name, "title": _SCORES.get(name, name), "share": name in _SCORES} for name in scores],
        "groups": [_group(runs, indices, parameters, classes, scores) for indices in members],
        "differences": _differences([_by_seed(runs, indices, f"test/{scores[0]}") for indices in members]),
        "runs": [
            _run(run, name, group_of[index], scores)
            for index, (run, name) in enumerate(zip(runs, _names(runs), strict=True))
        ],
        "jobs": [_job(job) for job in jobs],
        "classes": classes,
        "samples": samples,
        "colors": colors,
    }


def _score_names(runs: Sequence[Run]) -> list[str]:
    """The scores of all classes together that any run has, those that all modules log by default first; never none."""
    logged = {name for run in runs for name in overall_names(run.scores, "test") if name != "loss"}
    own = sorted(logged - set(_SCORES))
    return [*(name for name in _SCORES if name in logged), *own] or list(_SCORES)


def _names(runs: Sequence[Run]) -> list[str]:
    """The folders of the runs from where they part."""
    if len(runs) == 1:
        return [runs[0].folder.name]
    common = os.path.commonpath([run.folder for run in runs])
    return [run.folder.relative_to(common).as_posix() for run in runs]


def _parameter(parameter: Parameter, members: Sequence[Sequence[int]]) -> dict[str, Any]:
    def of_groups(values: Sequence[str | None]) -> list[str | None]:
        return [values[indices[0]] for indices in members]

    return {
        "key": parameter.key,
        "label": parameter.label,
        "values": of_groups(parameter.values),
        "withIt": {key: of_groups(values) for key, values in parameter.with_it.items()},
    }


def _group(
    runs: Sequence[Run],
    indices: Sequence[int],
    parameters: Sequence[Parameter],
    classes: Sequence[str],
    scores: Sequence[str],
) -> dict[str, Any]:
    chosen = [(parameter.label, parameter.values[indices[0]]) for parameter in parameters]
    return {
        "label": ", ".join(f"{label}={value}" for label, value in chosen if value is not None) or "all runs",
        "runs": sorted(indices, key=lambda index: _in_order(repeat_of(runs[index].config))),
        "finished": sum(runs[index].status == "finished" for index in indices),
        "scores": {score: _rounded_summary(_score(runs, indices, score)) for score in scores},
        "classes": [_rounded(_mean(_by_seed(runs, indices, f"test/iou/{name}").values())) for name in classes],
        "usage": {name: _mean(_usage(runs[index], name) for index in indices) for name in _USAGE},
        "memory": sorted({runs[index].usage["memory"] for index in indices if "memory" in runs[index].usage}),
        "confusion": _confusion([runs[index] for index in indices]),
    }


def _in_order(seed: int | str) -> tuple[bool, int | str]:
    return isinstance(seed, str), seed


def _by_seed(runs: Sequence[Run], indices: Iterable[int], name: str) -> dict[int | str | None, float]:
    values: dict[int | str | None, list[float]] = {}
    for index in indices:
        value = runs[index].scores.get(name, math.nan)
        if not math.isnan(value):
            values.setdefault(repeat_of(runs[index].config), []).append(value)
    return {seed: float(np.mean(repeats)) for seed, repeats in values.items()}


def _score(runs: Sequence[Run], indices: Iterable[int], score: str) -> Summary | None:
    return summary(list(_by_seed(runs, indices, f"test/{score}").values()))


def _descending(score: Summary | None) -> float:
    return -score.mean if score else math.inf


def _differences(scores: Sequence[Mapping[int | str | None, float]]) -> list[list[list[float | None] | None]]:
    return [[_rounded_difference(paired_difference(values, other)) for other in scores] for values in scores]


def _mean(values: Iterable[float]) -> float | None:
    known = [value for value in values if not math.isnan(value)]
    mean = float(np.mean(known)) if known else math.nan
    return mean if math.isfinite(mean) else None


def _usage(run: Run, name: str) -> float:
    value = run.usage.get(name)
    return math.nan if value is None else float(value)


def _confusion(runs: Sequence[Run]) -> dict[str, Any] | None:
    """The sum over the runs of the same classes and task."""
    known = [run.confusion for run in runs if run.confusion is not None and run.status == "finished"]
    same = [one for one in known if (one["task"], one["class_names"]) == (known[0]["task"], known[0]["class_names"])]
    if not same:
        return None
    matrix = np.sum([np.array(one["matrix"], dtype=np.int64) for one in same], axis=0)
    return {"task": same[0]["task"], "classes": same[0]["class_names"], "matrix": matrix.tolist(), "runs": len(same)}


def _run(run: Run, name: str, group: int, scores: Sequence[str]) -> dict[str, Any]:
    epochs = run.curves.get("epoch", [])
    return {
        "name": name,
        "group": group,
        "seed": repeat_of(run.config),
        "status": run.status,
        "error": run.error,
        "epochs": len(epochs),
        "of": run.config["trainer"].get("max_epochs"),
        "scores": {score: _rounded(run.scores.get(f"test/{score}")) for score in scores},
        "monitor": run.monitor,
        "best": _rounded(run.best),
        "tested": run.tested,
        "usage": {name: run.usage.get(name) for name in _USAGE},
        "device": run.usage.get("device"),
        "details": run.details,
        "curves": _curves(run),
    }


def _job(job: Job) -> dict[str, str]:
    choices = ", ".join(f"{name}={value}" for name, value in job.choices.items())
    return {"name": job.name, "choices": choices, "status": job.status, "error": job.error}


def _curves(run: Run) -> dict[str, list[float | None]]:
    rows = len(run.curves.get("epoch", []))
    kept = sorted({round(row) for row in np.linspace(0, rows - 1, min(rows, _POINTS))}) if rows else []
    curves = {}
    for name, values in run.curves.items():
        of_class = name.count("/") > 1 and not name.startswith("train/loss/")
        if of_class and (not name.startswith("val/iou/") or len(run.class_names) > _CLASS_CURVES):
            continue
        if any(not math.isnan(value) for value in values):
            curves[name] = [_rounded(values[row]) for row in kept]
    return curves


def _pictures(runs: Sequence[Run]) -> tuple[list[dict[str, Any]], list[tuple[str, list[int]]]]:
    """Each image once, with its target, and the predictions by run; and name and color of each class in them."""
    shown: dict[tuple[str, bytes], dict[str, Any]] = {}
    colors: dict[tuple[str, tuple[int, ...]], None] = {}
    for index, run in enumerate(runs):
        samples = run.samples
        for sample in samples:
            key = (sample.name, _digest(sample))
            if key not in shown:
                shown[key] = {
                    "name": sample.name,
                    "image": image_uri(sample),
                    "target": target_uri(sample),
                    "runs": {},
                    "size": [sample.target.shape[1], sample.target.shape[0]],
                }
            shown[key]["runs"][index] = [labels_uri(sample), errors_uri(sample)]
        for sample in samples[:1]:
            names = sample.class_names
            if len(sample.palette) == len(names) + 1:  # the binary task
                names = ["background", *names]
            colors |= dict.fromkeys((name, tuple(color)) for name, color in zip(names, sample.palette, strict=False))
    return list(shown.values()), [(name, list(color)) for name, color in colors]


def _digest(sample: Sample) -> bytes:
    """Of the image and its target: runs on other data, or at another size, have other images of the same name."""
    content = hashlib.sha256(repr(sample.image.shape).encode())
    content.update(sample.image.tobytes())
    content.update(sample.target.tobytes())
    return content.digest()


def _rounded_difference(found: Difference | None) -> list[float | None] | None:
    return None if found is None else [found.n, _rounded(found.mean), _rounded(found.low), _rounded(found.high)]


def _rounded_summary(found: Summary | None) -> dict[str, float | None] | None:
    if found is None:
        return None
    numbers = {"mean": found.mean, "deviation": found.deviation, "low": found.low, "high": found.high}
    return {"n": found.n, **{name: _rounded(number) for name, number in numbers.items()}}


def _rounded(value: float | None) -> float | None:
    """Six digits, which no chart exceeds; JSON has no NaN and no infinity."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")
