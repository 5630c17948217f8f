"""The formulas of the scores, each a ratio of pixel counts read from a confusion matrix.

A numerator and a denominator are exact int64 counts; only their quotient is floating, in float32. A denominator of
zero means that there is nothing to score, and the quotient is NaN.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from lightning_seg.task import Task

Average = Literal["macro", "micro", "none"]
Ratio = Callable[[Tensor, Task, int | None], tuple[Tensor, Tensor]]


def check_average(average: str, allowed: tuple[str, ...] = ("macro", "micro", "none")) -> None:
    """Raise `ValueError` unless `average` is one of the allowed names."""
    if average not in allowed:
        raise ValueError(f"average={average!r} is unknown; give one of {', '.join(map(repr, allowed))}.")


def iou_ratio(matrix: Tensor, task: Task, ignore_index: int | None) -> tuple[Tensor, Tensor]:
    """Intersection and union of each class, two int64 tensors `(..., C)`: TP and P + T - TP."""
    overlap, predicted, actual = class_counts(matrix, task, ignore_index)
    return overlap, predicted + actual - overlap


def dice_ratio(matrix: Tensor, task: Task, ignore_index: int | None) -> tuple[Tensor, Tensor]:
    """Twice the intersection and the two sizes of each class, two int64 tensors `(..., C)`: 2·TP and P + T."""
    overlap, predicted, actual = class_counts(matrix, task, ignore_index)
    return 2 * overlap, predicted + actual


def accuracy_ratio(matrix: Tensor, task: Task, ignore_index: int | None) -> tuple[Tensor, Tensor]:
    """Correct decisions and all decisions, two int64 tensors `(..., C)`.

    Multiclass: of the pixels that are truly the class. Binary and multilabel: of all valid pixels of the channel.
    """
    if task == "multiclass":
        overlap, _, actual = class_counts(matrix, task, ignore_index)
        return overlap, actual
    channels = _with_channels(matrix, task)
    return channels.diagonal(dim1=-2, dim2=-1).sum(-1), channels.sum((-2, -1))


def average_ratio(numerator: Tensor, denominator: Tensor, average: Average) -> Tensor:
    """Score `(...)` ("macro", "micro") or `(..., C)` ("none") of class counts `(..., C)`, float32.

    "macro" is the mean of the class scores that exist, "micro" one ratio over all classes, "none" every class's own.
    """
    if average == "micro":
        return numerator.sum(-1).float() / denominator.sum(-1).float()
    scores = numerator.float() / denominator.float()
    return scores.nanmean(-1) if average == "macro" else scores


def class_counts(matrix: Tensor, task: Task, ignore_index: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """TP, P and T of each class; rows of the matrix are the target, columns the prediction."""
    if task != "multiclass":
        channels = _with_channels(matrix, task)
        return channels[..., 1, 1], channels[..., :, 1].sum(-1), channels[..., 1, :].sum(-1)
    counts = matrix.diagonal(dim1=-2, dim2=-1), matrix.sum(-2), matrix.sum(-1)
    if ignore_index is None:
        return counts
    # An ignored class can still be predicted: the other classes then miss a pixel, but it has no score of its own.
    scored = torch.arange(matrix.shape[-1], device=matrix.device) != ignore_index
    overlap, predicted, actual = (count * scored for count in counts)
    return overlap, predicted, actual


def _with_channels(matrix: Tensor, task: Task) -> Tensor:
    return matrix.unsqueeze(-3) if task == "binary" else matrix
