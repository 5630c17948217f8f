"""Decoded images and masks, kept in memory or in a file, for all processes that load images."""

import mmap
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lightning_seg.data.image_files import ImageFileError
from lightning_seg.memory import check_memory
from lightning_seg.text import text_logger

log = text_logger(__name__)

PLACES = ("memory", "disk")


class SampleCache:
    """Images `(channels, H, W)` and masks, both uint8, each read once by whichever process needs it first.

    Processes that this one starts by forking, as data loaders do, share it; it is gone when the last of them ends.

    Args:
        place: `memory`, or `disk` for a file of the system's folder of temporary files, without a name.
        image_shapes: of each image.
        mask_shapes: of each mask.
        what: for messages.

    Raises:
        MemoryError: it does not fit into memory.
        OSError: it does not fit on the disk.
    """

    def __init__(
        self, place: str, image_shapes: Sequence[tuple[int, ...]], mask_shapes: Sequence[tuple[int, ...]], what: str
    ) -> None:
        self._shapes = list(zip(image_shapes, mask_shapes, strict=True))
        sizes = [int(np.prod(image)) + int(np.prod(mask)) for image, mask in self._shapes]
        self._starts = np.cumsum([len(sizes), *sizes])  # first a byte for each sample, 1 once it is there
        total = int(self._starts[-1])
        if place == "memory":
            check_memory(total, f"data.cache=memory of {what}")
            self._buffer = mmap.mmap(-1, total)
        else:
            folder = tempfile.gettempdir()
            free = shutil.disk_usage(folder).free
            if total > free:
                raise OSError(
                    f"data.cache=disk of {what} takes {total / 2**30:.1f} GiB, and {folder} has {free / 2**30:.1f}: "
                    "set TMPDIR to a folder on a larger disk, or leave the cache out."
                )
            with tempfile.TemporaryFile() as file:
                file.truncate(total)
                self._buffer = mmap.mmap(file.fileno(), total)
        self._bytes = torch.frombuffer(self._buffer, dtype=torch.uint8)
        log.info("data.cache=%s keeps %d images of %s, %.2f GiB", place, len(sizes), what, total / 2**30)

    def get(self, index: int) -> tuple[Tensor, Tensor] | None:
        """Image and mask, which are not to be changed; None before they are put."""
        if not self._bytes[index]:
            return None
        image, mask = self._shapes[index]
        start = int(self._starts[index])
        between = start + int(np.prod(image))
        return self._bytes[start:between].view(image), self._bytes[between : int(self._starts[index + 1])].view(mask)

    def put(self, index: int, image: Tensor, mask: Tensor, path: Path) -> None:
        """Keeps an image and its mask.

        Raises:
            ImageFileError: they are not of uint8, or of other shapes.
        """
        if image.dtype != torch.uint8 or mask.dtype != torch.uint8:
            raise ImageFileError(f"{path} has more than 8 bits, and data.cache keeps images of 8: leave the cache out.")
        if (tuple(image.shape), tuple(mask.shape)) != self._shapes[index]:
            raise ImageFileError(f"{path} changed size while it was in use.")
        start = int(self._starts[index])
        self._bytes[start : int(self._starts[index + 1])] = torch.cat([image.reshape(-1), mask.reshape(-1)])
        self._bytes[index] = 1
