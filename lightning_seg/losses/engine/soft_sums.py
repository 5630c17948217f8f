"""What `class_sums` is for labels, for soft targets: sums over pixels in one pass, and their gradient.

With t the probabilities of the target in place of 0 and 1, A, B, H, Q, U = ∂L/∂ of the sums of t log p, p·t, p, p² and
log p of each class, and h = H + B t + 2 Q p,

    ∂L/∂z_c = A_c t_c - p_c Σ_k A_k t_k + p_c (h_c - Σ_k h_k p_k) + U_c - p_c Σ_k U_k

of the softmax, and A (t - p) + h p (1 - p) + U (½ - p) of a sigmoid. Both are computed by torch operations in blocks of
pixels: beside the gradient no tensor of the logits' size is made.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_seg.losses.engine.block_threads import map_blocks
from lightning_seg.losses.engine.dtypes import sum_dtype, wide_dtype
from lightning_seg.losses.engine.interface import Requirements
from lightning_seg.losses.engine.torch_backend import LOG2E, Block, blocks_of

_ALWAYS = 5


@dataclass(frozen=True)
class SoftSums:
    """Sums over the valid pixels of each image and class, (N, C), `sum_dtype`.

    Attributes:
        sums: (N, C, K), of the properties below, and of those that `requires` names.
        requires: what it was computed for.
    """

    sums: Tensor
    requires: Requirements

    @property
    def log_probability(self) -> Tensor:
        """Σ t log p, of a sigmoid Σ t log p + (1 - t) log(1 - p)."""
        return self.sums[..., 0]

    @property
    def overlap(self) -> Tensor:
        """Σ p·t."""
        return self.sums[..., 1]

    @property
    def probability(self) -> Tensor:
        """Σ p."""
        return self.sums[..., 2]

    @property
    def target(self) -> Tensor:
        """Σ t."""
        return self.sums[..., 3].detach()

    @property
    def valid(self) -> Tensor:
        """Σ 1."""
        return self.sums[..., 4].detach()

    @property
    def probability_square(self) -> Tensor:
        """Σ p², if `requires` names squares."""
        assert self.requires.squares
        return self.sums[..., _ALWAYS]

    @property
    def target_square(self) -> Tensor:
        """Σ t², if `requires` names squares."""
        assert self.requires.squares
        return self.sums[..., _ALWAYS + 1].detach()

    @property
    def uniform(self) -> Tensor:
        """Σ log p, of a sigmoid Σ ½ (log p + log(1 - p)), if `requires` names it."""
        assert self.requires.uniform
        return self.sums[..., -1]


def soft_sums(
    logits: Tensor, target: Tensor, *, ignore_index: int | None, softmax: bool, requires: Requirements
) -> SoftSums:
    """The sums of soft targets, differentiable in the logits once.

    Args:
        logits: (N, C, S), floating point; half precision is computed in float32.
        target: probabilities, floating point, (N, C, S).
        ignore_index: what void pixels hold, of a softmax in all channels.
        softmax: whether channels exclude each other.
        requires: of it squares and uniform are read.
    """
    sums: Tensor = _soft_sums(logits, target, ignore_index, softmax, requires.squares, requires.uniform)
    return SoftSums(sums, requires)


def void_pixels(target: Tensor, ignore_index: int | None, softmax: bool) -> Tensor | None:
    """Which pixels of a soft target (N, C, S) are void, bool (N, 1 if softmax else C, S); None if none can be."""
    if ignore_index is None:
        return None
    void = target == ignore_index
    return void.all(1, keepdim=True) if softmax else void


@torch.library.custom_op("lightning_seg::soft_sums", mutates_args=())
def _soft_sums(
    logits: Tensor, target: Tensor, ignore_index: int | None, softmax: bool, squares: bool, uniform: bool
) -> Tensor:
    result = _empty_sums(logits, squares, uniform).zero_()

    def sums_of(block: Block) -> Tensor:
        z, t, void = _read(block, logits, target, ignore_index, softmax)
        log_p = F.log_softmax(z, 1) if softmax else F.logsigmoid(z)
        p = (log_p * LOG2E).exp2_()
        if void is not None:
            p.masked_fill_(void, 0)
        valid = torch.ones_like(p) if void is None else (~void).to(p.dtype).expand_as(p)
        # Of a sigmoid log p - (1 - t) z; and where t is 0, log p may be -inf.
        each = (t * log_p).masked_fill_(t == 0, 0) if softmax else (log_p - (1 - t) * z) * valid
        parts = [each, p * t, p, t, valid]
        if squares:
            parts += [p * p, t * t]
        if uniform:
            parts.append((log_p if softmax else log_p - z / 2) * valid)
        return torch.stack([part.sum(2) for part in parts], 2)

    blocks = blocks_of(logits)
    for (images, _), sums in zip(blocks, map_blocks(sums_of, blocks, logits.device), strict=True):
        result[images] += sums.to(result.dtype)
    return result


@torch.library.custom_op("lightning_seg::soft_sums_backward", mutates_args=())
def _soft_sums_backward(
    gradient: Tensor,
    logits: Tensor,
    target: Tensor,
    ignore_index: int | None,
    softmax: bool,
    squares: bool,
    uniform: bool,
) -> Tensor:
    result = torch.empty(logits.shape, dtype=logits.dtype, device=logits.device)
    gradient = gradient.to(wide_dtype(logits)).unsqueeze(2)

    def write_block(block: Block) -> None:
        z, t, void = _read(block, logits, target, ignore_index, softmax)
        of_log, of_overlap, of_p, *_ = gradient[block[0]].unbind(3)
        of_uniform = gradient[block[0], ..., -1] if uniform else None
        p = z.softmax(1) if softmax else z.sigmoid()
        h = of_p + of_overlap * t
        if squares:
            h += 2 * gradient[block[0], ..., _ALWAYS] * p
        if softmax:
            own = of_log * t
            part = p * (h - ((h * p).sum(1, keepdim=True) + own.sum(1, keepdim=True))) + own
            if of_uniform is not None:
                part += of_uniform - p * of_uniform.sum(1, keepdim=True)
        else:
            part = of_log * (t - p) + h * (p * (1 - p))
            if of_uniform is not None:
                part += of_uniform * (0.5 - p)
        if void is not None:
            part.masked_fill_(void, 0)
        result[block[0], :, block[1]] = part

    map_blocks(write_block, blocks_of(logits), logits.device)
    return result


def _read(
    block: Block, logits: Tensor, target: Tensor, ignore_index: int | None, softmax: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Logits and target of a block, in the type that is computed in and 0 at void pixels; and which are void."""
    images, pixels = block
    z, t = logits[images, :, pixels], target[images, :, pixels]
    void = void_pixels(t, ignore_index, softmax)
    z, t = z.to(wide_dtype(logits)), t.to(wide_dtype(logits))
    if void is not None:
        z, t = z.masked_fill(void, 0), t.masked_fill(void, 0)
    return z, t, void


def _empty_sums(logits: Tensor, squares: bool, uniform: bool) -> Tensor:
    return logits.new_empty(*logits.shape[:2], _ALWAYS + 2 * squares + uniform, dtype=sum_dtype(logits))


@_soft_sums.register_fake
def _(logits: Tensor, target: Tensor, ignore_index: int | None, softmax: bool, squares: bool, uniform: bool) -> Tensor:
    return _empty_sums(logits, squares, uniform)


@_soft_sums_backward.register_fake
def _(gradient: Tensor, logits: Tensor, *arguments: Any) -> Tensor:
    return torch.empty(logits.shape, dtype=logits.dtype, device=logits.device)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    logits, target, *ctx.arguments = inputs
    ctx.save_for_backward(logits, target)


def _gradient(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    return _soft_sums_backward(gradient, *ctx.saved_tensors, *ctx.arguments), *[None] * 5


_soft_sums.register_autograd(_gradient, setup_context=_keep)
