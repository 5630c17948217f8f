"""What all losses share: their common arguments and how they are called."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from lightning_seg.losses.engine.interface import ClassSums, Requirements
from lightning_seg.losses.engine.pixels import read_pixels
from lightning_seg.losses.engine.reduction import mean_over_pixels, sum_if
from lightning_seg.losses.engine.statistics import Statistics
from lightning_seg.losses.options import Classes, Reduction, name_options
from lightning_seg.task import Task, check_ignore_index, check_task_name


class Loss(nn.Module, ABC):
    """A loss of logits and target; a subclass writes `from_statistics`.

    A subclass offers those of the arguments below that have a meaning for it.

    Args:
        task: multiclass (softmax over the channels), multilabel or binary (a sigmoid for each channel).
        ignore_index: the label of void pixels: they change neither value nor gradient, whatever logits they hold.
        class_weights: one number for each class, not negative. Means over classes or pixels become weighted means.
        classes: the classes that count: all, those present in the target, or a list of indices.
        per_image: compute the loss of each image and average over those with a valid pixel, rather than of the batch.
        reduction: mean over valid pixels, sum, or none for one value for each pixel, 0 if void.
        sync_dist: in training mode, compute the loss of the batches of all processes as if they were one. Every
            process must then call the loss equally often, which evaluation does not promise.

    Raises:
        ValueError: an argument is out of range or does not go with another.
    """

    soft_targets = False
    # Whether `from_statistics` of a hard target, as a mean, uses sums alone and no map; see `of_sums`.
    sums_suffice = False
    class_weights: Tensor | None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        name_options(cls)

    def __init__(
        self,
        *,
        task: Task = "multiclass",
        ignore_index: int | None = None,
        class_weights: Iterable[float] | None = None,
        classes: Classes = "all",
        per_image: bool = False,
        reduction: Reduction = "mean",
        sync_dist: bool = False,
    ) -> None:
        super().__init__()
        check_task_name(task)
        check_ignore_index(ignore_index)
        if reduction not in get_args(Reduction):
            raise ValueError(f"reduction={reduction!r} is not one of mean, sum, none.")
        if reduction != "mean" and per_image:
            raise ValueError(f"per_image=True averages over images and does not work with reduction={reduction!r}.")
        if reduction == "none" and sync_dist:
            raise ValueError("sync_dist=True sums over processes, and reduction='none' sums nothing.")
        if class_weights is not None and task == "binary":
            raise ValueError(
                "class_weights balance classes against each other, and the binary task has one; "
                "to weight foreground against background use FocalLoss(gamma=0, alpha=...)."
            )
        self.task: Task = task
        self.ignore_index = ignore_index
        self.classes = _checked_classes(classes)
        self.per_image = per_image
        self.reduction: Reduction = reduction
        self.sync_dist = sync_dist
        # Not in the state_dict, so that a checkpoint loads with another loss.
        self.register_buffer("class_weights", checked_weights(class_weights, "class_weights"), persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss, float32 or float64; see `read_pixels` for shapes, dtypes and errors."""
        statistics = self.read(logits, target, self.requires)
        with torch.autocast(logits.device.type, enabled=False):
            return self.from_statistics(statistics)

    @property
    def requires(self) -> Requirements:
        """What `from_statistics` reads of the sums over pixels, beyond those that all losses may read."""
        return Requirements()

    def read(self, logits: Tensor, target: Tensor, requires: Requirements | None = None) -> Statistics:
        """Checks the inputs; what it returns may be given to every loss of the same task and ignore_index.

        Args:
            logits: as in the call.
            target: as in the call.
            requires: what those losses read, together.
        """
        return Statistics(read_pixels(logits, target, self.task, self.ignore_index, self.soft_targets), requires)

    @property
    def of_sums(self) -> bool:
        """Whether the loss is a function of sums over all pixels, so that sums of batches give it for a data set."""
        return self.sums_suffice and not self.per_image and self.reduction == "mean"

    def summed(self, logits: Tensor, target: Tensor) -> ClassSums | None:
        """The sums over a batch, without a gradient, for `from_summed`; None if the loss is not a function of any.

        It is none with `per_image`, with another reduction than the mean, of soft targets, and where the loss reads
        maps (`OhemCrossEntropyLoss`, `TopKCrossEntropyLoss`, `SoftClDiceLoss`, distances, sorting).

        Args:
            logits: as in the call; a batch may have no images.
            target: as in the call.
        """
        if not self.of_sums or target.is_floating_point():
            return None
        with torch.no_grad():
            return self.read(logits, target, self.requires).sums.over_images()

    def from_summed(self, sums: ClassSums) -> Tensor:
        """The loss of all the pixels in sums that were added, a scalar of their dtype: float64, on mps float32.

        Args:
            sums: `summed` of a batch, or of several, added by `+`.
        """
        with torch.no_grad():
            return self.from_statistics(Statistics.of_sums(sums, self.task))

    @abstractmethod
    def from_statistics(self, statistics: Statistics) -> Tensor:
        """The loss; called with autocast off."""

    @property
    def syncs(self) -> bool:
        """Whether sums are to be taken over all processes now."""
        return self.sync_dist and self.training

    def weights_for(self, statistics: Statistics) -> Tensor | None:
        """The class weights in the dtype and on the device of the logits."""
        return per_class(self.class_weights, "class_weights", statistics)

    def weighted(self, sums: Tensor, statistics: Statistics) -> Tensor:
        """Sums by label, (N, C) if multiclass, else (N, C, 2), times the class weights; without, as they are."""
        weights = per_class(self.class_weights, "class_weights", statistics)
        if weights is None:
            return sums
        weights = weights.to(sums.dtype)
        return sums * (weights if sums.ndim == 2 else weights.unsqueeze(1))

    def reduce_sums(self, values: Tensor, weights: Tensor, statistics: Statistics) -> Tensor:
        """Reduces sums (N, *labels) over pixels as `reduction` says; `values` are already times the weights."""
        values, weights = values.flatten(1), weights.flatten(1)
        if self.reduction == "sum":
            return sum_if(self.syncs, values.sum()).to(statistics.pixels.dtype)
        mean = mean_over_pixels(values, weights, self.per_image, self.syncs)
        return mean.to(statistics.pixels.dtype)

    def reduce_map(self, values: Tensor, weights: Tensor, statistics: Statistics) -> Tensor:
        """Reduces a map as `reduction` says; `values` are already times `weights`, the map of the pixels' weights."""
        if self.reduction == "none":
            return values.reshape(statistics.pixels.map_shape)
        values_by_image, weights_by_image = (
            part.reshape(len(part), part[:1].numel()).to(statistics.sum_dtype) for part in (values, weights)
        )
        if self.reduction == "sum":
            return sum_if(self.syncs, values_by_image.sum()).to(values.dtype)
        mean = mean_over_pixels(values_by_image, weights_by_image, self.per_image, self.syncs)
        return mean.to(values.dtype)

    def counted_classes(self, present: Tensor, valid_count: Tensor) -> Tensor:
        """Which classes count in each group, bool (G, C); none where there is no valid pixel."""
        num_classes = present.shape[1]
        counted = valid_count > 0
        if self.classes == "present":
            return counted & present
        if isinstance(self.classes, tuple):
            if max(self.classes) >= num_classes:
                raise ValueError(
                    f"classes={list(self.classes)} do not all exist: the logits have {num_classes} classes."
                )
            chosen = [index in self.classes for index in range(num_classes)]
            # Not made on the device at once, which would make a GPU wait.
            return counted & torch.tensor(chosen).to(present.device, non_blocking=True)
        return counted


def checked_weights(weights: Iterable[float] | None, name: str) -> Tensor | None:
    """A tensor of one number for each class, from a list, a YAML list or a tensor."""
    if weights is None:
        return None
    if isinstance(weights, int | float | str) or (isinstance(weights, Tensor) and weights.ndim != 1):
        hint = ""
        if isinstance(weights, str):
            hint = f"; SegmentationDataModule.class_weights({weights!r}) estimates these from the training masks"
        raise ValueError(f"{name}={weights!r} is not a list with one number for each class{hint}.")
    numbers = [float(weight) for weight in weights]
    if not all(math.isfinite(number) and number >= 0 for number in numbers) or not any(numbers):
        raise ValueError(f"{name}={numbers} must be finite, not negative, and not all 0.")
    return torch.tensor(numbers, dtype=torch.float64).to(torch.get_default_dtype())


def per_class(weights: Tensor | None, name: str, statistics: Statistics) -> Tensor | None:
    """`weights` in the dtype and on the device of the logits, if there is one for each of their channels."""
    if weights is None:
        return None
    num_classes = statistics.pixels.num_classes
    if len(weights) != num_classes:
        raise ValueError(f"{name} has {len(weights)} numbers and the logits have {num_classes} classes.")
    return weights.to(statistics.pixels.raw_logits.device, statistics.pixels.dtype)


def not_negative(value: float, name: str) -> float:
    """`value`, if it is a finite number of 0 or more."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError(f"{name}={value!r} is not a finite number of 0 or more.")
    return float(value)


def _checked_classes(classes: Classes) -> Literal["all", "present"] | tuple[int, ...]:
    if classes == "all" or classes == "present":
        return "all" if classes == "all" else "present"
    indices = () if isinstance(classes, str | int | float) else tuple(classes)
    if not indices or any(not isinstance(index, int) or isinstance(index, bool) or index < 0 for index in indices):
        raise ValueError(f"classes={classes!r} is neither 'all', 'present' nor a list of class indices.")
    if len(set(indices)) < len(indices):
        raise ValueError(f"classes={list(indices)} names a class twice.")
    return indices


def check_numbers_of_classes(loss: nn.Module, num_classes: int) -> None:
    """Refuses a loss of this package, or one that holds some, with numbers for other classes.

    Raises:
        ValueError: it names a class that there is not, or has another number of weights.
    """
    for path, part in loss.named_modules() if isinstance(loss, nn.Module) else ():
        chosen = getattr(part, "classes", None)
        if isinstance(part, Loss) and isinstance(chosen, tuple) and max(chosen) >= num_classes:
            raise ValueError(
                f"loss.classes={list(chosen)} names class {max(chosen)}, and the {num_classes} classes are 0 to "
                f"{num_classes - 1}."
            )
        for name, numbers in part.named_buffers(recurse=False) if isinstance(part, Loss) else ():
            if name in ("class_weights", "alpha") and numbers.ndim == 1 and len(numbers) != num_classes:
                key = ".".join(["loss", *([path] if path else []), name])
                raise ValueError(
                    f"{key} has {len(numbers)} number{'s' * (len(numbers) != 1)}, and there are {num_classes} classes: "
                    "give one for each."
                )
