"""The checkpoint that a training resumes from."""

import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn

from lightning_seg.callbacks.interruption import StopSignals, TrainingInterrupted, requeue_job
from lightning_seg.callbacks.resumed_schedule import fit_schedule
from lightning_seg.callbacks.training_state import (
    KEY,
    add_training_state,
    check_optimizers,
    log_again,
    restore_logged,
    restore_training_state,
    updated_metrics,
)
from lightning_seg.files import atomic_write, remove_partials
from lightning_seg.text import printable, say


class LastCheckpoint(Checkpoint):
    """Writes the checkpoint to resume from: at each epoch's end, every few minutes, and when a signal asks to stop.

    On SIGTERM, SIGUSR1, SIGHUP (a closed terminal) or SIGINT (Ctrl-C) the optimizer step in progress is finished, on
    several processes the same one on all of them, the checkpoint is written, and `TrainingInterrupted` is raised; a
    second Ctrl-C ends the process at once. In SLURM the job is requeued after SIGUSR1, its warning before the time
    limit. (Lightning's own handlers write in the middle of whatever the signal interrupts, or not at all; they are
    replaced.)

    A training that is resumed from this checkpoint, with `Trainer.fit(..., ckpt_path=path)`, ends as if it had never
    stopped: random numbers, metrics and means of logged values are restored, of each process. On a CPU the weights are
    the same bit for bit, if the loader gives the batches that were to come, as those of `SegmentationDataModule` do.
    One that was stopped early (by `EarlyStopping`, for example) stays so.
    With another number of steps, as of a training that is made longer, the schedule is fitted to it, see
    `lightning_seg.callbacks.resumed_schedule`.
    With another number of processes random numbers and metrics start anew, and in the middle of an epoch the images
    that are left are those of the new division.

    All checkpoints of the trainer, not only this one, appear whole: they are written beside their place and then moved
    to it, so that a process that is killed in between leaves the one before.

    Args:
        path: the file, `.../last.ckpt` by convention.
        every_minutes: a checkpoint is written when the last one is older; 0 for each step, None for epochs only.

    Raises:
        ValueError: `every_minutes` is not such a number.
    """

    def __init__(self, path: str | Path, every_minutes: float | None) -> None:
        if isinstance(every_minutes, str) or (every_minutes is not None and not every_minutes >= 0):
            raise ValueError(
                f"every_minutes={every_minutes} is not a number of minutes: give 0 or more, or null to write a "
                "checkpoint at the end of each epoch only."
            )
        self.path = Path(path)
        self.every_minutes = every_minutes
        self._signals = StopSignals()
        self._state: dict[str, Any] | None = None
        self._logged: dict[str, Any] = {}
        self._training_metrics: list[str] | None = None
        self._step = 0
        self._written = 0.0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Sees to it that checkpoints appear whole, and removes what a killed process left of one."""
        if stage != "fit":
            return
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = WholeCheckpointIO()
        if trainer.is_global_zero:
            remove_partials(self.path.parent)

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listens to signals from here on, which Lightning has done since just before."""
        self._signals.listen()

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keeps what `on_train_start` restores; a training that was stopped early is not continued."""
        if trainer.state.fn == TrainerFn.FITTING and KEY in checkpoint:
            self._state = checkpoint[KEY]
            trainer.should_stop = self._state["should_stop"]
            if trainer.should_stop and trainer.is_global_zero:
                say(f"{trainer.ckpt_path}: this training was stopped early, so it is not continued.")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restores what Lightning has not."""
        self._signals.listen()
        self._step, self._written, self._logged = trainer.global_step, time.monotonic(), {}
        check_optimizers(trainer, pl_module)
        if self._state is None:
            return
        batches_done = trainer.fit_loop.batch_idx + 1 if self._state["in_epoch"] else 0
        fit_schedule(trainer, pl_module, self._state.get("total_steps"), batches_done=batches_done)
        if not self._state["in_epoch"]:
            trainer.fit_loop.epoch_loop.restarting = False  # With max_steps Lightning would end the epoch once more.
        elif trainer.progress_bar_callback is not None:
            # Lightning leaves the hook out in the middle of an epoch, and a bar would have neither a name nor an end.
            trainer.progress_bar_callback.on_train_epoch_start(trainer, pl_module)
        if len(self._state["processes"]) == trainer.world_size:
            self._logged = restore_training_state(self._state, trainer, pl_module)
        else:
            rank_zero_warn(
                f"{printable(trainer.ckpt_path)} was written by {len(self._state['processes'])} processes and is "
                f"resumed by {trainer.world_size}: the random state starts anew, and so do the scores of the epoch in "
                "progress."
            )
            self._state = None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops, if a signal arrived while an epoch ended; its checkpoint is written."""
        signum, _ = self._agreed(trainer)
        if signum:
            self._stop(trainer, signum)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Writes and stops after an optimizer step, unless validation or the epoch's end comes next."""
        restore_logged(self._logged, trainer)
        self._state, self._logged = None, {}
        if trainer.global_step == self._step:  # Gradients are being accumulated, and no checkpoint holds them.
            return
        self._step = trainer.global_step
        if not _validation_may_follow(trainer):
            self._write_or_stop(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes which metrics are those of the training; a validation that is interrupted is done again."""
        self._signals.listen()
        self._training_metrics = list(updated_metrics(pl_module))

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Writes and stops; the training then resumes with this validation, from its beginning."""
        if not trainer.sanity_checking:
            self._write_or_stop(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on all metrics are those of the training."""
        self._training_metrics = None

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes, after the best checkpoint was chosen."""
        if self._state is not None and self._state["in_epoch"]:
            log_again(self._state, trainer, pl_module)
        self._state, self._logged = None, {}
        self._write(trainer)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listens to signals in the test, too."""
        self._signals.listen()

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Stops; the test is then done again."""
        self._write_or_stop(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Adds what Lightning leaves out, to this and every other checkpoint of the training."""
        if trainer.state.fn == TrainerFn.FITTING:
            metrics = self._training_metrics if trainer.validating else None
            add_training_state(checkpoint, trainer, pl_module, metrics, resumed=self._state)

    def _write_or_stop(self, trainer: Trainer) -> None:
        signum, due = self._agreed(trainer)
        if signum or due:
            self._write(trainer)
        if signum:
            self._stop(trainer, signum)

    def _agreed(self, trainer: Trainer) -> tuple[int, bool]:
        """A signal that any process has received, or 0, and whether the first process finds a checkpoint due."""
        age = time.monotonic() - self._written
        due = self.every_minutes is not None and age >= 60 * self.every_minutes and trainer.is_global_zero
        if trainer.world_size == 1:
            return self._signals.received, due
        values = torch.tensor([self._signals.received, int(due)], device=trainer.strategy.root_device)
        signum, any_due = trainer.strategy.reduce(values, reduce_op="max").tolist()
        return signum, bool(any_due)

    def _write(self, trainer: Trainer) -> None:
        if trainer.state.fn == TrainerFn.FITTING and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            trainer.save_checkpoint(self.path)
            self._written = time.monotonic()

    def _stop(self, trainer: Trainer, signum: int) -> None:
        done = f"{self.path} holds step {trainer.global_step}" if self.path.exists() else "nothing was trained yet"
        outcome = requeue_job(signum) if trainer.is_global_zero else ""
        trainer.strategy.barrier()  # srun may end them all with the first that ends, before the job is requeued
        raise TrainingInterrupted(signum, f"{done}; {outcome}")


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and moves it there, on local file systems."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Leaves at `path` what was there, if it is interrupted."""
        if storage_options is not None or "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        with atomic_write(path, overwrite=True) as partial:
            torch.save(checkpoint, partial)


def _validation_may_follow(trainer: Trainer) -> bool:
    """Whether a validation, or the end of the epoch, may come right after this training batch."""
    every = trainer.val_check_batch
    loop = trainer.fit_loop
    batches = (loop.total_batch_idx if trainer.check_val_every_n_epoch is None else loop.batch_idx) + 1
    return trainer.is_last_batch or (every not in (None, float("inf")) and batches % every == 0)
