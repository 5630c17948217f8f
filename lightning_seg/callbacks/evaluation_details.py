"""What an evaluation can say besides its table of scores."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from PIL import Image
from torch import Tensor

from lightning_seg.callbacks.classes import class_names_for
from lightning_seg.callbacks.shapes import ScoredShapes, scored_shapes
from lightning_seg.csv_files import write_csv
from lightning_seg.files import atomic_write, write_json
from lightning_seg.metrics.bootstrap import bootstrap_intervals
from lightning_seg.metrics.calibration import (
    average_precision,
    best_threshold,
    confidence_counts,
    expected_calibration_error,
    level_counts,
    precision_recall,
)
from lightning_seg.metrics.confusion import count_confusion
from lightning_seg.metrics.labels import hard_labels
from lightning_seg.metrics.ratios import class_counts
from lightning_seg.plots import confusion_picture, curve_picture
from lightning_seg.text import text_logger

log = text_logger(__name__)

Array = npt.NDArray[Any]


class EvaluationDetails(Callback):
    """Writes what the test's images say one by one, and how far its scores and probabilities can be trusted.

    Into a folder, of the images of all processes, each counted once:

    - `images.csv`: the scores of each image, the worst first, by the mean IoU of the classes that occur in it.
    - `confusion.csv` and `.png`: the confusion matrix, in pixels, and in percent of each target (not if multilabel).
    - `calibration.csv` and `.png`: accuracy by confidence, the reliability diagram.
    - `precision_recall.csv` and `.png`, in the binary task: by threshold, of which the one of the best Dice is named.
    - `boundaries.csv`, if asked for: boundary IoU (Cheng et al. 2021) and surface Dice of each class.
    - `cases.csv`, of volumes: Dice of each case and class, and, if outlines are asked for, the 95 % Hausdorff distance
      and the surface Dice in millimeters, by MONAI.
    - `summary.json`: 95 % intervals of the scores by bootstrap over images, the mean without the background, the
      expected calibration error, and the means of all the above.

    Args:
        folder: where they are written; files of an earlier evaluation there are replaced.
        boundaries: whether outlines are scored, which takes a second or so for an image of two megapixels.
        tolerance: of the surface Dice, in pixels of the mask, or of volumes in millimeters.
        background: the class that the mean without background leaves out; None: no such mean.
        draws: of the bootstrap.
        class_names: one for each class. Default: the module's, or the data module's.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        boundaries: bool = False,
        tolerance: float = 2.0,
        background: int | None = 0,
        draws: int = 1000,
        class_names: Sequence[str] | None = None,
    ) -> None:
        if not tolerance >= 0:
            raise ValueError(f"tolerance={tolerance} is a distance in pixels, 0 or more.")
        self.folder = Path(folder)
        self.boundaries = boundaries
        self.tolerance = tolerance
        self.background = background
        self.draws = draws
        self.class_names = class_names
        self._is_told = False
        self._reset()

    def _reset(self) -> None:
        self._images: list[tuple[str, Array]] = []
        self._confusion: Array | int = 0
        self._confidence: Tensor | float = 0.0
        self._levels: Tensor | int = 0
        self._scored: list[tuple[str, Any]] = []  # of shapes
        self._shapes: ScoredShapes | None = None
        # Of a batch, until its end: confusion matrices, and labels where they are needed.
        self._matrices: Tensor | None = None
        self._predictions: Tensor | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuses classes without a name before anything is trained."""
        class_names_for(trainer, pl_module, self.class_names)

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forgets what an interrupted evaluation has gathered."""
        self._reset()

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Likewise."""
        self._reset()

    def add_part(
        self, module: Any, logits: Tensor, target: Tensor, place: tuple[slice, ...], size: Sequence[int]
    ) -> None:
        """Adds logits of the images of a batch that count, or of a part of each; called by `SegmentationModule`.

        Of an image as a whole, labels are all that is kept, and those only where outlines or volumes are scored.

        Args:
            module: the module.
            logits: `(N, num_classes, *spatial)`.
            target: the mask, or its part.
            place: the slices of the spatial axes that it covers.
            size: spatial size of the whole.
        """
        if not _is_labels(target, logits, module.task):
            if not self._is_told:
                self._is_told = True
                log.warning("%s is not written: the targets are not the labels of task=%s.", self.folder, module.task)
            return
        spec = {"task": module.task, "num_classes": module.num_classes, "ignore_index": module.ignore_index}
        target = torch.as_tensor(target)
        prediction, labels = hard_labels(module.scored_logits(logits), target, **spec)
        valid = _valid(module, labels)
        probabilities = module.probabilities(logits).float()
        self._confidence = self._confidence + confidence_counts(probabilities, labels, valid, module.task)
        if module.task == "binary":
            self._levels = self._levels + level_counts(probabilities, labels, valid)
        images = zip(torch.split(prediction, 1), torch.split(labels, 1), strict=True)
        matrices = torch.stack([count_confusion(*one, **spec) for one in images]).cpu()
        self._matrices = matrices if self._matrices is None else self._matrices + matrices
        if self._shapes is None:
            self._shapes = scored_shapes(
                len(size), module.task, module.num_classes, self.tolerance, outlines=self.boundaries
            )
        if self._shapes is None:
            return
        if self._predictions is None:
            kind = torch.uint8 if module.num_classes <= 256 else torch.int32
            self._predictions = torch.zeros((*target.shape[: -len(size)], *size), dtype=kind)
        index: tuple[Any, ...] = (..., *place)
        self._predictions[index] = prediction.cpu().to(self._predictions.dtype)

    def end_images(
        self, trainer: Trainer, module: Any, target: Tensor, names: Sequence[Any], spacing: Tensor | None = None
    ) -> None:
        """Ends a batch, all parts of which were added.

        Args:
            trainer: the trainer.
            module: the module.
            target: the masks.
            names: of the images, if they have any.
            spacing: of volumes, in millimeters `(N, 3)`. Default: 1.
        """
        if self._matrices is None:
            return
        matrices, predictions = self._matrices, self._predictions
        self._matrices, self._predictions = None, None
        for index, matrix in enumerate(matrices):
            counts = torch.stack(class_counts(matrix, module.task, module.ignore_index), -1).numpy()
            right = matrix.diagonal(dim1=-2, dim2=-1).sum().item(), matrix.sum().item()
            number = len(self._images) * trainer.world_size + trainer.global_rank
            name = str(names[index]) if index < len(names) else str(number)
            self._images.append((name, np.concatenate([counts.ravel(), right])))
            if predictions is not None and self._shapes is not None:
                labels = torch.as_tensor(target[index]).cpu()
                distances = None if spacing is None else spacing[index].tolist()
                scores = self._shapes.score(predictions[index], labels, _valid(module, labels), distances)
                self._scored.append((name, scores))
            self._confusion = self._confusion + matrix.numpy()

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the files."""
        self._write(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes them, where validation is what was asked for."""
        if trainer.state.fn != TrainerFn.FITTING:
            self._write(trainer, pl_module)

    def _write(self, trainer: Trainer, module: Any) -> None:
        parts = [(self._images, self._confusion, self._confidence, self._levels, self._scored, self._shapes)]
        if trainer.world_size > 1:
            own = parts[0]
            parts = [own] * trainer.world_size
            torch.distributed.all_gather_object(parts, own)
        self._reset()
        images = sorted((image for part in parts for image in part[0]), key=lambda image: image[0])
        if not trainer.is_global_zero or not images:
            return
        names = class_names_for(trainer, module, self.class_names)
        self.folder.mkdir(parents=True, exist_ok=True)
        classes = module.num_classes
        counts = np.stack([image[1] for image in images])
        scores = _Scores(classes, names, self._left_out(module))
        intervals = bootstrap_intervals(counts, scores, draws=self.draws)
        summary: dict[str, Any] = {
            "images": len(images),
            "intervals": {name: dict(one._asdict()) for name, one in intervals.items()},
        }
        self._write_images(images, counts, scores, names)
        if module.task != "multilabel":
            self._write_confusion(sum(part[1] for part in parts), names)
        summary["expected_calibration_error"] = self._write_calibration(sum(part[2] for part in parts))
        if module.task == "binary":
            summary |= self._write_thresholds(sum(part[3] for part in parts))
        shapes = next((part[5] for part in parts if part[5] is not None), None)
        if shapes is not None:
            scored = sorted((one for part in parts for one in part[4]), key=lambda one: one[0])
            summary |= shapes.write(self.folder, scored, names, leaves_out_first=self.background == 0)
        write_json(self.folder / "summary.json", summary)

    def _left_out(self, module: Any) -> int | None:
        is_class = self.background is not None and 0 <= self.background < module.num_classes
        return self.background if module.task == "multiclass" and is_class else None

    def _write_images(self, images: Sequence[Any], counts: Array, scores: "_Scores", names: Sequence[str]) -> None:
        of_each = scores(counts)
        order = np.argsort(np.nan_to_num(of_each["iou"], nan=2.0), kind="stable")  # without a score last
        rows = [("image", *of_each)]
        for index in order:
            values = [None if np.isnan(value[index]) else float(value[index]) for value in of_each.values()]
            rows.append((images[index][0], *values))  # type: ignore[arg-type]
        write_csv(self.folder / "images.csv", rows)

    def _write_confusion(self, matrix: Any, names: Sequence[str]) -> None:
        names = names if len(matrix) == len(names) else ["background", *names]
        rows = [("target", *names), *((name, *row) for name, row in zip(names, matrix.tolist(), strict=True))]
        write_csv(self.folder / "confusion.csv", rows)
        self._save("confusion.png", confusion_picture(matrix, names))

    def _write_calibration(self, counts: Any) -> float:
        n, right, confidence = counts.unbind(1)
        rows = zip((confidence / n).tolist(), (right / n).tolist(), n.long().tolist(), strict=True)
        kept = [row for row in rows if row[2]]
        write_csv(self.folder / "calibration.csv", [("confidence", "accuracy", "pixels"), *kept])
        x, y = ([row[index] for row in kept] for index in (0, 1))
        self._save("calibration.png", curve_picture(x, y, ("confidence", "accuracy"), diagonal=True))
        return expected_calibration_error(counts)

    def _write_thresholds(self, counts: Any) -> dict[str, float]:
        curve = precision_recall(counts)
        columns = [[None if np.isnan(value) else value for value in part.tolist()] for part in curve]
        write_csv(self.folder / "precision_recall.csv", [curve._fields, *zip(*columns, strict=True)])
        picture = curve_picture(curve.recall.tolist(), curve.precision.tolist(), ("recall", "precision"))
        self._save("precision_recall.png", picture)
        return {"best_threshold": best_threshold(counts), "average_precision": average_precision(counts)}

    def _save(self, name: str, picture: Image.Image) -> None:
        with atomic_write(self.folder / name, overwrite=True) as temporary:
            picture.save(temporary)


class _Scores:
    """Scores by name of summed counts `(n, 3 C + 2)`: overlap, predicted and actual of each class, right and all."""

    def __init__(self, classes: int, names: Sequence[str], left_out: int | None) -> None:
        self.classes, self.names, self.left_out = classes, names, left_out

    def __call__(self, counts: Array) -> Mapping[str, npt.NDArray[np.float64]]:
        """Each `(n,)`."""
        overlap, predicted, actual = np.moveaxis(counts[:, :-2].reshape(-1, self.classes, 3).astype(float), -1, 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            iou, dice = overlap / (predicted + actual - overlap), 2 * overlap / (predicted + actual)
            found = {"iou": _mean(iou), "dice": _mean(dice), "accuracy": counts[:, -2] / counts[:, -1]}
        if self.left_out is not None:
            kept = [index for index in range(self.classes) if index != self.left_out]
            found |= {"iou_without_background": _mean(iou[:, kept]), "dice_without_background": _mean(dice[:, kept])}
        return found | {f"iou/{name}": iou[:, index] for index, name in enumerate(self.names)}


def _valid(module: Any, labels: Tensor) -> Tensor:
    """Where labels are not void, bool."""
    everywhere = torch.ones_like(labels, dtype=torch.bool)
    return everywhere if module.ignore_index is None else labels != module.ignore_index


def _is_labels(target: Any, logits: Tensor, task: str) -> bool:
    """Whether a target has the shape of the task's labels; a subclass's own loss may take others."""
    shape, of_pixels = tuple(torch.as_tensor(target).shape), (len(logits), *logits.shape[2:])
    return shape == tuple(logits.shape) or (task != "multilabel" and shape == of_pixels)


def _mean(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    known = np.isfinite(values)
    total = np.where(known, values, 0).sum(1)
    with np.errstate(invalid="ignore"):
        mean: npt.NDArray[np.float64] = total / known.sum(1)
    return mean
