"""Signed distances to the outline of masks."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor


def signed_distance(mask: Tensor, scope: Tensor, spatial: Sequence[int], spacing: Sequence[float] | None) -> Tensor:
    """The Euclidean distance of each pixel to the nearest one on the other side of the mask: φ.

        φ(i) = -min { |i - j| : j in scope, outside the mask }    for i inside the mask
        φ(i) = +min { |i - j| : j in scope, inside the mask }     for i outside of it

    between the centers of pixels, in pixels or in the unit of `spacing`, and not normalized by the size of the image.
    The two sides of an outline in a row of pixels have -1 and +1; no pixel has 0, so that structures of a single pixel
    are inside, too, and the complement of the mask has -φ. The border of the image is not an outline.

    Pixels out of scope have 0 and are on neither side; distances go straight across them, so that an outline hidden
    by void pixels is where the next pixel in scope shows the other side.
    A mask with nothing inside, or nothing outside, has no outline and is 0 everywhere.

    Cost: exact transforms by SciPy on the CPU, two a mask, one thread of torch.get_num_threads() each: on one core
    about 25 ms for a mask of 512 × 512 and 200 ms for one of 96 × 96 × 96, and nothing for one without outline. Masks
    on another device are copied to the host, which waits for them, and their distances back: one byte a pixel there
    for each of mask and scope, and four or eight back.

    Args:
        mask: bool, (N, C, S).
        scope: bool, (N, C, S): the pixels that count.
        spatial: the spatial dimensions that S joins, any number of them.
        spacing: the distance of neighbors in each spatial dimension; None is 1 in all.

    Returns:
        (N, C, S), float64, or float32 on a device without float64; never with a gradient.

    Raises:
        ValueError: spacing has not one number for each spatial dimension.
    """
    if spacing is not None and len(spacing) != len(spatial):
        raise ValueError(
            f"spacing={list(spacing)} has {len(spacing)} numbers and the images have {len(spatial)} spatial dimensions."
        )
    dtype = torch.float32 if mask.device.type == "mps" else torch.float64
    sides = [(side & scope).reshape(-1, *spatial) for side in (mask, ~mask)]
    distances: Tensor = _signed_distance(*sides, list(spacing or []), dtype)
    return distances.reshape(mask.shape)


def checked_spacing(spacing: Iterable[float] | None) -> tuple[float, ...] | None:
    """One positive number for each spatial dimension, from a list or a YAML list."""
    if spacing is None:
        return None
    numbers = None if isinstance(spacing, str | int | float) else tuple(float(number) for number in spacing)
    if not numbers or not all(0 < number < float("inf") for number in numbers):
        raise ValueError(f"spacing={spacing!r} is not a list with one positive number for each spatial dimension.")
    return numbers


# An operator of its own, because torch.compile cannot trace SciPy. It sees constants only: masks have no gradient.
@torch.library.custom_op("lightning_seg::signed_distance", mutates_args=())
def _signed_distance(inside: Tensor, outside: Tensor, spacing: Sequence[float], dtype: torch.dtype) -> Tensor:
    from scipy.ndimage import distance_transform_edt  # here: the losses that need no distances need no SciPy

    sampling = list(spacing) or None
    # Not a tensor: a tensor made in inference mode cannot be written to by other threads, which are not in it.
    distances = np.zeros(inside.shape)
    parts = [part.cpu().numpy() for part in (inside, outside)]

    def fill(index: int) -> None:
        within, without = (part[index] for part in parts)
        if within.any() and without.any():
            out = np.where(without, distance_transform_edt(~within, sampling), 0)
            distances[index] = out - np.where(within, distance_transform_edt(~without, sampling), 0)

    # SciPy releases the interpreter's lock.
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        list(threads.map(fill, range(len(distances))))
    return torch.from_numpy(distances).to(inside.device, dtype)


@_signed_distance.register_fake
def _(inside: Tensor, outside: Tensor, spacing: Sequence[float], dtype: torch.dtype) -> Tensor:
    return torch.empty(inside.shape, dtype=dtype, device=inside.device)
