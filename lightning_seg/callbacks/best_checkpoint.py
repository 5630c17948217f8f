"""The checkpoint of the best epoch, and a test of just what it holds."""

import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from lightning.pytorch.trainer import call
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from lightning_seg.files import atomic_write

# What only a training that resumes reads, which `last.ckpt` is for; an optimizer's state is twice the weights.
_FOR_RESUMING = ("loops", "current_model_state", "averaging_state", "training_state")


class BestCheckpoint(ModelCheckpoint):
    """Lightning's `ModelCheckpoint`, for which the file `best.ckpt` is always the best of all epochs.

    - An epoch whose monitored value is NaN or infinite, as where all masks are void, is not the best of anything.
    - With `save_top_k` above 1, or -1 for all, each checkpoint has a name of its own, `best-<epoch>-<step>.ckpt`, and
      `best.ckpt` is another name of the best one. (Lightning's would write them all over each other.)
    - It holds weights and configuration, and nothing that only a training that resumes would read.
    - A training that resumes in a folder that was moved continues with the best one that lies there.

    Args:
        dirpath: the folder.
        filename: the name of the best, without `.ckpt`.
        monitor: the logged value that decides.
        mode: `max` or `min`.
        save_top_k: how many are kept; -1 for all.
        options: see `ModelCheckpoint`.
    """

    def __init__(
        self,
        dirpath: str | Path,
        filename: str = "best",
        *,
        monitor: str | None = None,
        mode: str = "max",
        save_top_k: int = 1,
        **options: Any,
    ) -> None:
        self._best_name = filename
        several = save_top_k not in (0, 1) and "{" not in filename
        super().__init__(
            dirpath,
            f"{filename}-{{epoch}}-{{step}}" if several else filename,
            monitor=monitor,
            mode=mode,
            save_top_k=save_top_k,
            **{"auto_insert_metric_name": False, "enable_version_counter": False, **options},
        )

    @property
    def state_key(self) -> str:
        """That of `ModelCheckpoint`, so that trainings begun with it go on."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes the names of checkpoints in its folder, wherever that lay before; no others, which it would remove."""
        before = str(state_dict.get("dirpath"))
        names = ("best_model_path", "kth_best_model_path", "last_model_path")
        scores = state_dict.get("best_k_models", {})
        numbers = [*scores.values(), *(state_dict.get(name) for name in ("best_model_score", "kth_value"))]
        if not all(one is None or isinstance(one, Tensor | float) for one in numbers):
            raise ValueError("a checkpoint to resume from has scores of its best epochs that are not numbers.")
        best = {self._here(path, before): score for path, score in scores.items()}
        best.pop("", None)
        paths = {name: self._here(state_dict.get(name, ""), before) for name in names}
        super().load_state_dict({**state_dict, "dirpath": str(self.dirpath), **paths, "best_k_models": best})

    def _here(self, path: str, before: str) -> str:
        """A path below the folder `before` as one below this folder; empty for any other, and through a link."""
        if not path or not Path(path).is_relative_to(before):
            return ""
        folder, relative = Path(str(self.dirpath)), Path(path).relative_to(before)
        within = (folder / relative).resolve().is_relative_to(folder.resolve())
        return str(folder / relative) if ".." not in relative.parts and within else ""

    def check_monitor_top_k(self, trainer: Trainer, current: Tensor | None = None) -> bool:
        """Whether an epoch is to be kept."""
        if current is not None and not bool(torch.isfinite(torch.as_tensor(current)).all()):
            return False
        return super().check_monitor_top_k(trainer, current)

    def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        connector, save = trainer._checkpoint_connector, trainer.strategy.save_checkpoint
        checkpoint = connector.dump_checkpoint(weights_only=True)
        call._call_callbacks_on_save_checkpoint(trainer, checkpoint)  # which add the configuration and average weights
        save({name: part for name, part in checkpoint.items() if name not in _FOR_RESUMING}, filepath)
        trainer.strategy.barrier("BestCheckpoint")
        self._last_global_step_saved, self._last_checkpoint_saved = trainer.global_step, filepath
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                logger.after_save_checkpoint(self)

    def _update_best_and_save(self, current: Tensor, trainer: Trainer, monitor_candidates: dict[str, Tensor]) -> None:
        super()._update_best_and_save(current, trainer, monitor_candidates)
        best = Path(self.best_model_path)
        link = best.with_name(f"{self._best_name}{self.FILE_EXTENSION}")
        if trainer.is_global_zero and best != link and "{" not in self._best_name and best.is_file():
            with atomic_write(link, overwrite=True) as temporary:
                try:
                    temporary.hardlink_to(best)
                except OSError:  # a file system without links
                    shutil.copyfile(best, temporary)


class TestedWeights(Callback):
    """Sees to it that a test is one of the weights that a checkpoint gives, whatever other callbacks do to them.

    Lightning's weight averaging, for example, puts the weights before averaging back when it loads a checkpoint. Where
    the weights differ from those in the file as the test begins, those of the file are taken, and it is said. Sharded
    strategies, where no process has the whole, are left as they are.

    Args:
        path: the checkpoint.
    """

    __test__ = False  # for pytest, which takes the name for that of tests

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Compares the weights, with the first batch."""
        whole = isinstance(trainer.strategy, SingleDeviceStrategy | DDPStrategy) and self.path.is_file()
        if batch_idx or dataloader_idx or not whole:
            return
        stored = torch.load(self.path, map_location=pl_module.device, weights_only=True)["state_dict"]
        now = pl_module.state_dict()
        if any(name in now and not torch.equal(now[name], value) for name, value in stored.items()):
            rank_zero_warn(f"a callback has changed the weights; the test is one of those in {self.path}.")
            pl_module.load_state_dict(stored)


@dataclass(frozen=True)
class Kept:
    """What a training has kept.

    Attributes:
        path: the checkpoint to test, None where there is none and the weights are those in memory.
        monitor: what chose it.
        value: the monitored value of these weights; NaN where no epoch was scored.
    """

    path: Path | None
    monitor: str
    value: float


def kept_checkpoint(trainer: Trainer, monitor: str, last: Path) -> Kept:
    """The best checkpoint, or the last one where no epoch was scored.

    Of several callbacks that choose a best one, it is that of `monitor`, or else the first.

    Args:
        trainer: after a training.
        monitor: the score that is asked for.
        last: the checkpoint that the training resumes from.
    """
    checkpoints = [part for part in trainer.checkpoint_callbacks if isinstance(part, ModelCheckpoint)]
    for one in sorted((one for one in checkpoints if one.monitor), key=lambda one: one.monitor != monitor):
        if one.best_model_path and one.best_model_score is not None and math.isfinite(one.best_model_score):
            return Kept(Path(one.best_model_path), str(one.monitor), float(one.best_model_score))
    others = [Path(one.best_model_path) for one in checkpoints if one.best_model_path]
    path = last if last.exists() else next(iter(others), None)
    # Without a callback that chooses, what was scored last is what the last weights have.
    fast_dev_run: bool | int = trainer.fast_dev_run  # type: ignore[attr-defined]
    chooses = not fast_dev_run and any(one.monitor and one.save_top_k != 0 for one in checkpoints)
    value = math.nan if chooses else float(trainer.callback_metrics.get(monitor, math.nan))
    return Kept(path, monitor, value)


def why_unscored(trainer: Trainer, monitor: str) -> str:
    """Why no epoch of a training has a finite score."""
    if trainer.limit_val_batches == 0:
        return "trainer.limit_val_batches=0 leaves validation out"
    if monitor not in trainer.callback_metrics:
        return f"the training ended before a validation that logs {monitor}"
    value = float(trainer.callback_metrics[monitor])
    return f"{monitor} was {value} in each validation, as where the validation masks are nothing but void"
