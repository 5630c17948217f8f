"""The same losses elsewhere: torch, segmentation-models-pytorch, MONAI, kornia, and Lovász by the book.

A peer is built for a batch, outside of the time that is measured, and imported only then.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.benchmarks.cases import VOID, Batch

Step = Callable[[], Tensor]


class UnableError(Exception):
    """Says why a peer cannot do a case."""


@dataclass(frozen=True)
class Peer:
    """A peer ready to run.

    Attributes:
        step: computes the loss.
        same: our loss, set up to give the same value and gradient; None if no setting does.
        note: what the reader should know.
    """

    step: Step
    same: nn.Module | None
    note: str = ""


# ---- the baseline


def cross_entropy(batch: Batch) -> Step:
    """torch's own, which all are compared with."""
    logits, labels = batch.logits, batch.labels
    if not batch.binary:
        # -100 is never in the labels.
        ignored = VOID if batch.void else -100
        return lambda: F.cross_entropy(logits, labels, ignore_index=ignored)
    if not batch.void:
        target = labels.to(logits.dtype)
        return lambda: F.binary_cross_entropy_with_logits(logits, target)
    valid = labels != VOID
    target, weight, count = (labels * valid).to(logits.dtype), valid.to(logits.dtype), valid.sum()
    return lambda: F.binary_cross_entropy_with_logits(logits, target, weight, reduction="sum") / count


def three_passes(batch: Batch) -> Callable[[], Tensor]:
    """The least that forward and backward can do: read the logits, read them again, and write a gradient."""
    plain = batch.logits.detach()

    def step() -> Tensor:
        plain.sum()
        return plain.clone()

    return step


# ---- Lovász by the book (Berman et al. 2018, Algorithm 1; Yu and Blaschko 2015)


def jaccard_steps(hits: Tensor) -> Tensor:
    """What each pixel adds to the Jaccard loss of a class when the pixels before it are wrong already.

    Args:
        hits: 1 for foreground and 0 for background, the worst error first.
    """
    size = hits.sum()
    left = size - hits.cumsum(0)
    union = size + (1 - hits).cumsum(0)
    jaccard_loss = 1 - left / union
    return torch.cat([jaccard_loss[:1], jaccard_loss.diff()])


def sorting_lovasz_softmax(batch: Batch) -> Peer:
    logits, labels, void = batch.logits, batch.labels, batch.void
    channels = logits.shape[1]

    def step() -> Tensor:
        probabilities = logits.softmax(1, torch.float32).movedim(1, 0).reshape(channels, -1)
        flat = labels.reshape(-1)
        if void:
            valid = flat != VOID
            probabilities, flat = probabilities[:, valid], flat[valid]
        extensions = []
        for index in range(channels):
            foreground = flat == index
            if foreground.any():
                errors = torch.where(foreground, 1 - probabilities[index], probabilities[index])
                ranked, order = errors.sort(descending=True)
                extensions.append(torch.dot(ranked, jaccard_steps(foreground[order].to(ranked.dtype))))
        return torch.stack(extensions).mean()

    return Peer(step, batch.ours("lovasz_softmax"))


def sorting_lovasz_hinge(batch: Batch) -> Peer:
    logits, labels, void = batch.logits, batch.labels, batch.void

    def of_image(scores: Tensor, flat: Tensor) -> Tensor:
        if void:
            valid = flat != VOID
            scores, flat = scores[valid], flat[valid]
        foreground = flat == 1
        ranked, order = (1 - torch.where(foreground, scores, -scores)).sort(descending=True)
        return torch.dot(ranked.relu(), jaccard_steps(foreground[order].to(ranked.dtype)))

    def step() -> Tensor:
        images = zip(logits.float().flatten(1), labels.flatten(1), strict=True)
        return torch.stack([of_image(scores, flat) for scores, flat in images]).mean()

    return Peer(step, batch.ours("lovasz_hinge"))


# ---- segmentation-models-pytorch


def _smp_mode(batch: Batch) -> str:
    return "binary" if batch.binary else "multiclass"


def smp_cross_entropy(batch: Batch) -> Peer:
    from segmentation_models_pytorch.losses import SoftBCEWithLogitsLoss, SoftCrossEntropyLoss

    logits, scale = batch.logits, batch.all_over_valid
    note = "divides by all pixels, scaled here" if batch.void else ""
    if batch.binary:
        target = batch.labels.to(logits.dtype)
        loss = SoftBCEWithLogitsLoss(ignore_index=batch.ignore_index)
        return Peer(lambda: loss(logits, target) * scale, batch.ours("cross_entropy"), note)
    # Its default, None, is a TypeError.
    loss = SoftCrossEntropyLoss(smooth_factor=0.0, ignore_index=batch.ignore_index)
    return Peer(lambda: loss(logits, batch.labels) * scale, batch.ours("cross_entropy"), note)


def _smp_region(batch: Batch, name: str, **arguments: float) -> Step:
    from segmentation_models_pytorch import losses

    loss = getattr(losses, name)(_smp_mode(batch), ignore_index=batch.ignore_index, **arguments)
    return lambda: loss(batch.logits, batch.labels)


def smp_dice(batch: Batch) -> Peer:
    # Its smoothing enters 2·TP twice.
    return Peer(_smp_region(batch, "DiceLoss", smooth=0.5), batch.ours("dice"))


def smp_ce_dice(batch: Batch) -> Peer:
    first, second = cross_entropy(batch), _smp_region(batch, "DiceLoss", smooth=0.5)
    return Peer(lambda: first() + second(), batch.ours("ce_dice"), "its Dice plus torch's cross-entropy")


def smp_jaccard(batch: Batch) -> Peer:
    return Peer(_smp_region(batch, "JaccardLoss", smooth=1.0), batch.ours("jaccard"))


def smp_tversky(batch: Batch) -> Peer:
    return Peer(_smp_region(batch, "TverskyLoss", alpha=0.3, beta=0.7, smooth=1.0), batch.ours("tversky"))


def smp_focal_tversky(batch: Batch) -> Peer:
    step = _smp_region(batch, "TverskyLoss", alpha=0.3, beta=0.7, smooth=1.0, gamma=0.75)
    return Peer(step, None, "raises the mean over classes to the power, not each class")


def smp_focal(batch: Batch) -> Peer:
    step = _smp_region(batch, "FocalLoss", gamma=2.0)
    if batch.binary:
        return Peer(step, batch.ours("focal"))
    return Peer(step, None, "a sigmoid for each class, not a softmax")


def smp_mcc(batch: Batch) -> Peer:
    from segmentation_models_pytorch.losses import MCCLoss

    if not batch.binary:
        raise UnableError("binary only")
    if batch.void:
        raise UnableError("no ignore_index")
    loss, same = MCCLoss(eps=0.0), batch.ours("mcc", smooth=0.0)
    return Peer(lambda: loss(batch.logits.sigmoid(), batch.labels), same, "without smoothing, of probabilities")


def smp_lovasz_softmax(batch: Batch) -> Peer:
    return Peer(_smp_region(batch, "LovaszLoss"), batch.ours("lovasz_softmax"))


def smp_lovasz_hinge(batch: Batch) -> Peer:
    return Peer(_smp_region(batch, "LovaszLoss", per_image=True), batch.ours("lovasz_hinge"))


# ---- MONAI


def _monai(data: Batch, name: str, ignores: bool = False, activation: bool = True, **arguments: Any) -> Step:
    from monai import losses

    if data.void and not ignores:
        raise UnableError("no ignore_index")
    if activation:
        arguments |= {"sigmoid": True} if data.binary else {"softmax": True}
    if ignores:
        arguments["ignore_index"] = data.ignore_index
    loss = getattr(losses, name)(to_onehot_y=not data.binary, **arguments)
    target = data.labels.to(data.logits.dtype) if data.binary else data.labels.unsqueeze(1)
    return lambda: loss(data.logits, target)


def _monai_dice(data: Batch, **arguments: Any) -> Step:
    return _monai(data, "DiceLoss", ignores=True, batch=True, **arguments)


def monai_dice(batch: Batch) -> Peer:
    return Peer(_monai_dice(batch, smooth_nr=1.0, smooth_dr=1.0), batch.ours("dice"))


def monai_ce_dice(batch: Batch) -> Peer:
    if not batch.void:
        step = _monai(batch, "DiceCELoss", batch=True, smooth_nr=1.0, smooth_dr=1.0)
        return Peer(step, batch.ours("ce_dice"))
    first, second = cross_entropy(batch), _monai_dice(batch, smooth_nr=1.0, smooth_dr=1.0)
    note = "DiceCELoss has no ignore_index: its DiceLoss plus torch's cross-entropy"
    return Peer(lambda: first() + second(), batch.ours("ce_dice"), note)


def monai_jaccard(batch: Batch) -> Peer:
    return Peer(_monai_dice(batch, jaccard=True, smooth_nr=2.0, smooth_dr=2.0), batch.ours("jaccard"))


def monai_tversky(batch: Batch) -> Peer:
    arguments: dict[str, Any] = {"alpha": 0.3, "beta": 0.7, "smooth_nr": 1.0, "smooth_dr": 1.0}
    return Peer(_monai(batch, "TverskyLoss", ignores=True, batch=True, **arguments), batch.ours("tversky"))


def monai_generalized_dice(batch: Batch) -> Peer:
    # Unlike ours, it adds its smoothing to sums that are weighed already.
    step = _monai(batch, "GeneralizedDiceLoss", batch=True, smooth_nr=0.0, smooth_dr=0.0)
    return Peer(step, batch.ours("generalized_dice", smooth=0.0), "without smoothing")


def monai_focal(batch: Batch) -> Peer:
    step = _monai(batch, "FocalLoss", ignores=True, activation=False, gamma=2.0, use_softmax=not batch.binary)
    if batch.binary or batch.void:
        return Peer(step, batch.ours("focal"))
    channels = batch.logits.shape[1]
    return Peer(lambda: step() * channels, batch.ours("focal"), "divides by the number of classes, scaled here")


def monai_mcc(batch: Batch) -> Peer:
    step = _monai(batch, "MCCLoss", batch=True, smooth_dr=0.0)
    return Peer(step, batch.ours("mcc", smooth=0.0), "without smoothing")


def monai_boundary(batch: Batch) -> Peer:
    return Peer(_monai(batch, "BoundaryLoss"), None, "distances inside are less by 1")


def monai_hausdorff(batch: Batch) -> Peer:
    note = "" if batch.binary else "a class is predicted where p > 1/2, not where it is greatest"
    return Peer(_monai(batch, "HausdorffDTLoss"), batch.ours("hausdorff"), note)


def monai_cldice(batch: Batch) -> Peer:
    return Peer(_monai(batch, "SoftclDiceLoss"), None, "the classes of an image in one ratio, not a mean over classes")


# ---- kornia


def _kornia_check(batch: Batch, two_dimensional: bool, ignores: bool = True) -> None:
    if two_dimensional and batch.logits.ndim != 4:
        raise UnableError("2-D only")
    if batch.void and not ignores:
        raise UnableError("no ignore_index")


def kornia_dice(batch: Batch) -> Peer:
    from kornia.losses import dice_loss

    _kornia_check(batch, two_dimensional=True)
    if batch.binary:
        raise UnableError("multiclass only")
    same = batch.ours("dice", smooth=0.0, per_image=True, classes="present")
    arguments: dict[str, Any] = {"average": "macro", "ignore_index": batch.ignore_index}
    return Peer(lambda: dice_loss(batch.logits, batch.labels, **arguments), same, "per image only")


def kornia_tversky(batch: Batch) -> Peer:
    from kornia.losses import tversky_loss

    _kornia_check(batch, two_dimensional=True)
    if batch.binary:
        raise UnableError("multiclass only")
    same = batch.ours("tversky", smooth=0.0, per_image=True, classes="present")
    arguments: dict[str, Any] = {"alpha": 0.3, "beta": 0.7, "ignore_index": batch.ignore_index}
    return Peer(lambda: tversky_loss(batch.logits, batch.labels, **arguments), same, "per image only")


def kornia_focal(batch: Batch) -> Peer:
    from kornia.losses import binary_focal_loss_with_logits, focal_loss

    arguments: dict[str, Any] = {"alpha": None, "gamma": 2.0, "reduction": "mean", "ignore_index": batch.ignore_index}
    scale, logits, labels = batch.all_over_valid, batch.logits, batch.labels
    if batch.binary:
        target = labels.to(logits.dtype)
        note = "divides by all pixels, scaled here" if batch.void else ""
        return Peer(
            lambda: binary_focal_loss_with_logits(logits, target, **arguments) * scale, batch.ours("focal"), note
        )
    scale *= logits.shape[1]
    note = "divides by the number of classes and by all pixels, scaled here"
    return Peer(lambda: focal_loss(logits, labels, **arguments) * scale, batch.ours("focal"), note)


def kornia_lovasz_softmax(batch: Batch) -> Peer:
    from kornia.losses import lovasz_softmax_loss

    _kornia_check(batch, two_dimensional=True, ignores=False)
    same = batch.ours("lovasz_softmax", per_image=True, classes="all")
    # Up to 0.8.x it sorts the label numbers, which the check of values shows.
    return Peer(lambda: lovasz_softmax_loss(batch.logits, batch.labels), same, "per image only, absent classes count")


def kornia_lovasz_hinge(batch: Batch) -> Peer:
    from kornia.losses import lovasz_hinge_loss

    _kornia_check(batch, two_dimensional=True, ignores=False)
    labels = batch.labels.squeeze(1)
    return Peer(lambda: lovasz_hinge_loss(batch.logits, labels), batch.ours("lovasz_hinge"))


PEERS: dict[str, dict[str, Callable[[Batch], Peer]]] = {
    "cross_entropy": {"smp": smp_cross_entropy},
    "dice": {"smp": smp_dice, "monai": monai_dice, "kornia": kornia_dice},
    "ce_dice": {"smp": smp_ce_dice, "monai": monai_ce_dice},
    "focal": {"smp": smp_focal, "monai": monai_focal, "kornia": kornia_focal},
    "lovasz_softmax": {
        "sorting": sorting_lovasz_softmax,
        "smp": smp_lovasz_softmax,
        "kornia": kornia_lovasz_softmax,
    },
    "lovasz_hinge": {"sorting": sorting_lovasz_hinge, "smp": smp_lovasz_hinge, "kornia": kornia_lovasz_hinge},
    "jaccard": {"smp": smp_jaccard, "monai": monai_jaccard},
    "tversky": {"smp": smp_tversky, "monai": monai_tversky, "kornia": kornia_tversky},
    "focal_tversky": {"smp": smp_focal_tversky},
    "generalized_dice": {"monai": monai_generalized_dice},
    "mcc": {"smp": smp_mcc, "monai": monai_mcc},
    "boundary": {"monai": monai_boundary},
    "hausdorff": {"monai": monai_hausdorff},
    "cldice": {"monai": monai_cldice},
}
