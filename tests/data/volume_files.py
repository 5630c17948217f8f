"""Volumes of a bright box in files of every kind."""

from pathlib import Path

import numpy as np


def affine(spacing: tuple[float, float, float] = (1.0, 1.0, 1.0), axes: str = "RAS") -> np.ndarray:
    """Of axes that point to what the letters say."""
    import nibabel

    codes = nibabel.orientations.axcodes2ornt(tuple(axes))
    matrix = np.eye(4)
    matrix[:3, :3] = 0
    for axis, (place, sign) in enumerate(codes):
        matrix[int(place), axis] = sign * spacing[axis]
    matrix[:3, 3] = (-10, 20, 30)
    return matrix


def write(path: Path, voxels: np.ndarray, matrix: np.ndarray | None = None) -> Path:
    """A volume in a file whose suffix says its kind."""
    import nibabel
    import nrrd

    path.parent.mkdir(parents=True, exist_ok=True)
    matrix = affine() if matrix is None else matrix
    if path.suffix == ".npy":
        np.save(path, voxels)
    elif path.suffix == ".nrrd":
        lps = np.diag([-1.0, -1, 1, 1]) @ matrix
        directions = [list(lps[:3, axis]) for axis in range(3)] + [[np.nan] * 3] * (voxels.ndim - 3)
        header = {"space": "left-posterior-superior", "space directions": directions, "space origin": lps[:3, 3]}
        nrrd.write(str(path), voxels, header)
    else:
        nibabel.save(nibabel.Nifti1Image(voxels, matrix), path)
    return path


def scene(size: tuple[int, int, int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A box of class 1 and one of class 2 in noise, int16, and their labels, uint8."""
    random = np.random.default_rng(seed)
    mask = np.zeros(size, np.uint8)
    a, b, c = (side // 2 for side in size)
    mask[1:a, 1:b, 1:c], mask[a + 1 : -1, b:-1, c:-1] = 1, 2
    return (mask.astype(np.int16) * 400 + random.integers(0, 100, size)).astype(np.int16), mask


def write_cases(root: Path, counts: dict[str, int], size: tuple[int, int, int] = (20, 24, 16)) -> Path:
    """Cases of splits, as `data=volumes` expects them."""
    for split, count in counts.items():
        for index in range(count):
            image, mask = scene(size, index)
            matrix = affine((1.0, 1.0, 2.0), "LPS" if index % 2 else "RAS")
            write(root / split / "images" / f"case{index}.nii.gz", image, matrix)
            write(root / split / "masks" / f"case{index}.nii.gz", mask, matrix)
    return root
