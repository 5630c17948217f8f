"""Scores of outlines, as counts of single images that add up."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

_ROWS = 512
Labels = npt.NDArray[Any]
Counts = npt.NDArray[np.int64]


def boundary_iou_counts(prediction: Labels, target: Labels, width: int | None = None) -> Counts:
    """Pixels of the intersection and of the union of two masks' boundaries, for boundary IoU.

        |(G_d ∩ G) ∩ (P_d ∩ P)| / |(G_d ∩ G) ∪ (P_d ∩ P)|

    The boundary of a mask is its pixels within `width` of its contour, which the image's border is part of. Cheng et
    al., Boundary IoU, CVPR 2021, https://arxiv.org/abs/2103.16562.

    Args:
        prediction: bool, `(*spatial)`.
        target: likewise.
        width: d in pixels. Default: 2 % of the image's diagonal, as the paper has it.

    Returns:
        Intersection and union.
    """
    if width is None:
        width = max(1, round(0.02 * math.hypot(*target.shape)))
    one, other = (mask & ~_eroded(mask, width) for mask in (prediction, target))
    return np.array([(one & other).sum(), (one | other).sum()], dtype=np.int64)


def surface_dice_counts(prediction: Labels, target: Labels, tolerance: float) -> Counts:
    """Pixels of two masks' surfaces that lie near the other one, and all of them, for the surface Dice.

        (|{p ∈ S_P: d(p, S_G) ≤ τ}| + |{g ∈ S_G: d(g, S_P) ≤ τ}|) / (|S_P| + |S_G|)

    A surface is the pixels of a mask that have a neighbor along an axis outside of it, or outside of the image.
    Nikolov et al. 2018, https://arxiv.org/abs/1809.04430, on pixels.

    Args:
        prediction: bool, `(*spatial)`.
        target: likewise.
        tolerance: τ in pixels, Euclidean.

    Returns:
        Those that are near, and all.
    """
    one, other = (mask & ~_eroded(mask, 1, cross=True) for mask in (prediction, target))
    near = _near(one, other, tolerance) + _near(other, one, tolerance)
    return np.array([near, one.sum() + other.sum()], dtype=np.int64)


def boundary_counts(
    prediction: Labels, target: Labels, valid: Labels, classes: int, tolerance: float
) -> npt.NDArray[np.int64]:
    """Counts of one image for each class, int64 `(classes, 4)`: of boundary IoU and of surface Dice.

    Void pixels belong to no mask.

    Args:
        prediction: labels `(*spatial)`, or bool masks `(classes, *spatial)`.
        target: likewise.
        valid: bool `(*spatial)`, or of the masks' shape.
        classes: how many there are.
        tolerance: of the surface Dice, in pixels.
    """
    counts = np.zeros((classes, 4), np.int64)
    spatial = target.shape if target.dtype != bool else target.shape[1:]
    width = max(1, round(0.02 * math.hypot(*spatial)))
    for index in range(classes):
        one, other = (
            (part[index] if part.dtype == bool else part == index)
            & (valid[index] if valid.ndim > len(spatial) else valid)
            for part in (prediction, target)
        )
        occupied = one | other
        if not occupied.any():
            continue
        # Zeros around what is occupied change nothing.
        axes = set(range(occupied.ndim))
        places = [np.flatnonzero(occupied.any(tuple(axes - {axis}))) for axis in sorted(axes)]
        box = tuple(slice(int(place[0]), int(place[-1]) + 1) for place in places)
        counts[index, :2] = boundary_iou_counts(one[box], other[box], width)
        counts[index, 2:] = surface_dice_counts(one[box], other[box], tolerance)
    return counts


def _near(one: Labels, other: Labels, tolerance: float) -> int:
    """How many pixels of a surface lie within `tolerance` of another one.

    Distances, of 16 bytes a pixel and more, are computed of some rows at a time, and of those that may be near them.
    """
    from scipy.ndimage import distance_transform_edt

    reach, near = math.ceil(min(tolerance, len(one))), 0
    for start in range(0, len(one), _ROWS):
        first = max(0, start - reach)
        own, around = one[start : start + _ROWS], other[first : start + _ROWS + reach]
        if own.any() and around.any():
            distance = distance_transform_edt(~around)[start - first :][: len(own)]
            near += int((distance[own] <= tolerance).sum())
    return near


def _eroded(mask: Labels, width: int, *, cross: bool = False) -> npt.NDArray[np.bool_]:
    """The pixels whose neighbors within `width` along the axes, and by default in the square, are all in the mask."""
    from scipy.ndimage import minimum_filter1d

    bytes_ = mask.astype(np.uint8)
    if not cross:
        for axis in range(mask.ndim):
            bytes_ = minimum_filter1d(bytes_, 2 * width + 1, axis, mode="constant", cval=0)
        return bytes_.astype(bool)
    filtered = [minimum_filter1d(bytes_, 2 * width + 1, axis, mode="constant", cval=0) for axis in range(mask.ndim)]
    inside: npt.NDArray[np.bool_] = np.minimum.reduce(filtered).astype(bool)
    return inside
