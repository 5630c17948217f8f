"""Scores of single cases with distances in millimeters, by MONAI's functions."""

import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array = npt.NDArray[np.float64]


class CaseScores(NamedTuple):
    """Of each class, float64 `(num_classes,)`; NaN where a class is in neither, or a distance is not defined.

    `dice`; `hausdorff95`: the 95 % Hausdorff distance in millimeters, `inf` where one of both lacks the class;
    `surface_dice`: the share of both surfaces that lies within the tolerance of the other.
    """

    dice: Array
    hausdorff95: Array
    surface_dice: Array


def case_scores(
    prediction: Tensor,
    target: Tensor,
    valid: Tensor,
    num_classes: int,
    *,
    spacing: Sequence[float],
    tolerance: float,
    distances: bool,
) -> CaseScores:
    """Scores of one volume.

    Args:
        prediction: labels `(X, Y, Z)`, in the binary task 0 and 1.
        target: likewise.
        valid: bool `(X, Y, Z)`; void voxels are of no class.
        num_classes: 1 in the binary task, whose class is 1.
        spacing: millimeters between voxels.
        tolerance: of the surface Dice, in millimeters.
        distances: whether the last two are computed, which takes MONAI and, for each class, a second or so.

    Raises:
        ImportError: MONAI is not installed.
    """
    classes = range(num_classes) if num_classes > 1 else [1]
    one, other = (torch.stack([(part == index) & valid for index in classes]) for part in (prediction, target))
    sizes, both = (one.flatten(1).sum(1) + other.flatten(1).sum(1)).double(), (one & other).flatten(1).sum(1).double()
    dice = (2 * both / sizes).numpy()
    undefined = np.full(len(dice), np.nan)
    if not distances:
        return CaseScores(dice, undefined, undefined)
    found = _distances(one[None], other[None], spacing, tolerance)
    empty = sizes.numpy() == 0
    return CaseScores(dice, *(np.where(empty, np.nan, values) for values in found))


def _distances(one: Tensor, other: Tensor, spacing: Sequence[float], tolerance: float) -> tuple[Array, Array]:
    """By class, of masks `(1, C, X, Y, Z)`."""
    try:
        metrics: Any = import_module("monai.metrics")
    except ImportError as error:
        raise ImportError(
            'distances of volumes are computed by MONAI: pip install "lightning-seg[volumes]".'
        ) from error
    given: dict[str, Any] = {"include_background": True, "spacing": [float(length) for length in spacing]}
    masks = one.float(), other.float()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes that a case lacks, whose scores are said below
        hausdorff = metrics.compute_hausdorff_distance(*masks, percentile=95, **given)
        surface = metrics.compute_surface_dice(*masks, class_thresholds=[tolerance] * one.shape[1], **given)
    lacks = ~(one.flatten(2).any(2) & other.flatten(2).any(2))[0].numpy()
    distance = np.where(lacks, np.inf, hausdorff[0].double().numpy())
    return distance, np.where(lacks, 0.0, surface[0].double().numpy())
