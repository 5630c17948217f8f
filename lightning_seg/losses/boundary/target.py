"""Targets that carry the distances of their masks."""

import warnings
from typing import Any

import torch
from torch import Tensor


class TargetWithDistances(Tensor):
    """Labels that are like any others, and the distances that boundary losses need of them, see `with_distances`.

    What is computed from it is a plain tensor; a slice of the batch, or of the spatial axes as `[..., rows, columns]`,
    keeps its part of the distances.
    """

    distances: Tensor

    # As in torch.nn.Parameter, and torch.compile knows it.
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    def __getitem__(self, index: Any) -> Tensor:
        part = self.as_subclass(Tensor)[index]
        is_spatial = isinstance(index, tuple) and bool(index) and index[0] is Ellipsis
        return with_distances(part, self.distances[index]) if is_spatial or isinstance(index, slice) else part


def with_distances(target: Tensor, distances: Tensor) -> Tensor:
    """A target for any loss, with distances of it that were computed before.

        distances = loss.target_distances(target, num_classes)   # in the process that loads the images
        loss(logits, with_distances(target, distances))

    `BoundaryLoss` and `HausdorffDistanceLoss`, alone or in a `CompoundLoss`, take them instead of computing their own;
    to all other losses, and to metrics, it is the target as it was.

    Args:
        target: labels `(N, *spatial)`, or in the logits' shape.
        distances: what `target_distances` of the loss gave for it: `(N, C, *spatial)`, floating point. Whatever they
            hold at void pixels changes nothing.

    Returns:
        The labels, sharing their memory.
    """
    carrying = target.as_subclass(TargetWithDistances)
    carrying.distances = distances
    return carrying


def distances_of(target: Tensor) -> Tensor | None:
    """The distances that a target carries, if any."""
    return target.distances if isinstance(target, TargetWithDistances) else None


def from_third_argument(target: Tensor, distances: Tensor) -> Tensor:
    """The target of a call `loss(logits, target, distances)`, as it was written until now."""
    warnings.warn(
        "loss(logits, target, distances) is deprecated and will be removed in the next release; "
        "use loss(logits, lightning_seg.losses.with_distances(target, distances)) instead.",
        FutureWarning,
        stacklevel=5,
    )
    return with_distances(target, distances)
