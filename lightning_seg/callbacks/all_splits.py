"""Mistakes in the test split are found before the training, not after it."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class AllSplits(Callback):
    """Sets the data module up for the test, too, before a training begins."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Called after the data module was set up for the stage."""
        datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
        if stage == "fit" and datamodule is not None:
            datamodule.setup("test")
