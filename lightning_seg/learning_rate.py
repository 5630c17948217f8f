"""A learning rate to begin with, from a few steps of training."""

from collections.abc import Callable, Mapping
from tempfile import TemporaryDirectory
from typing import Any

import lightning
from lightning.pytorch.tuner.tuning import Tuner

STEPS = 100
_LOWEST, _HIGHEST = 1e-6, 1.0
# What a single process of a few steps needs otherwise than a training.
_CHANGED = {
    **{"devices": 1, "num_nodes": 1, "strategy": "auto", "max_epochs": -1, "max_time": None},
    **{"num_sanity_val_steps": 0, "check_val_every_n_epoch": 2**31, "val_check_interval": None},
    **{"fast_dev_run": False, "accumulate_grad_batches": 1},
    **{"enable_progress_bar": False, "enable_checkpointing": False, "logger": False, "callbacks": []},
}


def find_learning_rate(
    module: lightning.LightningModule,
    datamodule: lightning.LightningDataModule,
    trainer: Mapping[str, Any],
    build: Callable[[Mapping[str, Any]], lightning.Trainer],
) -> float:
    """The learning rate at which the loss falls fastest, while the rate rises from step to step (Smith, 2017).

    All parameters are trained at the same rate, whatever `parameter_groups` says, for at most 100 steps; it stops when
    the loss is four times its least.

    Args:
        module: what is to be trained; afterwards it is as it was.
        datamodule: what it is to be trained on.
        trainer: the configuration of the trainer, of which the precision, clipping and the like are taken.
        build: makes a trainer of a configuration.

    Raises:
        ValueError: the loss does not fall, or too few steps were made to tell.
    """
    with TemporaryDirectory() as folder:
        made = build({**trainer, **_CHANGED, "max_steps": STEPS, "default_root_dir": folder})
        finder = Tuner(made).lr_find(
            module, datamodule=datamodule, min_lr=_LOWEST, max_lr=_HIGHEST, num_training=STEPS, update_attr=False
        )
    rates, losses = ([], []) if finder is None else (finder.results["lr"], finder.results["loss"])
    rate = finder.suggestion() if finder is not None and len(losses) > 12 else None
    place = rates.index(rate) if rate is not None else 0
    if rate is None or not losses[place + 1] < losses[place - 1]:
        raise ValueError(
            f"find_learning_rate: no learning rate from {_LOWEST} to {_HIGHEST} lowers the loss within {len(losses)} "
            "steps; are these the intended images and masks?"
        )
    return float(rate)
