"""Drawing one volume of the embedded data set, and its labels."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from lightning_seg.data.shape_scenes import VOID, color_of

Array = npt.NDArray[Any]
_TETRAHEDRON = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], np.float32) / np.float32(3**0.5)


def draw_volume(generator: np.random.Generator, size: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """A volume of objects on a textured background, as `draw_scene` draws a picture of them.

    Discs are balls, squares cubes, triangles tetrahedra, lines tubes, and dots small balls.

    Args:
        generator: all randomness comes from it.
        size: of each side, in voxels.

    Returns:
        The image `(size, size, size, 3)`, and labels `(size, size, size)`: indices of `CLASS_NAMES`, and `VOID` in a
        rim one voxel wide around the objects.
    """
    middles = (np.arange(size, dtype=np.float32) + 0.5) / size
    points = np.stack(np.meshgrid(middles, middles, middles, indexing="ij"), -1)
    image = _background(generator, size)
    labels = np.zeros((size, size, size), np.uint8)
    kinds = [int(kind) for kind in generator.integers(1, 4, generator.integers(2, 6))]
    kinds += [4] * int(generator.integers(1, 3)) + [5] * int(generator.integers(1, 5))
    for kind in kinds:
        cover = (0.5 - size * _distance(generator, kind, points, size)).clip(0, 1)
        color = color_of(generator, kind) * (1 + generator.uniform(-0.35, 0.35) * _ramp(generator, points))[..., None]
        image += cover[..., None] * (color - image)
        labels[cover > 0.5] = kind
    image *= (1 + 0.3 * _ramp(generator, points))[..., None]
    image += generator.normal(0, 0.035, image.shape).astype(np.float32)
    grown = F.max_pool3d(torch.from_numpy(labels)[None].float(), 3, stride=1, padding=1)[0].numpy()
    labels[(labels == 0) & (grown > 0)] = VOID
    return (image.clip(0, 1) * 255).round().astype(np.uint8), labels


def _distance(generator: np.random.Generator, kind: int, points: Array, size: int) -> Array:
    """How far each point is from the surface of an object, in sides of the volume; below 0 within it."""
    turn = np.linalg.qr(generator.normal(size=(3, 3)))[0].astype(np.float32)
    offset = (points - generator.uniform(0.12, 0.88, 3).astype(np.float32)) @ turn
    radius = np.float32(generator.uniform(0.12, 0.22))
    if kind == 2:
        return np.asarray(np.abs(offset).max(-1) - np.float32(0.85) * radius)
    if kind == 3:
        return np.asarray((offset @ _TETRAHEDRON.T).max(-1) - np.float32(0.6) * radius)
    if kind == 4:
        offset[..., 0] -= offset[..., 0].clip(-0.3, 0.3)
        radius = np.float32(max(0.04, 1.3 / size))
    if kind == 5:
        radius = np.float32(max(0.05, 1.6 / size))
    return np.asarray(np.sqrt(np.einsum("...i,...i", offset, offset)) - radius)


def _background(generator: np.random.Generator, size: int) -> Array:
    """Dull cloudy colors: coarse noise, enlarged."""
    coarse = generator.uniform(0.25, 0.6) + generator.normal(0, 0.08, (1, 5, 5, 5))
    coarse = coarse + generator.normal(0, 0.025, (3, 5, 5, 5))
    enlarged = F.interpolate(torch.from_numpy(coarse)[None].float(), (size, size, size), mode="trilinear")
    return np.ascontiguousarray(enlarged[0].movedim(0, -1).numpy())


def _ramp(generator: np.random.Generator, points: Array) -> Array:
    """A plane from -1 to 1 in a random direction, which shades."""
    direction = generator.normal(size=3)
    return np.asarray((2 * points - 1) @ (direction / np.abs(direction).sum()).astype(np.float32))
