"""Volumes in files, NIfTI, NRRD and NumPy arrays, with where their voxels lie."""

import bz2
import gzip
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from lightning_seg.data.extras import required
from lightning_seg.data.image_files import ImageFileError
from lightning_seg.memory import check_memory
from lightning_seg.reading import open_regular

VOLUME_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".npy")
MAX_VOXELS = 2**31
_FARTHEST = 1e9  # millimeters
_PACKED: dict[str, Callable[..., Any]] = {"gzip": gzip.open, "gz": gzip.open, "bzip2": bz2.open, "bz2": bz2.open}
Array = npt.NDArray[Any]
_Read = tuple[Callable[[], Array], tuple[int, ...], Array]  # of a file: what reads its voxels, shape and affine
_TO_RIGHT_AND_FRONT = np.diag([-1.0, -1.0, 1.0, 1.0])  # from left, posterior, superior, as NRRD of ITK has it
_UPRIGHT = {"right-anterior-superior": 1, "ras": 1, "left-posterior-superior": -1, "lps": -1}


class VolumeHeader(NamedTuple):
    """What a file says of its voxels: `(X, Y, Z, channels)`, and their places, as of `Volume`."""

    shape: tuple[int, int, int, int]
    affine: npt.NDArray[np.float64]

    @property
    def spacing(self) -> tuple[float, ...]:
        """Millimeters between voxels along each axis."""
        return tuple(float(length) for length in np.linalg.norm(self.affine[:3, :3], axis=0))


class Volume(NamedTuple):
    """Voxels `(X, Y, Z, channels)` in their own type, and their places.

    `affine`: float64 `(4, 4)`, from the indices of a voxel to millimeters to the right, to the front and up.
    """

    voxels: Array
    affine: npt.NDArray[np.float64]

    @property
    def spacing(self) -> tuple[float, ...]:
        """Millimeters between voxels along each axis."""
        return VolumeHeader(self.voxels.shape, self.affine).spacing


def is_volume_file(path: str | Path) -> bool:
    """Whether a file is named as a volume; an array may be an image, too."""
    return Path(path).name.lower().endswith(VOLUME_SUFFIXES)


def read_volume(
    path: str | Path, *, max_voxels: int = MAX_VOXELS, array_spacing: Sequence[float] | None = None
) -> Volume:
    """A volume as it lies in its file.

    Args:
        path: `.nii`, `.nii.gz`, `.nrrd` or `.npy`; of four axes, the channels are the last (of NRRD, the one that has
            no direction).
        max_voxels: a volume of more is refused, before it is read.
        array_spacing: millimeters between the voxels of an array, which does not tell. Default: 1.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ImportError: nibabel or pynrrd is not installed.
        ImageFileError: it is no volume of numbers.
        MemoryError: it does not fit into memory.
    """
    header, voxels = _opened(path, max_voxels, array_spacing)
    with _in_one_line(path):
        return Volume(voxels().reshape(header.shape), header.affine)


def read_header(
    path: str | Path, *, max_voxels: int = MAX_VOXELS, array_spacing: Sequence[float] | None = None
) -> VolumeHeader:
    """What a volume is, without its voxels; see `read_volume`."""
    return _opened(path, max_voxels, array_spacing)[0]


def write_nifti(path: str | Path, voxels: Array, affine: npt.NDArray[np.float64], like: str | Path | None) -> None:
    """Writes a volume with the affine of another, and, where that is NIfTI, its codes and units.

    Args:
        path: `.nii.gz`.
        voxels: `(X, Y, Z)` or `(X, Y, Z, channels)`.
        affine: as that of `Volume`.
        like: the file whose voxels these are of.
    """
    nibabel = required("nibabel", "writing NIfTI")
    made = nibabel.Nifti1Image(voxels, affine)
    made.header.set_xyzt_units("mm")
    if like is not None and Path(like).name.lower().endswith((".nii", ".nii.gz")):
        before = nibabel.load(like).header
        if "qform_code" in before:
            made.set_qform(affine, int(before["qform_code"]))
            made.set_sform(affine, int(before["sform_code"]))
    nibabel.save(made, str(path))


def check_same_place(one: Volume, path: object, other: Volume, its_path: object) -> None:
    """Refuses two volumes whose voxels are not the same places.

    Raises:
        ImageFileError: their shapes or affines differ.
    """
    if one.voxels.shape[:3] != other.voxels.shape[:3]:
        sizes = ["×".join(map(str, volume.voxels.shape[:3])) for volume in (one, other)]
        raise ImageFileError(f"{path} is {sizes[0]} voxels and {its_path} is {sizes[1]}: they must be the same.")
    corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)], float)
    corners[:, :3] *= np.array(one.voxels.shape[:3]) - 1
    apart = np.abs((corners @ one.affine.T - corners @ other.affine.T)[:, :3]).max()
    if apart > 0.1 * min(one.spacing):
        what = "spacing" if not np.allclose(one.spacing, other.spacing, rtol=0.01) else "orientation or origin"
        raise ImageFileError(
            f"{path} and {its_path} differ in {what}, by {apart:.3g} mm at a corner: they must be of the same voxels."
        )


def _opened(
    path: str | Path, max_voxels: int, array_spacing: Sequence[float] | None
) -> tuple[VolumeHeader, Callable[[], Array]]:
    """What a file says, and what reads its voxels."""
    with open_regular(path):
        pass
    name = Path(path).name.lower()
    if not name.endswith(VOLUME_SUFFIXES):
        raise ImageFileError(f"{path} is not a volume: expected a suffix of {' '.join(VOLUME_SUFFIXES)}.")
    read = _array if name.endswith(".npy") else _nrrd if name.endswith(".nrrd") else _nifti
    with _in_one_line(path):
        voxels, shape, affine = read(Path(path), max_voxels, array_spacing)
    affine = np.asarray(affine, np.float64)
    if not (np.abs(affine) <= _FARTHEST).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise ImageFileError(f"{path} does not say where its voxels lie: its affine is {affine.tolist()}.")
    x, y, z, channels = (*shape, 1)[:4]
    return VolumeHeader((x, y, z, channels), affine), voxels


@contextmanager
def _in_one_line(path: str | Path) -> Iterator[None]:
    try:
        with np.errstate(all="ignore"):  # what a header makes too large is refused below
            yield
    except (ImageFileError, ImportError, MemoryError):
        raise
    except Exception as error:  # damaged files raise many kinds
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise ImageFileError(f"{path} cannot be read as a volume: {reason:.300}.") from None


def _nifti(path: Path, max_voxels: int, array_spacing: Sequence[float] | None) -> _Read:
    image = required("nibabel", f"reading {path.name}").load(path)
    shape = tuple(int(side) for side in image.shape)
    if len(shape) == 5 and shape[3] == 1:  # vectors, whose fourth axis is time
        shape = (*shape[:3], shape[4])
    _check_shape(path, shape, image.get_data_dtype(), max_voxels)
    return lambda: np.asarray(image.dataobj), shape, image.affine


def _nrrd(path: Path, max_voxels: int, array_spacing: Sequence[float] | None) -> _Read:
    nrrd = required("nrrd", f"reading {path.name}")
    with open_regular(path) as file:
        header = nrrd.read_header(file)
        if "data file" in header or "datafile" in header:
            raise ImageFileError(f"{path} keeps its voxels in another file: save it as one, with its data attached.")
        if _lines(header) > os.fstat(file.fileno()).st_size:
            raise ImageFileError(f"{path} skips {_lines(header):,} lines, more than it has.")
    shape = tuple(int(side) for side in header["sizes"])
    _check_shape(path, shape, np.dtype(np.float64), max_voxels)
    directions = header.get("space directions")
    if directions is None:
        spacings = np.asarray(header.get("spacings", [1.0] * len(shape)), float)
        directions = np.full((len(shape), 3), np.nan)
        spatial = [axis for axis in range(len(shape)) if len(shape) == 3 or np.isfinite(spacings[axis])][:3]
        for column, axis in enumerate(spatial):
            directions[axis] = np.eye(3)[column] * (spacings[axis] if np.isfinite(spacings[axis]) else 1.0)
    rows = [np.full(3, np.nan) if row is None else np.asarray(row, float) for row in directions]
    channels = [axis for axis, row in enumerate(rows) if not np.isfinite(row).all()]
    if len(shape) - len(channels) != 3 or len(channels) > 1:
        raise ImageFileError(f"{path} has {len(shape)} axes, and three of them must have a direction in space.")
    affine = np.eye(4)
    affine[:3, :3] = np.stack([row for axis, row in enumerate(rows) if axis not in channels], 1)
    affine[:3, 3] = np.asarray(header.get("space origin", np.zeros(3)), float)
    space = str(header.get("space", "left-posterior-superior" if "space directions" in header else "ras")).lower()
    if space not in _UPRIGHT:
        raise ImageFileError(f"{path} has the space {space}, expected one of {', '.join(_UPRIGHT)}.")
    if _UPRIGHT[space] < 0:
        affine = _TO_RIGHT_AND_FRONT @ affine

    def voxels() -> Array:
        with open_regular(path) as file:
            header = nrrd.read_header(file)
            content, header = _unpacked(file, header, path)
            read: Array = nrrd.read_data(header, content, str(path))
            if isinstance(content, BytesIO) and content.read(1):
                raise ImageFileError(f"{path} holds more voxels than its sizes say.")
        return np.moveaxis(read, channels[0], -1) if channels else read

    order = [axis for axis in range(len(shape)) if axis not in channels] + channels
    return voxels, tuple(shape[axis] for axis in order), affine


def _unpacked(file: BinaryIO, header: Mapping[str, Any], path: Path) -> tuple[BinaryIO, dict[str, Any]]:
    """What `nrrd.read_data` reads: compressed voxels as raw ones, no more of them than the sizes say."""
    if header["encoding"] not in _PACKED:
        return file, dict(header)
    for _ in range(_lines(header)):
        file.readline()
    most = 8 * int(np.prod(header["sizes"], dtype=np.int64)) + 2**20  # and what is skipped of them
    with _PACKED[header["encoding"]](file) as packed:
        content = packed.read(most + 1)
    if len(content) > most:
        raise ImageFileError(f"{path} holds more voxels than its sizes say.")
    kept = {key: value for key, value in header.items() if key not in ("lineskip", "line skip")}
    return BytesIO(content), {**kept, "encoding": "raw"}


def _lines(header: Mapping[str, Any]) -> int:
    return int(header.get("lineskip", header.get("line skip", 0)))


def _array(path: Path, max_voxels: int, array_spacing: Sequence[float] | None) -> _Read:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise ImageFileError(f"{path} holds several arrays, and one is expected.")
    _check_shape(path, array.shape, array.dtype, max_voxels)
    spacing = [1.0] * 3 if array_spacing is None else [float(length) for length in array_spacing]
    return lambda: np.array(array), array.shape, np.diag([*spacing, 1.0])


def _check_shape(path: Path, shape: tuple[int, ...], dtype: Any, max_voxels: int) -> None:
    if len(shape) not in (3, 4) or min(shape) < 1:
        raise ImageFileError(f"{path} has the shape {shape}, expected (X, Y, Z) or (X, Y, Z, channels).")
    if not any(np.issubdtype(dtype, kind) for kind in (np.integer, np.floating, np.bool_)):
        raise ImageFileError(f"{path} holds {dtype}, and real numbers are expected.")
    count = math.prod(shape[:3])
    if count > max_voxels:
        raise ImageFileError(f"{path} has {count:,} voxels, and data.max_pixels={max_voxels:,}.")
    check_memory(math.prod(shape) * 8, path)
