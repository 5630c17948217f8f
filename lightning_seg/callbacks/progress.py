"""How a training shows where it is: a bar on a terminal, one line an epoch elsewhere."""

import sys
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar

from lightning_seg.text import say


def progress(monitor: str) -> ProgressBar:
    """A bar where the output is a terminal, else a line an epoch.

    Args:
        monitor: the logged value that a line shows.
    """
    return RichProgressBar() if sys.stdout.isatty() else EpochLines(monitor)


class EpochLines(ProgressBar):
    """Prints a line at the end of each training epoch: loss, monitored score, images per second, time left.

    Args:
        monitor: the logged value.
    """

    def __init__(self, monitor: str) -> None:
        super().__init__()
        self.monitor = monitor

    def disable(self) -> None:
        """Called on all processes but the first, which print nothing anyway."""

    def enable(self) -> None:
        """Called on the first."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins to count."""
        self._started, self._images = time.monotonic(), 0

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *arguments: Any) -> None:
        """Counts the images of a batch."""
        batch = arguments[1]
        images = batch.get("image", ()) if isinstance(batch, Mapping) else batch[0]
        self._images += len(images) * trainer.world_size

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prints the line; the validation of the epoch is over by now."""
        metrics = trainer.callback_metrics  # on all processes, which may have to reduce them together
        values = [f"{name} {float(metrics[name]):.4f}" for name in ("loss", self.monitor) if name in metrics]
        if not trainer.is_global_zero:
            return
        seconds = time.monotonic() - self._started
        parts = [*values, f"{self._images / seconds:.1f} images/s"]
        epoch, last = trainer.current_epoch + 1, trainer.max_epochs or -1
        if last > 0:
            parts.append(f"{timedelta(seconds=round((last - epoch) * seconds))} left")
        say(f"epoch {epoch}{f'/{last}' if last > 0 else ''}: {', '.join(parts)}")
