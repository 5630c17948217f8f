"""Evaluation with averaged weights."""

from typing import Any

import lightning
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.trainer.states import TrainerFn


class AveragedWeights(EMAWeightAveraging):
    """Lightning's `EMAWeightAveraging`, whose checkpoints are also tested with the average that they hold.

    Lightning's own puts the weights before averaging back whenever it loads a checkpoint after a training, also to
    test it: the scores were then of other weights than those that the checkpoint gives to everyone else.
    """

    def on_load_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Restores both kinds of weights, to resume a training."""
        if trainer.state.fn == TrainerFn.FITTING:
            super().on_load_checkpoint(trainer, pl_module, checkpoint)
