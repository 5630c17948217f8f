"""Tests in several processes that are one process group: copies of the test's, which have imported what it has."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from torch.multiprocessing.spawn import start_processes


def run_on_ranks(function: Callable[[int, int], Any], world_size: int, folder: Path) -> list[Any]:
    """What `function(rank, world_size)` returns on each rank of a gloo group, whose processes have a thread each.

    Args:
        function: it returns what torch loads with `weights_only=True`.
        world_size: how many processes there are.
        folder: an empty one, for the rendezvous and the values.

    Raises:
        ProcessRaisedException: one of the processes failed; the others are ended.
    """
    start_processes(partial(_run, function=function), (world_size, folder), nprocs=world_size, start_method="fork")
    return [torch.load(folder / f"rank{rank}.pt") for rank in range(world_size)]


def _run(rank: int, world_size: int, folder: Path, function: Callable[[int, int], Any]) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world_size)
    torch.save(function(rank, world_size), folder / f"rank{rank}.pt")
    distributed.barrier()
    distributed.destroy_process_group()
