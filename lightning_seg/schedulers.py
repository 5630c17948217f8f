"""Learning-rate schedules, over the whole training by optimizer step, or by a score.

Each is a function of the optimizer and of the number of optimizer steps that the training will take, and sets up a
scheduler of `torch.optim`. Choose one as `scheduler=polynomial`, or pass `functools.partial(polynomial, power=0.9)` to
`SegmentationModule`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    LinearLR,
    LRScheduler,
    OneCycleLR,
    PolynomialLR,
    ReduceLROnPlateau,
    SequentialLR,
)


def polynomial(optimizer: Optimizer, total_steps: int, *, power: float, warmup: float) -> LRScheduler:
    """Learning rate `lr · (1 - step / total_steps)^power` (Chen et al., DeepLab, 2017).

    Args:
        optimizer: its learning rates are the highest that are reached.
        total_steps: optimizer steps of the whole training.
        power: 1 falls in a straight line.
        warmup: share of the steps, in [0, 1), in which the learning rate rises linearly before.
    """
    steps = _warmup_steps(total_steps, warmup)
    return _after_warmup(optimizer, PolynomialLR(optimizer, total_iters=total_steps - steps, power=power), steps)


def cosine(optimizer: Optimizer, total_steps: int, *, warmup: float) -> LRScheduler:
    """Learning rate on half a cosine wave from its value to zero (Loshchilov & Hutter, SGDR, 2017).

    Args:
        optimizer: its learning rates are the highest that are reached.
        total_steps: optimizer steps of the whole training.
        warmup: share of the steps, in [0, 1), in which the learning rate rises linearly before.
    """
    steps = _warmup_steps(total_steps, warmup)
    return _after_warmup(optimizer, CosineAnnealingLR(optimizer, T_max=total_steps - steps), steps)


def one_cycle(optimizer: Optimizer, total_steps: int, *, warmup: float) -> LRScheduler:
    """Learning rate up to its value and down again (Smith & Topin, Super-Convergence, 2018).

    Args:
        optimizer: its learning rates are the highest that are reached.
        total_steps: optimizer steps of the whole training.
        warmup: share of the steps, in (0, 1), in which the learning rate rises.
    """
    highest = [group["lr"] for group in optimizer.param_groups]
    return OneCycleLR(optimizer, max_lr=highest, total_steps=total_steps, pct_start=warmup)


def constant(optimizer: Optimizer, total_steps: int) -> LRScheduler:
    """The learning rate that the optimizer was made with, in all of the `total_steps`."""
    return ConstantLR(optimizer, factor=1.0, total_iters=0)


class Plateau(ReduceLROnPlateau):
    """PyTorch's `ReduceLROnPlateau`, with the name of the score that it follows.

    Args:
        optimizer: its learning rates are lowered.
        monitor: the name.
        options: see `ReduceLROnPlateau`.
    """

    def __init__(self, optimizer: Optimizer, monitor: str, **options: Any) -> None:
        super().__init__(optimizer, **options)
        self.monitor = monitor


def plateau(
    optimizer: Optimizer,
    total_steps: int,
    *,
    monitor: str,
    mode: Literal["min", "max"],
    factor: float,
    patience: int,
    min_delta: float,
) -> Plateau:
    """The learning rate times `factor` whenever a score has not improved for more than `patience` epochs.

    Args:
        optimizer: its learning rates are the highest that are reached.
        total_steps: not used.
        monitor: the logged value, of the validation at the end of an epoch.
        mode: whether high or low values are good.
        factor: in (0, 1).
        patience: epochs.
        min_delta: a smaller change is no improvement.
    """
    if not 0 < factor < 1:
        raise ValueError(f"scheduler.factor={factor} must be above 0 and less than 1.")
    return Plateau(
        optimizer, monitor, mode=mode, factor=factor, patience=patience, threshold=min_delta, threshold_mode="abs"
    )


# What the classes of torch that end with a training call its number of steps.
_LENGTHS = {"OneCycleLR": "total_steps", "CosineAnnealingLR": "T_max", "PolynomialLR": "total_iters"}


def schedule(factory: Callable[..., LRScheduler], optimizer: Optimizer, total_steps: int) -> LRScheduler:
    """What a factory makes: a function of the optimizer and the number of steps, or a class of `torch.optim`.

    A class of `torch.optim` is given the optimizer and, where it ends with the training (`OneCycleLR`,
    `CosineAnnealingLR`, `PolynomialLR`) and has no length of its own, the number.

    Raises:
        ValueError: it cannot be made of these, or it follows a score.
    """
    function = factory.func if isinstance(factory, partial) else factory
    given = factory.keywords if isinstance(factory, partial) else {}
    name = getattr(function, "__name__", type(function).__name__)
    try:
        if not str(getattr(function, "__module__", "")).startswith("torch.optim."):
            return factory(optimizer, total_steps)
        if function is ReduceLROnPlateau:
            raise ValueError("ReduceLROnPlateau follows a score: take scheduler=plateau, which says which.")
        length = _LENGTHS.get(name)
        own = given.keys() & {length, "epochs", "steps_per_epoch"}
        return factory(optimizer, **({length: total_steps} if length and not own else {}))
    except TypeError as error:
        raise ValueError(f"{name} cannot be made of an optimizer and a number of steps: {error}.") from error


def _warmup_steps(total_steps: int, warmup: float) -> int:
    if not 0 <= warmup < 1:
        raise ValueError(f"scheduler.warmup={warmup} must be a share of the steps, at least 0 and less than 1.")
    return int(warmup * total_steps)


def _after_warmup(optimizer: Optimizer, scheduler: LRScheduler, steps: int) -> LRScheduler:
    if steps == 0:
        return scheduler
    rise = LinearLR(optimizer, start_factor=1 / steps, total_iters=steps)
    return SequentialLR(optimizer, [rise, scheduler], milestones=[steps])
