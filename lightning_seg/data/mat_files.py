"""Masks in MATLAB's files."""

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from scipy.io import loadmat, whosmat
from torch import Tensor

from lightning_seg.data.image_files import ImageFileError
from lightning_seg.data.mask_sources import MaskReader, Size
from lightning_seg.reading import read_bytes

MAT_SUFFIX = ".mat"
_MOST = 2**28  # bytes of a file
_HEADER, _COMPRESSED = 128, 15  # of MATLAB 5
_KINDS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "double", "single", "logical")


@dataclass(frozen=True)
class MatFile:
    """The labels of the only matrix in a file, or `GTcls.Segmentation`, as SBD has them; a `MaskSource`.

    A file's functions and objects are data to SciPy, and not even read here. Files of MATLAB 7.3, which are HDF5, are
    refused.

    Args:
        path: the file.
    """

    shows: ClassVar[str] = "masks are matrices"
    unread: ClassVar[tuple[str, ...]] = ("color_table", "mask_page")
    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def read(self, reader: MaskReader, size: Callable[[], Size]) -> Tensor:
        """See `MaskSource`.

        Raises:
            OSError: the file cannot be read.
            ValueError: it holds no labels, or several matrices.
        """
        labels = self._matrix(read_bytes(self.path, _MOST), reader)
        is_whole = np.issubdtype(labels.dtype, np.integer) or labels.dtype == bool or bool((labels % 1 == 0).all())
        if labels.ndim != 2 or reader.multilabel or not is_whole:
            raise ImageFileError(
                f"mask {self} holds {labels.dtype} of shape {labels.shape}, and one integer for each pixel is expected."
            )
        if labels.size > reader.max_pixels:
            raise ImageFileError(f"mask {self} has {labels.size:,} pixels, and max_pixels={reader.max_pixels:,}.")
        if reader.threshold is not None:
            return torch.from_numpy((labels >= reader.threshold).astype(np.int64))
        whole = labels if labels.dtype == np.uint8 else labels.astype(np.int64)
        return torch.from_numpy(np.array(whole, order="C") if reader.values is None else reader.values(whole, self))

    def _matrix(self, content: bytes, reader: MaskReader) -> npt.NDArray[Any]:
        try:
            _check_expanded(content, 8 * reader.max_pixels)
            there = whosmat(BytesIO(content))
            names = [name for name, shape, kind in there if kind in _KINDS and len(shape) == 2 and min(shape) > 1]
            name = "GTcls" if any(one == "GTcls" for one, _, _ in there) else names[0] if len(names) == 1 else None
            found: Any = None if name is None else loadmat(BytesIO(content), variable_names=[name])[name]
            labels = found["Segmentation"][0, 0] if name == "GTcls" else found
        except Exception as error:  # damaged files raise many kinds
            raise ImageFileError(
                f"mask {self} cannot be read as a MATLAB file: {' '.join(str(error).split())}."
            ) from None
        if not isinstance(labels, np.ndarray) or labels.dtype.kind not in "iufb":
            listed = ", ".join(f"{one} {shape} of {kind}" for one, shape, kind in there) or "nothing"
            raise ImageFileError(f"mask {self} holds {listed}, of which one matrix of labels is not known.")
        return labels


def _check_expanded(content: bytes, most: int) -> None:
    """Refuses a file whose compressed parts are larger than their pixels can be."""
    order = "<" if content[126:128] == b"IM" else ">"
    place = _HEADER
    while place + 8 <= len(content):
        kind, length = struct.unpack(order + "II", content[place : place + 8])
        place += 8
        if kind == _COMPRESSED:
            expander = zlib.decompressobj()
            expander.decompress(content[place : place + length], most)
            if expander.unconsumed_tail:
                raise ValueError(f"a part of it expands to more than {most:,} bytes")
        place += length
