"""Decoded images, or volumes, and masks, kept in memory or in a file, for all processes that load them."""

import mmap
import shutil
import tempfile
from collections.abc import Sequence
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from lightning_seg.data.image_files import ImageFileError
from lightning_seg.memory import check_memory
from lightning_seg.text import number_of, text_logger

log = text_logger(__name__)

PLACES = ("memory", "disk")


_ALIGNED = 8  # bytes, at a multiple of which each tensor begins


class SampleCache:
    """Images and masks, each read once by whichever process needs it first.

    Processes that this one starts by forking, as data loaders do, share it; it is gone when the last of them ends.

    Args:
        place: `memory`, or `disk` for a file of the system's folder of temporary files, without a name.
        image_shapes: of each image.
        mask_shapes: of each mask.
        image_dtype: of all images.
        mask_dtype: of all masks.
        what: for messages, `train`.
        kind: likewise, `image` or `volume`.

    Raises:
        MemoryError: it does not fit into memory.
        OSError: it does not fit on the disk.
    """

    def __init__(
        self,
        place: str,
        image_shapes: Sequence[tuple[int, ...]],
        mask_shapes: Sequence[tuple[int, ...]],
        *,
        image_dtype: torch.dtype,
        mask_dtype: torch.dtype,
        what: str,
        kind: str = "image",
    ) -> None:
        self._shapes = list(zip(image_shapes, mask_shapes, strict=True))
        self._dtypes = image_dtype, mask_dtype
        ends, end = [], _aligned(len(self._shapes))  # first a byte for each sample, 1 once it is there
        for shapes in self._shapes:
            for shape, dtype in zip(shapes, self._dtypes, strict=True):
                ends.append(end)
                end += _aligned(prod(shape) * dtype.itemsize)
        self._starts = ends
        if place == "memory":
            check_memory(end, f"data.cache=memory of {what}")
            self._buffer = mmap.mmap(-1, end)
        else:
            folder = tempfile.gettempdir()
            free = shutil.disk_usage(folder).free
            if end > free:
                raise OSError(
                    f"data.cache=disk of {what} takes {end / 2**30:.1f} GiB, and {folder} has {free / 2**30:.1f}: "
                    "set TMPDIR to a folder on a larger disk, or leave the cache out."
                )
            with tempfile.TemporaryFile() as file:
                file.truncate(end)
                self._buffer = mmap.mmap(file.fileno(), end)
        self._bytes = torch.frombuffer(self._buffer, dtype=torch.uint8)
        log.info("data.cache=%s keeps %s of %s, %.2f GiB", place, number_of(len(self._shapes), kind), what, end / 2**30)

    def get(self, index: int) -> tuple[Tensor, Tensor] | None:
        """Image and mask, which are not to be changed; None before they are put."""
        return self._places(index) if self._bytes[index] else None

    def put(self, index: int, image: Tensor, mask: Tensor, path: Path) -> None:
        """Keeps an image and its mask.

        Raises:
            ImageFileError: they are of another dtype or shape than all, or than was said before.
        """
        if (image.dtype, mask.dtype) != self._dtypes:
            kinds = [str(dtype).removeprefix("torch.") for dtype in (image.dtype, self._dtypes[0])]
            raise ImageFileError(
                f"{path} is of {kinds[0]}, and data.cache keeps {kinds[1]}, as the first image is: leave the cache out."
            )
        if (tuple(image.shape), tuple(mask.shape)) != self._shapes[index]:
            raise ImageFileError(f"{path} changed size while it was in use.")
        for place, tensor in zip(self._places(index), (image, mask), strict=True):
            place.copy_(tensor)
        self._bytes[index] = 1

    def _places(self, index: int) -> tuple[Tensor, Tensor]:
        image, mask = (
            self._bytes[start : start + prod(shape) * dtype.itemsize].view(dtype).view(shape)
            for start, shape, dtype in zip(
                self._starts[2 * index : 2 * index + 2], self._shapes[index], self._dtypes, strict=True
            )
        )
        return image, mask


def _aligned(size: int) -> int:
    return -(-size // _ALIGNED) * _ALIGNED
