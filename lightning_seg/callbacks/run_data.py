"""Keeps a digest of a run's data beside it, and compares it before the run is resumed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from lightning_seg.data.protocol import DescribesData
from lightning_seg.runs.data import keep_digests
from lightning_seg.runs.folder import keep_changes


class RunData(Callback):
    """Refuses other data than those that a run was begun with; then keeps the configuration that it resumes with.

    Args:
        folder: the run's.
        config: composed and resolved.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        self.folder = folder
        self.config = config

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Called after the data module was set up for the stage.

        Raises:
            ValueError: the data are others.
        """
        if stage != "fit" or not trainer.is_global_zero:
            return
        datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
        keep_digests(self.folder, datamodule.digests() if isinstance(datamodule, DescribesData) else {})
        keep_changes(self.folder, self.config)
