"""What happens to trainings in the tests of launches and sweeps: put into a configuration under `+callbacks`."""

import os
from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningModule, Trainer


class FailOnRank(Callback):
    """Fails on one rank only, when training starts."""

    def __init__(self, rank: int) -> None:
        self.rank = rank

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_rank == self.rank:
            raise LookupError(f"rank {self.rank} has no such thing")


class NoteThreads(Callback):
    """Writes how many threads the training may use."""

    def __init__(self, path: str) -> None:
        self.path = path

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        Path(self.path).write_text(f"{os.getpid()} {torch.get_num_threads()}")
