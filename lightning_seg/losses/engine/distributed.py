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


def join_processes(values: Tensor, filling: float | bool) -> Tensor:
    """`values` of all processes side by side along the last dimension, with gradient as in `sum_over_processes`.

    Args:
        values: the same shape on all processes but for the last dimension.
        filling: what stands where a process has fewer than another.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return values
    sizes = torch.tensor([values.shape[-1]], device=values.device)
    torch.distributed.all_reduce(sizes, torch.distributed.ReduceOp.MAX)
    missing = int(sizes) - values.shape[-1]
    joined: Tensor = _Join.apply(torch.nn.functional.pad(values, (0, missing), value=filling).contiguous())
    return joined


class _Join(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        parts = [torch.empty_like(values) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(parts, values)
        return torch.cat(parts, -1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        own = gradient.chunk(torch.distributed.get_world_size(), -1)[torch.distributed.get_rank()]
        return own * torch.distributed.get_world_size()


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
