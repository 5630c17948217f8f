"""What happens to trainings in the tests of the cluster: put into a configuration under `+callbacks`."""

import os
import subprocess
from typing import Any

import lightning


class PreemptOnce(lightning.Callback):
    """Has SLURM send its warning in the middle of the second epoch, unless the job was requeued."""

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        where = (trainer.current_epoch, batch_idx)
        if where == (1, 0) and trainer.is_global_zero and "SLURM_RESTART_COUNT" not in os.environ:
            subprocess.run(["scancel", "--signal=USR1", os.environ["SLURM_JOB_ID"]], check=True)


class FailBeforeRendezvous(lightning.Callback):
    """Fails in the second process before it has met the first one."""

    def __init__(self) -> None:
        if os.environ.get("SLURM_PROCID") == "1":
            raise LookupError("rank one has no such thing")


class FailInTraining(lightning.Callback):
    """Fails in the second process after the first step."""

    def on_train_batch_end(self, trainer: lightning.Trainer, *arguments: Any) -> None:
        if trainer.global_rank == 1:
            raise LookupError("rank one has no such thing")


class CancelJob(lightning.Callback):
    """Ends the job as a person would."""

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        subprocess.run(["scancel", os.environ["SLURM_JOB_ID"]], check=True)
