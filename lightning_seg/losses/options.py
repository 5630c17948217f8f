"""The arguments that losses share, as types, so that a loss that adds its own hands on the others as `**options`."""

import inspect
from collections.abc import Iterable
from functools import wraps
from inspect import Parameter
from typing import Any, Literal, TypedDict, Unpack, get_args, get_origin

from lightning_seg.task import Task

Classes = Literal["all", "present"] | Iterable[int]
Reduction = Literal["mean", "sum", "none"]
Average = Literal["macro", "micro"]


class SharedOptions(TypedDict, total=False):
    """Of every loss, whatever tasks it is for."""

    ignore_index: int | None
    class_weights: Iterable[float] | None
    sync_dist: bool


class LossOptions(SharedOptions, total=False):
    """Of every loss of any task; see `Loss`."""

    task: Task


class PixelOptions(LossOptions, total=False):
    """Of a mean over pixels."""

    per_image: bool
    reduction: Reduction


class ClassOptions(LossOptions, total=False):
    """Of a mean over classes."""

    classes: Classes
    per_image: bool


class PooledRegionOptions(ClassOptions, total=False):
    """Of a ratio of sums over all classes."""

    smooth: float


class RegionOptions(PooledRegionOptions, total=False):
    """Of a ratio of sums; see `RegionLoss`."""

    average: Average


class DistanceOptions(ClassOptions, total=False):
    """Of a mean of costs that depend on distances; see `DistanceLoss`."""

    spacing: Iterable[float] | None


class HingeOptions(SharedOptions, total=False):
    """Of a Lovász extension, but for the task."""

    method: Literal["histogram", "sort"]


def name_options(cls: type) -> None:
    """Gives a constructor that takes `**options: Unpack[<a TypedDict>]` these arguments by name, and no others.

    `inspect.signature`, and so `help`, show them with the defaults of the constructor that `cls` inherits.

    Args:
        cls: a class, whose constructor is replaced if it takes such options.
    """
    init = cls.__dict__.get("__init__")
    if init is None:
        return
    own = inspect.signature(init).parameters
    names = {
        name
        for parameter in own.values()
        if parameter.kind is Parameter.VAR_KEYWORD and get_origin(parameter.annotation) is Unpack
        for name in get_args(parameter.annotation)[0].__annotations__
    }
    if not names:
        return
    inherited = inspect.signature(super(cls, cls).__init__).parameters  # type: ignore[arg-type]
    named = [parameter for parameter in own.values() if parameter.kind is not Parameter.VAR_KEYWORD]
    named += [parameter for name, parameter in inherited.items() if name in names and name not in own]

    @wraps(init)
    def checked(self: Any, *arguments: Any, **options: Any) -> None:
        for name in options:
            if name not in names and name not in own:
                raise TypeError(f"{cls.__name__}.__init__() got an unexpected keyword argument {name!r}")
        init(self, *arguments, **options)

    checked.__signature__ = inspect.Signature(named, return_annotation=None)  # type: ignore[attr-defined]
    cls.__init__ = checked  # type: ignore[misc]
