"""Whether the memory through which processes hand over batches is large enough; a training hangs where it is not."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

_SHARED = Path("/dev/shm")
_PREFETCHED = 2  # batches of each process of a DataLoader, by default
_PLENTY = 4 * 2**30  # bytes of which no more is asked


def check_shared_memory(dataset: Any, batch_size: int, num_workers: int, training_processes: int = 1) -> None:
    """Refuses processes that load images if the batches that they prepare do not fit into the shared memory.

    One sample is loaded for it where there is little memory, as in containers, whose default is 64 MB.

    Args:
        dataset: what they load.
        batch_size: samples of a batch.
        num_workers: the processes.
        training_processes: those on this machine that each have so many.

    Raises:
        ValueError: it is too small; the message says what to do.
    """
    if num_workers == 0 or not _SHARED.is_dir() or len(dataset) == 0:
        return
    free = shutil.disk_usage(_SHARED).free
    if free >= _PLENTY:
        return
    needed = _bytes(dataset[0]) * batch_size * (_PREFETCHED * num_workers + 1) * training_processes
    if needed > free:
        raise ValueError(
            f"data.num_workers={num_workers} needs {needed / 2**20:,.0f} MiB of shared memory for its batches, and "
            f"{_SHARED} has {free / 2**20:,.0f} MiB free: start the container with more (docker run --shm-size=8g, or "
            "--ipc=host), or use data.num_workers=0 or a smaller data.batch_size."
        )


def _bytes(sample: Any) -> int:
    if isinstance(sample, Tensor):
        return sample.nbytes
    if isinstance(sample, Mapping):
        return sum(map(_bytes, sample.values()))
    return sum(map(_bytes, sample)) if isinstance(sample, list | tuple) else 0
