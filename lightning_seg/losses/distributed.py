"""Sums over all processes."""

from typing import Any

import torch.distributed
from torch import Tensor


def sum_over_processes(values: Tensor) -> Tensor:
    """The sum of `values` over the processes of torch.distributed, with gradient; `values` itself if there is one.

    Every process must call it in the same order, and compute the same loss from what it returns. The gradient that
    DistributedDataParallel averages over the processes is then that of the joined batch.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return values
    if torch.distributed.get_world_size() == 1:
        return values
    total: Tensor = _Sum.apply(values)
    return total


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        # The same on every process, so that their sum needs no communication; the average that follows undoes it.
        return gradient * torch.distributed.get_world_size()
