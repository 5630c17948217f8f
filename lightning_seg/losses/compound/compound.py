"""Weighted sums of losses."""

from collections.abc import Iterable, Mapping
from functools import reduce
from operator import or_
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lightning_seg.losses.boundary.distance_loss import shared_distance_loss
from lightning_seg.losses.boundary.target import from_third_argument
from lightning_seg.losses.compound.weight_schedule import WeightSchedule
from lightning_seg.losses.engine.interface import ClassSums, Requirements
from lightning_seg.losses.loss import Loss, checked_weights, not_negative
from lightning_seg.losses.options import Classes
from lightning_seg.losses.pixel.cross_entropy import CrossEntropyLoss
from lightning_seg.losses.region.dice import DiceLoss
from lightning_seg.task import Task


class CompoundLoss(nn.Module):
    """Σ_k weight_k · term_k(logits, target).

    The terms of this package share one look at the logits. Any other module that is called with logits and target may
    be a term too. Terms must agree on `task` and `ignore_index`, where they have them.

    A weight may follow a schedule over epochs, which `set_epoch` moves on; `SegmentationModule` calls it. The attribute
    `weights` holds the numbers in force, in training and in evaluation; those without a schedule may be changed at any
    time. A term of weight 0 is computed all the same.

    The attribute `last_values` holds the value of each term in the last call, before its weight and without gradient.

    Shapes, void pixels and absent classes: as in each term. Soft targets: where every term takes them.

    Args:
        terms: the losses by name, each giving a scalar.
        weights: for each name a number, 0 or more, or a function from the epoch, counted from 0, to one, such as
            `LinearWeight`.

    Raises:
        ValueError: there are no terms, names differ, a weight is out of range, or terms disagree.
    """

    def __init__(self, *, terms: Mapping[str, nn.Module], weights: Mapping[str, float | WeightSchedule]) -> None:
        super().__init__()
        if not terms:
            raise ValueError("CompoundLoss got no terms; give at least one loss.")
        if set(terms) != set(weights):
            raise ValueError(f"terms are {sorted(terms)} and weights are for {sorted(weights)}; give each term one.")
        for name, term in terms.items():
            if getattr(term, "reduction", "mean") == "none":
                raise ValueError(f"the term {name} has reduction='none'; a sum of losses needs scalars.")
        self.terms = nn.ModuleDict(dict(terms))
        self.schedules = {name: weight for name, weight in weights.items() if callable(weight)}
        self.weights = {
            name: not_negative(weight(0) if callable(weight) else weight, f"weights[{name!r}]")
            for name, weight in weights.items()
        }
        if not self.schedules and not any(self.weights.values()):
            raise ValueError(f"the weights of {', '.join(terms)} are all 0, so that nothing would be learned.")
        self.last_values: dict[str, Tensor] = {}
        self.task: Task | None = self._agreed("task")
        self.ignore_index: int | None = self._agreed("ignore_index")

    def forward(self, logits: Tensor, target: Tensor, distances: Tensor | None = None) -> Tensor:
        """The weighted sum, a scalar; shapes, dtypes and errors are those of the terms.

        Args:
            logits: as the terms take them.
            target: as the terms take it.
            distances: deprecated; a target carries them, see `with_distances`.
        """
        if distances is not None:
            target = from_third_argument(target, distances)
        values = self._term_values(logits, target)
        self.last_values = {name: value.detach() for name, value in values.items()}
        # A weight of 0 leaves nothing out: DistributedDataParallel waits for the gradient of every parameter.
        weights = self.weights
        first, *others = (value if weights[name] == 1 else weights[name] * value for name, value in values.items())
        total: Tensor = sum(others, start=first)
        return total

    def named_values(self) -> dict[str, Tensor]:
        """The value of each term in the last call, and of the terms of compounds within it as `<outer>/<inner>`.

        A compound inside another module of a term, such as `DeepSupervisionLoss` or one that torch.compile made, has
        the names of the attributes on the way to it, without `loss`.
        """
        values = {}
        for name, term in self.terms.items():
            if name in self.last_values:
                values[name] = self.last_values[name]
            for path, compound in compounds_within(term):
                inner = compound.named_values()
                values |= {"/".join([name, *path, inner_name]): value for inner_name, value in inner.items()}
        return values

    def forget_values(self) -> None:
        """Forgets the values of the last call, also of compounds within this."""
        for part in self.modules():
            if isinstance(part, CompoundLoss):
                part.last_values = {}

    def target_distances(self, target: Tensor, num_classes: int) -> Tensor:
        """The distances that the terms read, to be computed once and kept; see `DistanceLoss.target_distances`.

        Raises:
            ValueError: no term reads distances, or terms differ in spacing or in the list of classes that count.
        """
        term = shared_distance_loss(self)
        if term is None:
            raise ValueError(f"no term of {sorted(self.terms)} takes distances.")
        return term.target_distances(target, num_classes)

    @property
    def of_sums(self) -> bool:
        """Whether every term is a function of sums over all pixels; see `Loss.of_sums`."""
        return all(getattr(term, "of_sums", False) for term in self.terms.values())

    @property
    def requires(self) -> Requirements:
        """What the terms of this package read, together."""
        return reduce(or_, (term.requires for term in self.terms.values() if isinstance(term, Loss | CompoundLoss)))

    def summed(self, logits: Tensor, target: Tensor) -> ClassSums | None:
        """See `Loss.summed`; None if a term is not a function of sums, or two read histograms of different errors."""
        leaves = [part for part in self.modules() if isinstance(part, Loss)]
        histograms = {loss.requires.errors for loss in leaves} - {"none"}
        if not self.of_sums or len(histograms) > 1 or target.is_floating_point():
            return None
        with torch.no_grad():
            return leaves[0].read(logits, target, self.requires).sums.over_images()

    def from_summed(self, sums: ClassSums) -> Tensor:
        """See `Loss.from_summed`; with the weights in force."""
        values = [
            self.weights[name] * term.from_summed(sums)
            for name, term in self.terms.items()
            if isinstance(term, Loss | CompoundLoss)
        ]
        return torch.stack(values).sum()

    def set_epoch(self, epoch: int) -> None:
        """Gives the terms that have a schedule the weight of an epoch, counted from 0; also in compounds within this.

        Raises:
            ValueError: a schedule gave a weight that is out of range.
        """
        for compound in self.modules():
            if isinstance(compound, CompoundLoss):
                for name, schedule in compound.schedules.items():
                    compound.weights[name] = not_negative(schedule(epoch), f"weights[{name!r}]({epoch})")

    def _term_values(self, logits: Tensor, target: Tensor) -> dict[str, Tensor]:
        own = {name: term for name, term in self.terms.items() if isinstance(term, Loss)}
        values = {name: term(logits, target) for name, term in self.terms.items() if name not in own}
        if own:
            # The term that refuses soft targets speaks for all.
            strictest = sorted(own.values(), key=lambda term: term.soft_targets)[0]
            requires = reduce(or_, (term.requires for term in own.values()))
            statistics = strictest.read(logits, target, requires)
            with torch.autocast(logits.device.type, enabled=False):
                values |= {name: term.from_statistics(statistics) for name, term in own.items()}
        return {name: values[name] for name in self.terms}

    def _agreed(self, argument: str) -> Any:
        values = {name: getattr(term, argument) for name, term in self.terms.items() if hasattr(term, argument)}
        if len(set(values.values())) > 1:
            listed = ", ".join(f"{name} has {value!r}" for name, value in values.items())
            raise ValueError(f"the terms of a compound loss must agree on {argument}: {listed}.")
        return next(iter(values.values()), None)


def compounds_within(module: nn.Module) -> list[tuple[tuple[str, ...], CompoundLoss]]:
    """The outermost compound losses of a module, itself if it is one, with the names of the attributes on the way.

    Names that say nothing are left out: `loss`, and those of torch.compile.
    """
    if isinstance(module, CompoundLoss):
        return [((), module)]
    return [
        ((name, *path) if name not in ("loss", "_orig_mod") else path, compound)
        for name, child in module.named_children()
        for path, compound in compounds_within(child)
    ]


class CrossEntropyDiceLoss(CompoundLoss):
    """Cross-entropy plus Dice, the pair that trains well from scratch (Isensee et al. 2021, nnU-Net).

        cross_entropy_weight · CrossEntropyLoss + dice_weight · DiceLoss

    Shapes, void pixels and soft targets: as in both. Absent classes: as in `DiceLoss`.

    Args:
        cross_entropy_weight: of the first term, a number or a schedule; see `CompoundLoss`.
        dice_weight: of the second.
        label_smoothing: of cross-entropy.
        smooth: of Dice, added once to both sides of its ratio.
        squared: of Dice, sums of squares in the denominator.
        average: of Dice, macro or micro.
        classes: of Dice, all, present, or a list of class indices.
        task: of both terms: multiclass, multilabel or binary.
        ignore_index: the label of void pixels.
        class_weights: one number for each class; not in the binary task.
        per_image: average over images rather than over the batch.
        sync_dist: over all processes.

    Raises:
        ValueError: as the terms say.
    """

    def __init__(
        self,
        *,
        cross_entropy_weight: float | WeightSchedule = 1.0,
        dice_weight: float | WeightSchedule = 1.0,
        label_smoothing: float = 0.0,
        smooth: float = 1.0,
        squared: bool = False,
        average: Literal["macro", "micro"] = "macro",
        classes: Classes = "all",
        task: Task = "multiclass",
        ignore_index: int | None = None,
        class_weights: Iterable[float] | None = None,
        per_image: bool = False,
        sync_dist: bool = False,
    ) -> None:
        class_weights = checked_weights(class_weights, "class_weights")  # an iterator serves one term only
        cross_entropy = CrossEntropyLoss(
            label_smoothing=label_smoothing,
            task=task,
            ignore_index=ignore_index,
            class_weights=class_weights,
            per_image=per_image,
            sync_dist=sync_dist,
        )
        dice = DiceLoss(
            smooth=smooth,
            squared=squared,
            average=average,
            classes=classes,
            task=task,
            ignore_index=ignore_index,
            class_weights=class_weights,
            per_image=per_image,
            sync_dist=sync_dist,
        )
        super().__init__(
            terms={"cross_entropy": cross_entropy, "dice": dice},
            weights={"cross_entropy": cross_entropy_weight, "dice": dice_weight},
        )
