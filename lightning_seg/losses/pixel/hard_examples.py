"""Which pixels are hard examples, without a sort and over any number of processes."""

import torch
from torch import Tensor

from lightning_seg.losses.engine.distributed import sum_over_processes

# 31 bits of a positive float32, from the highest: as many bins as fit the cache.
_DIGITS = ((20, 11), (10, 10), (0, 10))


@torch.no_grad()
def hard_example_weights(costs: Tensor, valid: Tensor, kept: Tensor, sync: bool) -> Tensor:
    """Weights that keep the `kept` valid pixels of the highest cost: 1, 0, and one value between for those that tie.

    The lowest cost that is kept is found digit by digit of its float32 bits, whose order is that of the numbers, from
    counts that add over processes.

    Args:
        costs: 0 or more, any shape.
        valid: bool, the same shape.
        kept: how many; an integer tensor with one element, the same on all processes.
        sync: the pixels are those of all processes.

    Returns:
        float32 or float64 as the costs; their sum is `kept`, or the number of valid pixels if that is less.
    """
    # abs: the cost of a certain pixel is -0.0, whose bits are those of a negative number.
    bits = costs.float().clamp(min=0).abs().view(torch.int32).flatten()
    bits = torch.where(valid.flatten(), bits, -1)
    prefix = torch.zeros((), dtype=torch.int64, device=costs.device)
    above = torch.zeros((), dtype=torch.int64, device=costs.device)
    ties = above
    for shift, width in _DIGITS:
        inside = (bits >= 0) & ((bits >> (shift + width)) == (prefix >> (shift + width)))
        digit = (bits >> shift) & ((1 << width) - 1)
        counts = torch.zeros(1 << width, dtype=torch.int64, device=costs.device)
        counts.scatter_add_(0, digit.clamp(min=0).long(), inside.long())
        if sync:
            counts = sum_over_processes(counts)
        # How many costs lie at this digit or a higher one.
        reached = counts.flip(0).cumsum(0).flip(0) + above
        chosen = ((reached >= kept).sum() - 1).clamp(min=0)
        ties = counts.gather(0, chosen.unsqueeze(0)).squeeze(0)
        above = reached.gather(0, chosen.unsqueeze(0)).squeeze(0) - ties
        prefix = prefix | (chosen << shift)
    tied = ((kept - above).to(costs.dtype) / ties.clamp(min=1).to(costs.dtype)).clamp(0, 1)
    weights = torch.where(bits > prefix, 1.0, torch.where(bits == prefix, tied, 0.0)).to(costs.dtype)
    return torch.where(valid, weights.view(valid.shape), 0)
