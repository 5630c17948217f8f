"""The curves of a training as one CSV file."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from lightning_seg.csv_files import read_csv, write_csv

_FIRST = ["epoch", "step", "learning_rate"]


class EpochCurves(Callback):
    """Writes one row an epoch: `epoch`, `step`, `learning_rate` and every scalar logged in it, training and validation.

    `step` counts optimizer steps, `learning_rate` is that of the epoch's last batch, the largest of the parameter
    groups. A value that was not logged in an epoch is empty (`val/` in epochs without validation), NaN is `nan`.
    Values of the last step (Lightning's `..._step`) are left out. Columns may appear later; the file is rewritten
    whole, at once, each epoch, by the first process.

    A resumed training keeps the rows of the epochs before the one it resumes in. A training that starts from scratch
    moves an earlier file aside, to `curves.1.csv` and so on.

    Args:
        path: the CSV file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._rows: list[dict[str, str]] = []
        self._current: dict[str, str] | None = None
        self._earlier: dict[str, Any] = {}
        self._learning_rate: float | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reads the rows to keep; the trainer knows by now where it resumes."""
        self._rows, self._current, self._earlier = [], None, {}
        if not trainer.is_global_zero or not self.path.exists():
            return
        if trainer.current_epoch == 0 and trainer.global_step == 0:
            self._move_aside()
        else:
            rows = _read(self.path)
            self._rows = [row for row in rows if int(row["epoch"]) < trainer.current_epoch]

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Completes the row of the epoch before."""
        self._complete(trainer)
        # Lightning keeps values of earlier epochs; what is still the same object was not logged again.
        self._earlier = dict(trainer.callback_metrics)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Notes the learning rate; at the epoch's end the scheduler has already stepped."""
        rates = [group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups]
        self._learning_rate = max((float(rate) for rate in rates), default=None)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Adds a row, before the checkpoint of the epoch is written."""
        self._current = {"epoch": str(trainer.current_epoch), "step": str(trainer.global_step)}
        if self._learning_rate is not None:
            self._current["learning_rate"] = str(self._learning_rate)
        self._rows.append(self._current)
        self._update(trainer)

    def state_dict(self) -> dict[str, Any]:
        """The learning rate noted, for a training that resumes after the last batch of an epoch."""
        return {"learning_rate": self._learning_rate}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes it back."""
        self._learning_rate = state_dict["learning_rate"]

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Brings the last row up to date: a training that resumes from this checkpoint keeps it."""
        if self._current is not None:
            self._update(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Completes the last row."""
        self._complete(trainer)

    def _complete(self, trainer: Trainer) -> None:
        # What the module logs in its own on_train_epoch_end comes after that of callbacks.
        if self._current is not None:
            self._update(trainer)
            self._current = None

    def _update(self, trainer: Trainer) -> None:
        assert self._current is not None
        # On every process: reading callback_metrics may reduce over all of them, and hangs where only one does it.
        for name, value in trainer.callback_metrics.items():
            if value is not self._earlier.get(name) and not name.endswith("_step"):
                self._current[name] = str(float(value))
        if trainer.is_global_zero:
            self._write()

    def _write(self) -> None:
        names = {name: None for row in self._rows for name in row}
        columns = [*_FIRST, *(name for name in names if name not in _FIRST)]
        write_csv(self.path, [columns, *([row.get(name, "") for name in columns] for row in self._rows)])

    def _move_aside(self) -> None:
        number = 1
        while (aside := self.path.with_name(f"{self.path.stem}.{number}{self.path.suffix}")).exists():
            number += 1
        self.path.rename(aside)


def _read(path: Path) -> list[dict[str, str]]:
    columns, rows = read_csv(path)
    if "epoch" not in columns:
        raise ValueError(f"{path} has no column `epoch`, so it is not a file of curves: move it away.")
    return [{name: value for name, value in row.items() if value} for row in rows]
