"""The confusion matrix of the test split as a file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from lightning_seg.callbacks.classes import class_names_for
from lightning_seg.files import write_json
from lightning_seg.metrics.confusion import ConfusionMatrixMetric


class ConfusionCounts(Callback):
    """Writes the confusion matrix that the test scores are computed from, summed over all processes.

    The file is JSON: `task`, `class_names`, and `matrix`, integer pixel counts with rows the target and columns the
    prediction: (C, C) in the multiclass task, (C, 2, 2) in multilabel, (2, 2) in binary. One of an earlier test in the
    same place is replaced. A module whose `build_metrics` has no score of this package's has none, and no file.

    Args:
        path: the JSON file.
        class_names: one for each class. Default: the module's, or the data module's.
    """

    def __init__(self, path: str | Path, class_names: Sequence[str] | None = None) -> None:
        self.path = Path(path)
        self.class_names = class_names

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuses classes without a name before anything is trained."""
        class_names_for(trainer, pl_module, self.class_names)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the file; the module resets its metrics after this."""
        module: Any = pl_module
        metrics = [part for part in module.test_metrics.values() if isinstance(part, ConfusionMatrixMetric)]
        if not metrics:
            return
        matrix = trainer.strategy.reduce(metrics[0].confusion_matrix.clone(), reduce_op="sum")
        if trainer.is_global_zero:
            names = class_names_for(trainer, pl_module, self.class_names)
            content = {"task": metrics[0].task, "class_names": names, "matrix": matrix.tolist()}
            write_json(self.path, content, indent=None)
