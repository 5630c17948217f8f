"""Means over pixels, over classes and over images; the mean of nothing is 0, with a gradient of 0."""

import torch
from torch import Tensor

from lightning_seg.losses.engine.distributed import sum_over_processes


def ratio(numerator: Tensor, denominator: Tensor, empty: float = 0.0) -> Tensor:
    """numerator / denominator, and `empty` where the denominator is 0."""
    is_empty = denominator <= 0  # false of NaN, which must show
    # Not torch.where, which makes a tensor of each number, on a GPU by a launch of its own.
    return (numerator / denominator.masked_fill(is_empty, 1)).masked_fill(is_empty, empty)


def mean_over_pixels(values: Tensor, weights: Tensor, per_image: bool, sync: bool) -> Tensor:
    """Σ values / Σ weights, over the batch or for each image.

    Args:
        values: (N, K), already weighted, in the dtype of the sums.
        weights: (N, K).
        per_image: take the ratio for each image, then the mean over the images that have any weight.
        sync: sum over all processes.
    """
    if per_image:
        total = weights.sum(-1)
        return _mean(ratio(values.sum(-1), total).sum(), (total > 0).sum(), sync)
    return _mean(values.sum(), weights.sum(), sync)


def mean_over_classes(
    values: Tensor, counted: Tensor, class_weights: Tensor | None, per_image: bool, sync: bool
) -> Tensor:
    """The weighted mean of `values` over the counted classes, then over the groups that have any.

    Args:
        values: (G, C), finite.
        counted: bool, (G, C).
        class_weights: (C,).
        per_image: the G groups are this process's images; otherwise there is one, the same on all processes.
        sync: take the mean over the images of all processes.
    """
    weights = counted.to(values.dtype)
    if class_weights is not None:
        weights = weights * class_weights.to(values.dtype)
    total = weights.sum(1)
    means = ratio((weights * values).sum(1), total)
    return _mean(means.sum(), (total > 0).sum(), sync) if per_image else means.squeeze(0)


def _mean(total: Tensor, count: Tensor, sync: bool) -> Tensor:
    """total / count, both over all processes."""
    if sync:
        total, count = sum_over_processes(torch.stack([total, count.to(total.dtype)]))
    return ratio(total, count)


def sum_if(sync: bool, values: Tensor) -> Tensor:
    """`values`, or their sum over all processes."""
    return sum_over_processes(values) if sync else values
