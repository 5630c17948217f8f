"""What an evaluation scores of the shapes of images: outlines in two dimensions, cases of volumes in three."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

from lightning_seg.csv_files import write_csv
from lightning_seg.metrics.boundaries import boundary_counts
from lightning_seg.metrics.case_scores import CaseScores, case_scores
from lightning_seg.task import Task

Array = npt.NDArray[Any]
_AXES = 3  # of a volume


class ScoredShapes(Protocol):
    """What is scored of whole images, whose labels are kept for it."""

    def score(self, prediction: Tensor, target: Tensor, valid: Tensor, spacing: Sequence[float] | None) -> Any:
        """What an image adds, with the axis of the classes where a pixel may have several labels.

        Args:
            prediction: labels, on the CPU.
            target: likewise.
            valid: bool, where a pixel is not void.
            spacing: of a volume, in millimeters. Default: 1.
        """

    def write(
        self, folder: Path, scored: Sequence[tuple[str, Any]], names: Sequence[str], *, leaves_out_first: bool
    ) -> dict[str, float]:
        """Writes the table of all images, and gives what the summary says.

        Args:
            folder: where it is written.
            scored: of each image its name, and what it has added.
            names: of the classes.
            leaves_out_first: whether the first class is the background.
        """


def scored_shapes(axes: int, task: Task, classes: int, tolerance: float, *, outlines: bool) -> ScoredShapes | None:
    """What is scored of images with so many spatial axes; None: nothing.

    Args:
        axes: how many.
        task: of the labels.
        classes: how many there are.
        tolerance: of the surface Dice, in pixels or, of volumes, in millimeters.
        outlines: whether outlines and surfaces are scored, too.
    """
    if axes == _AXES:
        return None if task == "multilabel" else Cases(classes, tolerance, distances=outlines)
    return Outlines(task, classes, tolerance) if outlines else None


class Outlines:
    """Boundary IoU and surface Dice of each class, over all images."""

    def __init__(self, task: Task, classes: int, tolerance: float) -> None:
        self.task, self.classes, self.tolerance = task, classes, tolerance

    def score(self, prediction: Tensor, target: Tensor, valid: Tensor, spacing: Sequence[float] | None) -> Array:
        """Counts of each class, int64 `(classes, 4)`; see `ScoredShapes`."""
        parts = [part.numpy() for part in (prediction, target, valid)]
        if self.task != "multiclass":
            parts = [part.astype(bool).reshape(-1, *part.shape[-2:]) for part in parts]
        return boundary_counts(parts[0], parts[1], parts[2], self.classes, self.tolerance)

    def write(
        self, folder: Path, scored: Sequence[tuple[str, Any]], names: Sequence[str], *, leaves_out_first: bool
    ) -> dict[str, float]:
        """Writes `boundaries.csv`; see `ScoredShapes`."""
        counts = np.stack([counts for _, counts in scored]).sum(0)
        with np.errstate(invalid="ignore"):
            values = np.stack([counts[:, 0] / counts[:, 1], counts[:, 2] / counts[:, 3]], 1)
        means = [float(np.nanmean(column)) if np.isfinite(column).any() else np.nan for column in values.T]
        rows = [(name, *row) for name, row in zip([*names, "mean"], [*values.tolist(), means], strict=True)]
        write_csv(folder / "boundaries.csv", [("class", "boundary_iou", "surface_dice"), *rows])
        return {"boundary_iou": means[0], "surface_dice": means[1], "surface_tolerance": self.tolerance}


class Cases:
    """Dice of each case and class, and, with `distances`, 95 % Hausdorff distance and surface Dice in millimeters."""

    def __init__(self, classes: int, tolerance: float, *, distances: bool) -> None:
        self.classes, self.tolerance, self.distances = classes, tolerance, distances

    def score(self, prediction: Tensor, target: Tensor, valid: Tensor, spacing: Sequence[float] | None) -> CaseScores:
        """The scores of a case; see `ScoredShapes`."""
        labels, expected, counts = (part.reshape(part.shape[-_AXES:]) for part in (prediction, target, valid))
        spacing = [1.0] * _AXES if spacing is None else spacing
        options = {"tolerance": self.tolerance, "distances": self.distances}
        return case_scores(labels, expected, counts, self.classes, spacing=spacing, **options)  # type: ignore[arg-type]

    def write(
        self, folder: Path, scored: Sequence[tuple[str, Any]], names: Sequence[str], *, leaves_out_first: bool
    ) -> dict[str, float]:
        """Writes `cases.csv`, and gives means over cases of means over classes; see `ScoredShapes`."""
        kinds = CaseScores._fields if self.distances else CaseScores._fields[:1]
        columns = [f"{kind}/{name}" for kind in kinds for name in names]
        rows = [
            (name, *(None if np.isnan(value) else float(value) for kind in kinds for value in getattr(scores, kind)))
            for name, scores in scored
        ]
        write_csv(folder / "cases.csv", [("case", *columns), *rows])
        first = 1 if leaves_out_first and len(names) > 1 else 0
        means = {}
        for kind in kinds:
            values = np.stack([getattr(scores, kind)[first:] for _, scores in scored])
            known = values[np.isfinite(values)]
            means[f"case_{kind}"] = float(known.mean()) if known.size else np.nan
        return {**means, "surface_tolerance": self.tolerance} if self.distances else means
