"""The Lovász extension of the Jaccard loss, from histograms of errors."""

from typing import Any

import torch
from torch import Tensor

from lightning_seg.losses.engine.back_ends import choose_back_end
from lightning_seg.losses.engine.block_threads import map_blocks
from lightning_seg.losses.engine.dtypes import sum_dtype
from lightning_seg.losses.engine.histograms import used_bins

# Bins whose gradients are computed at once, in the cache of a core.
_BLOCK = 2**14


@torch.library.custom_op("lightning_seg::jaccard_integrals", mutates_args=())
def jaccard_integrals(sums: Tensor, counts: Tensor, total: Tensor, logits: int) -> tuple[Tensor, Tensor]:
    """The Lovász extension of the errors in histograms, and by how much an error of each bin raises it: ∂/∂e.

    A bin's errors are taken in random order: with U = G + B before the bin and n_b background errors in it, the mean
    over the way through it of ∂J/∂F = 1/U is log(1 + n_b/U)/n_b for a foreground error. Background errors share what
    remains of the bin's total change of J, which is kept exactly. Alone in its bin, an error has the gradient that
    sorting gives it.

    Args:
        sums: the sums of errors in each bin, float64 (G, C, 2, bins), errors rising: of other pixels, then of those of
            the class.
        counts: the number of errors, int64 (G, C, 2, bins).
        total: the number of pixels of the class, (G, C).
        logits: how many logits the errors are of, by which the back end is chosen.

    Returns:
        The extension, (G, C), differentiable in `sums`; and its gradient, (G, C, 2, bins), which has none. Of a bin
        without errors it is any finite number.
    """
    integrals, gradients = sums.new_empty(sums.shape[:2]), sums.new_empty(sums.shape)
    rows = [values.flatten(0, 1) for values in (sums, counts, total, integrals, gradients)]
    if sums.device.type == "cpu" and choose_back_end(sums.device, sums.dtype, logits).name == "numba":
        from lightning_seg.losses.engine import numba_backend

        numba_backend.write_jaccard_integrals(*rows)
        return integrals, gradients

    used = used_bins(counts.flatten(0, 2))
    gradients[..., used:] = 0

    def write(part: slice) -> None:
        its_sums, its_counts, its_total, integral, gradient = (values[part] for values in rows)
        gradient[..., :used] = _gradients(its_counts[..., :used], its_total)
        torch.sum(its_sums[..., :used] * gradient[..., :used], (1, 2), out=integral)

    size = total.numel()
    step = max(1, _BLOCK // max(used, 1) if sums.device.type == "cpu" else size)
    map_blocks(write, [slice(first, first + step) for first in range(0, size, step)], sums.device)
    return integrals, gradients


@jaccard_integrals.register_fake
def _(sums: Tensor, counts: Tensor, total: Tensor, logits: int) -> tuple[Tensor, Tensor]:
    return sums.new_empty(sums.shape[:2]), sums.new_empty(sums.shape)


def _keep(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(output[1])


def _gradient(ctx: Any, of_integrals: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, None, None, None]:
    (gradients,) = ctx.saved_tensors
    return None if of_integrals is None else of_integrals[..., None, None] * gradients, None, None, None


jaccard_integrals.register_autograd(_gradient, setup_context=_keep)


def _gradients(counts: Tensor, total: Tensor) -> Tensor:
    """Of counts (rows, 2, bins) and total (rows), (rows, 2, bins)."""
    dtype, total = sum_dtype(counts), total.unsqueeze(1)
    n_b, n_f = counts.to(dtype).unbind(1)
    # Numbers of larger errors, of integers, so that none is lost where floats are narrow.
    wrong, found = (counts.sum(2, keepdim=True) - counts.cumsum(2)).to(dtype).unbind(1)
    union = total + wrong
    after = union + n_b
    many, share = n_b > 0, 1 / n_b.clamp(min=1)
    of_foreground = torch.where(many, torch.log1p(n_b / union) * share, 1 / union)
    # ΔJ = (G - F) n_b / (U U') + n_f / U', in differences that lose no digits.
    step = after.where(many, after + 1)
    of_background = (total - found) / (union * step) + n_f * (1 / after - of_foreground) * share
    # Without a pixel of the class J is 1 once there is any error: the largest ones have all of it.
    absent = total == 0
    largest = ((wrong == 0) & many) * share
    return torch.stack([of_background.where(~absent, largest), of_foreground.where(~absent, 0)], 1)
