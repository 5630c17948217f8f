"""The learning-rate schedule of a training that is resumed with another number of steps than it was started with."""

import math
import warnings

from lightning.pytorch import LightningModule, Trainer

from lightning_seg.schedulers import schedule
from lightning_seg.text import say


def total_steps(trainer: Trainer) -> int | None:
    """The optimizer steps that a training takes as a whole; None where it has no end."""
    steps = trainer.estimated_stepping_batches
    return None if steps == float("inf") else int(steps)


def fit_schedule(trainer: Trainer, module: LightningModule, before: int | None, *, batches_done: int) -> None:
    """Lets the schedule of a resumed training end when the training does, and says what happens to it.

    A scheduler is restored with the number of steps that it was made for: a training that has become longer would go on
    at a learning rate of 0, or see it rise again. It is made anew for the steps that were and those that are to come,
    and put to where the training is.

    Args:
        trainer: as its training starts, with everything restored.
        module: a `SegmentationModule`, or another, whose schedule is left as it is.
        before: the steps of the whole training as it was when the checkpoint was written; None if that does not tell.
        batches_done: of the epoch in progress.
    """
    now = total_steps(trainer)
    if now is None or now == before or len(trainer.lr_scheduler_configs) != 1:
        return
    config, optimizer, done = trainer.lr_scheduler_configs[0], trainer.optimizers[0], trainer.global_step
    factory = getattr(module, "scheduler_factory", None)
    if factory is None and before is not None and trainer.is_global_zero:
        say(f"the learning-rate schedule continues as it was saved, for {before} steps; the training takes {now}.")
    if factory is None or config.interval != "step":
        return
    rate = optimizer.param_groups[0]["lr"]
    steps = done + _steps_left(trainer, now, batches_done)
    for group in optimizer.param_groups:
        group["lr"] = group.get("max_lr", group.get("initial_lr", group["lr"]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that the optimizer has not stepped yet
        scheduler = schedule(factory, optimizer, steps)
        for _ in range(done):
            scheduler.step()
    config.scheduler = scheduler
    new_rate = optimizer.param_groups[0]["lr"]
    if trainer.is_global_zero and not math.isclose(rate, new_rate, rel_tol=1e-6):
        said = "" if before is None else f", not of {before}"
        say(
            f"the learning-rate schedule is now one of {steps} steps{said}: at step {done} the learning rate goes from "
            f"{rate:.3g} to {new_rate:.3g}."
        )


def _steps_left(trainer: Trainer, now: int, batches_done: int) -> int:
    """The optimizer steps to come, with the batches and processes that there are now."""
    if trainer.max_epochs in (None, -1):
        return now - trainer.global_step
    every, batches = trainer.accumulate_grad_batches, trainer.num_training_batches
    in_epoch = math.ceil(batches / every)
    done = in_epoch if batches_done >= batches else batches_done // every
    left = (int(trainer.max_epochs or 0) - trainer.current_epoch) * in_epoch - done
    return left if trainer.max_steps == -1 else min(left, trainer.max_steps - trainer.global_step)
