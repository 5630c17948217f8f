"""What is measured: the losses, the shapes and the data."""

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

VOID = 255

Shape = tuple[int, ...]

SHAPES: tuple[Shape, ...] = (
    (4, 12, 360, 480),
    (2, 21, 512, 512),
    (1, 150, 512, 512),
    (8, 1, 512, 512),
    (1, 4, 96, 96, 96),
)
CUDA_SHAPES: tuple[Shape, ...] = ((8, 19, 512, 1024), (2, 4, 128, 128, 128))

# The losses that the table has floors for, on every shape; the rest of the family on one, unless --all.
TABLE_LOSSES = ("cross_entropy", "dice", "ce_dice", "focal", "lovasz_softmax", "lovasz_hinge")
FAMILY_SHAPE: Shape = (4, 12, 360, 480)
# Where a case takes a minute for each thread count: without void only, unless --all.
LARGE_SHAPE: Shape = (1, 150, 512, 512)


def _single(name: str, **arguments: Any) -> Callable[..., nn.Module]:
    def build(**common: Any) -> nn.Module:
        loss: nn.Module = _losses(name)(**arguments | common)
        return loss

    return build


def _pair(first: str, second: str) -> Callable[..., nn.Module]:
    def build(**common: Any) -> nn.Module:
        terms = {name: _losses(name)(**common) for name in (first, second)}
        compound: nn.Module = _losses("CompoundLoss")(terms=terms, weights=dict.fromkeys(terms, 1.0))
        return compound

    return build


def _losses(name: str) -> Callable[..., Any]:
    try:
        found: Callable[..., Any] = getattr(importlib.import_module("lightning_seg.losses"), name)
    except AttributeError:
        raise NotLandedError(f"lightning_seg.losses has no {name}") from None
    return found


class NotLandedError(Exception):
    """A loss, or an argument of it, that the package does not have."""


LOSSES: dict[str, Callable[..., nn.Module]] = {
    "cross_entropy": _single("CrossEntropyLoss"),
    "dice": _single("DiceLoss"),
    "ce_dice": _single("CrossEntropyDiceLoss"),
    "focal": _single("FocalLoss"),
    "lovasz_softmax": _single("LovaszSoftmaxLoss"),
    "lovasz_hinge": _single("LovaszHingeLoss"),
    "ohem": _single("OhemCrossEntropyLoss"),
    "top_k": _single("TopKCrossEntropyLoss"),
    "poly": _single("PolyCrossEntropyLoss"),
    "jaccard": _single("JaccardLoss"),
    "tversky": _single("TverskyLoss", alpha=0.3, beta=0.7),
    "focal_tversky": _single("FocalTverskyLoss", alpha=0.3, beta=0.7),
    "generalized_dice": _single("GeneralizedDiceLoss"),
    "log_cosh_dice": _single("LogCoshDiceLoss"),
    "mcc": _single("MCCLoss"),
    "ce_lovasz": _pair("CrossEntropyLoss", "LovaszSoftmaxLoss"),
    "focal_dice": _pair("FocalLoss", "DiceLoss"),
    "boundary": _single("BoundaryLoss"),
    "hausdorff": _single("HausdorffDistanceLoss"),
    "cldice": _single("SoftClDiceLoss"),
}
ONLY_MULTICLASS = ("lovasz_softmax", "ce_lovasz")
ONLY_BINARY = ("lovasz_hinge",)
# They work on maps of distances or skeletons, which do not fit in the memory of a pass over the logits.
BEYOND_ONE_PASS = ("boundary", "hausdorff", "cldice")


@dataclass(frozen=True)
class Case:
    """One loss on one kind of data, with a number of threads; its rounds hold all that is compared."""

    loss: str
    shape: Shape
    void: bool
    threads: int


def cases(
    losses: list[str], shapes: list[Shape], void: list[bool], threads: list[int], everything: bool
) -> Iterator[Case]:
    """The cases to measure: those that exist of the choices, by default without the slow and less telling ones."""
    for shape, loss in product(shapes, losses):
        if loss in (ONLY_MULTICLASS if shape[1] == 1 else ONLY_BINARY):
            continue
        by_default = loss in TABLE_LOSSES or shape == FAMILY_SHAPE
        for number, has_void in product(threads, void):
            reduced = has_void and (shape == LARGE_SHAPE or loss not in TABLE_LOSSES or number != max(threads))
            if everything or (by_default and not reduced):
                yield Case(loss, shape, has_void, number)


@dataclass(frozen=True)
class Batch:
    """Logits as a leaf, and labels as most losses take them.

    Attributes:
        logits: (N, C, *spatial).
        labels: int64, (N, *spatial), if binary (N, 1, *spatial).
        void: whether labels hold `VOID`.
    """

    logits: Tensor
    labels: Tensor
    void: bool

    @property
    def binary(self) -> bool:
        return self.logits.shape[1] == 1

    @property
    def ignore_index(self) -> int | None:
        return VOID if self.void else None

    @property
    def all_over_valid(self) -> float:
        """What a mean over all pixels is multiplied by to be one over valid pixels."""
        return self.labels.numel() / int((self.labels != VOID).sum())

    def ours(self, loss: str, **arguments: Any) -> nn.Module:
        """Our loss for this data."""
        task = "binary" if self.binary else "multiclass"
        return LOSSES[loss](task=task, ignore_index=self.ignore_index, **arguments)


def make_batch(shape: Shape, void: bool, device: str, dtype: torch.dtype) -> Batch:
    """Blocks of classes, and logits that are mostly right about them, as those of a network are."""
    generator = torch.Generator().manual_seed(0)
    images, channels, *spatial = shape
    block = 8
    coarse = [-(-size // block) for size in spatial]
    cells = torch.randint(max(channels, 2), (images, *coarse), generator=generator)
    # Peers differ about absent classes.
    present = torch.arange(max(channels, 2))[: cells[0].numel()]
    cells.view(images, -1)[:, : len(present)] = present
    labels = cells
    for dimension, size in enumerate(spatial, start=1):
        labels = labels.repeat_interleave(block, dimension).narrow(dimension, 0, size)
    certainty = 2 * torch.randn(labels.shape, generator=generator) + 3
    if channels == 1:
        labels, certainty = labels.unsqueeze(1), certainty.unsqueeze(1)
        logits = torch.randn(shape, generator=generator) + certainty * (2 * labels - 1)
    else:
        logits = torch.randn(shape, generator=generator)
        logits.scatter_add_(1, labels.unsqueeze(1), certainty.unsqueeze(1))
    labels = labels.contiguous()
    if void:
        # Outlines and corners are what is void in practice: scattered pixels, and a region.
        labels[torch.rand(labels.shape, generator=generator) < 0.05] = VOID
        labels[..., : spatial[-1] // 16] = VOID
    return Batch(logits.to(device, dtype).requires_grad_(), labels.to(device), void)
