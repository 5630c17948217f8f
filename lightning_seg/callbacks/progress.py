"""How a training shows where it is: a bar on a terminal, one line an epoch elsewhere."""

import sys
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar

from lightning_seg.runs.scores import is_share, score_text
from lightning_seg.text import say


def progress(monitor: str) -> ProgressBar:
    """A bar where the output is a terminal, else a line an epoch.

    Args:
        monitor: the logged value that a line shows.
    """
    return SpeedBar() if sys.stdout.isatty() else EpochLines(monitor)


class _Speed:
    """Images per second since a moment."""

    def __init__(self) -> None:
        self._started, self._images = time.monotonic(), 0

    def add(self, trainer: Trainer, batch: Any) -> None:
        images = batch.get("image", ()) if isinstance(batch, Mapping) else batch[0]
        self._images += len(images) * trainer.world_size

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    @property
    def images_per_second(self) -> float:
        return self._images / max(self.seconds, 1e-9)


class SpeedBar(RichProgressBar):
    """Lightning's bar, which also shows how many images a second are trained on, and counts epochs from 1."""

    def __init__(self) -> None:
        super().__init__()
        self._speed: _Speed | None = None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins to count."""
        self._speed = _Speed()
        super().on_train_epoch_start(trainer, pl_module)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *arguments: Any) -> None:
        """Counts the images of a batch."""
        if self._speed is not None:
            self._speed.add(trainer, arguments[1])
        super().on_train_batch_end(trainer, pl_module, *arguments)

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """What is shown beside the bar: the logged values, and the speed."""
        shown: dict[str, Any] = {**super().get_metrics(trainer, pl_module)}
        shown.pop("v_num", None)
        shown.update({name: score_text(name, float(value)) for name, value in shown.items() if is_share(name)})
        if self._speed is not None:
            shown["images/s"] = f"{self._speed.images_per_second:.1f}"
        return shown

    def _get_train_description(self, current_epoch: int) -> str:
        last = self.trainer.max_epochs or -1
        return f"Epoch {current_epoch + 1}{f'/{last}' if last > 0 else ''}".ljust(len(self.validation_description))


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
        self._speed = _Speed()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *arguments: Any) -> None:
        """Counts the images of a batch."""
        self._speed.add(trainer, arguments[1])

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prints the line; the validation of the epoch is over by now."""
        metrics = trainer.callback_metrics  # on all processes, which may have to reduce them together
        values = [
            f"{name} {score_text(name, float(metrics[name]))}" for name in ("loss", self.monitor) if name in metrics
        ]
        if not trainer.is_global_zero:
            return
        seconds = self._speed.seconds
        parts = [*values, f"{self._speed.images_per_second:.1f} images/s"]
        epoch, last = trainer.current_epoch + 1, trainer.max_epochs or -1
        if last > 0:
            parts.append(f"{timedelta(seconds=round((last - epoch) * seconds))} left")
        say(f"epoch {epoch}{f'/{last}' if last > 0 else ''}: {', '.join(parts)}")
