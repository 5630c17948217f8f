"""The sums of `class_sums` and their gradient by torch operations, in blocks of pixels.

A block's values stay in the cache from one operation to the next, so that the memory sees the logits once, and beside
the gradient only blocks and maps of one channel are held. exp is computed as 2^(x log₂ e): on the CPU torch's exp2 is
three times as fast as its exp.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

import torch
from torch import Tensor

from lightning_seg.losses.engine.bin_count import bin_count
from lightning_seg.losses.engine.block_threads import block_size, map_blocks
from lightning_seg.losses.engine.dtypes import sum_dtype, wide_dtype
from lightning_seg.losses.engine.histograms import Histograms
from lightning_seg.losses.engine.interface import BackEnd, Gradients, Outputs, Requirements
from lightning_seg.losses.engine.label_blocks import LabelBlock
from lightning_seg.losses.engine.labels import valid_labels

LOG2E = math.log2(math.e)
Block = tuple[slice, slice]


def softmax_forward(
    logits: Tensor, target: Tensor, ignore_index: int | None, requires: Requirements, outputs: Outputs
) -> None:
    """See `BackEnd`."""
    histograms = Histograms(logits, requires) if requires.errors != "none" else None

    def sums_of(block: Block) -> tuple[Tensor, Tensor]:
        images, pixels = block
        z = _widened(logits[images, :, pixels])
        labels = LabelBlock(target[block], ignore_index, logits.shape[1], z.dtype)
        sums, log_probability, outputs.normalizer[block] = _softmax_sums(z, labels, requires, histograms, images)
        if requires.label_map:
            outputs.label_map[block] = log_probability
        return sums

    _add_blocks(sums_of, logits, outputs, histograms)


def sigmoid_forward(
    logits: Tensor, target: Tensor, ignore_index: int | None, requires: Requirements, outputs: Outputs
) -> None:
    """See `BackEnd`."""
    histograms = Histograms(logits, requires) if requires.errors != "none" else None

    def sums_of(block: Block) -> tuple[Tensor, Tensor]:
        images, pixels = block
        z = _widened(logits[images, :, pixels])
        signs, valid = valid_labels(target[images, :, pixels], ignore_index, 2)
        sums, log_probability = _sigmoid_sums(z, signs, valid, requires, histograms, images)
        if requires.label_map:
            outputs.label_map[images, :, pixels] = log_probability
        return sums

    _add_blocks(sums_of, logits, outputs, histograms)


def _add_blocks(
    sums_of: Callable[[Block], tuple[Tensor, Tensor]], logits: Tensor, outputs: Outputs, histograms: Histograms | None
) -> None:
    """Writes the sums by label, by channel and by bin of all blocks."""
    outputs.by_label.zero_()
    outputs.by_channel.zero_()
    blocks = blocks_of(logits)
    for (images, _), (labels, channels) in zip(blocks, map_blocks(sums_of, blocks, logits.device), strict=True):
        outputs.by_label[images] += labels.to(outputs.by_label.dtype)
        outputs.by_channel[images] += channels.to(outputs.by_channel.dtype)
    if histograms is not None:
        histograms.write(outputs.error_counts, outputs.error_sums)


def _softmax_sums(
    z: Tensor, labels: LabelBlock, requires: Requirements, histograms: Histograms | None, images: slice
) -> tuple[tuple[Tensor, Tensor], Tensor, Tensor]:
    """The sums by label (n, C, K) and by channel (n, C, K) of a block, ℓ and log Σ exp z of each pixel (n, L)."""
    valid = labels.valid
    z = _without_void(z, valid)
    peak = z.amax(1)
    e = _exp_difference(z, peak)
    total = e.sum(1)
    log_total = total.log()
    log_sum = peak + log_total
    # In this order no digits of a large peak are lost.
    log_probability = labels.pick(z).sub_(peak).sub_(log_total)
    if valid is not None:
        log_probability.masked_fill_(~valid, 0)
        log_sum.masked_fill_(~valid, torch.inf)
    weight = total.reciprocal_() if labels.weight is None else total.reciprocal_().mul_(labels.weight)
    by_label = labels.sums(_of_label(log_probability, requires.gammas))
    if requires.squares or histograms is not None:
        p = e.mul_(weight.unsqueeze(1))
        by_channel = [p.sum(2)]
    else:
        p = e
        by_channel = [torch.bmm(e, weight.unsqueeze(2)).squeeze(2)]
    if requires.squares:
        by_channel.append(p.square().sum(2))
    if requires.uniform:
        every = torch.ones_like(peak) if labels.weight is None else labels.weight
        below = torch.bmm(z - peak.unsqueeze(1), every.unsqueeze(2)).squeeze(2)
        by_channel.append(below - (log_total * every).sum(1, keepdim=True))
    if histograms is not None:
        if labels.one_hot is None:
            histograms.add_softmax(images, p, labels.index, valid)
        else:
            histograms.add(images, (labels.one_hot - p).abs_(), labels.one_hot, valid)
    return (by_label, torch.stack(by_channel, dim=2)), log_probability, log_sum


def _sigmoid_sums(
    z: Tensor, signs: Tensor, valid: Tensor | None, requires: Requirements, histograms: Histograms | None, images: slice
) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """The sums by label (n, C, 2, K) and by channel (n, C, K) of a block, and ℓ of each pixel (n, C, L)."""
    z = _without_void(z, valid)
    t = signs.to(z.dtype)
    x = (2 * t).sub_(1).mul_(z)
    log_probability = _log_sigmoid(x)
    p = z.sigmoid()
    weight = torch.ones_like(z) if valid is None else valid.to(z.dtype)
    if valid is not None:
        log_probability.mul_(weight)
        p.mul_(weight)
    by_label = _sums_by_sign(t, weight, log_probability, p, requires.gammas)
    by_channel = [p.sum(2)]
    if requires.squares:
        by_channel.append(p.square().sum(2))
    if requires.uniform:
        by_channel.append((log_probability - 0.5 * weight * x).sum(2))
    if histograms is not None:
        errors = (1 - x).relu_() if requires.errors == "margin" else (t - p).abs_()
        # An error of 0 exceeds no threshold; counted, it would dilute those just above it.
        counted = errors > 0 if valid is None else (errors > 0).logical_and_(valid)
        histograms.add(images, errors, t, counted)
    return (by_label, torch.stack(by_channel, dim=2)), log_probability


def softmax_backward(
    gradients: Gradients,
    logits: Tensor,
    target: Tensor,
    normalizer: Tensor,
    ignore_index: int | None,
    requires: Requirements,
) -> Tensor:
    """See `BackEnd`."""
    result = _empty_gradient(logits)
    tables = _Tables.of(gradients, requires, wide_dtype(logits))

    def write_block(block: Block) -> None:
        images, pixels = block
        z = _widened(logits[images, :, pixels])
        out = result[images, :, pixels]
        part = _softmax_gradient(tables, z, target, normalizer, block, ignore_index, requires, out)
        if part is not out:
            out.copy_(part)

    map_blocks(write_block, blocks_of(logits), logits.device)
    return result


def sigmoid_backward(
    gradients: Gradients,
    logits: Tensor,
    target: Tensor,
    normalizer: Tensor,
    ignore_index: int | None,
    requires: Requirements,
) -> Tensor:
    """See `BackEnd`."""
    result = _empty_gradient(logits)
    tables = _Tables.of(gradients, requires, wide_dtype(logits))

    def write_block(block: Block) -> None:
        images, pixels = block
        z = _widened(logits[images, :, pixels])
        result[images, :, pixels] = _sigmoid_gradient(tables, z, target, block, ignore_index, requires)

    map_blocks(write_block, blocks_of(logits), logits.device)
    return result


def add_confusion(logits: Tensor, target: Tensor, ignore_index: int | None, softmax: bool, counts: Tensor) -> bool:
    """See `BackEnd`."""
    labels = counts.shape[-1]
    lock = Lock()
    channels = torch.arange(0, counts.numel(), labels**2, device=logits.device).view(-1, 1)

    def add_block(block: Block) -> bool:
        images, pixels = block
        z = logits[images, :, pixels]
        # On the CPU argmax takes three times as long.
        prediction = z.max(1).indices if softmax else (z > 0).long()
        of_block = target[images, pixels] if softmax else target[images, :, pixels]
        try:
            index, valid = valid_labels(of_block, ignore_index, labels)
        except ValueError:  # of this block, whose label need not be the one to name
            return False
        cell = prediction.add_(index * labels)
        if not softmax:
            cell += channels
        if valid is not None:
            cell.masked_fill_(~valid, counts.numel())  # the last cell is that of void pixels
        found = bin_count(cell.flatten(), counts.numel() + 1)[:-1]
        with lock:
            counts.add_(found.view(counts.shape))
        return True

    return all(map_blocks(add_block, blocks_of(logits), logits.device))


def _empty_gradient(logits: Tensor) -> Tensor:
    # Contiguous whatever the logits are: autograd takes any strides, and the blocks are read in this order.
    return torch.empty(logits.shape, dtype=logits.dtype, device=logits.device)


@dataclass(frozen=True)
class _Tables:
    """The gradients of the sums, each None where it is 0 throughout."""

    of_label: list[Tensor | None]  # Σ ℓ, Σ p_y and Σ (1 - p_y)^γ ℓ
    of_channel: Tensor | None
    of_square: Tensor | None
    of_uniform: Tensor | None
    of_errors: Tensor | None
    label_map: Tensor | None

    @classmethod
    def of(cls, gradients: Gradients, requires: Requirements, dtype: torch.dtype) -> "_Tables":
        by_label, by_channel = gradients.by_label, gradients.by_channel
        of_label = [None] * (2 + len(requires.gammas)) if by_label is None else by_label.unbind(-1)[1:]
        channel, *others = [None] if by_channel is None else by_channel.unbind(-1)
        return cls(
            of_label=[_active(table, dtype) for table in of_label],
            of_channel=_active(channel, dtype),
            of_square=_active(others[0], dtype) if others and requires.squares else None,
            of_uniform=_active(others[-1], dtype) if others and requires.uniform else None,
            of_errors=_active(gradients.error_sums, dtype),
            label_map=gradients.label_map,
        )


def _softmax_gradient(
    tables: _Tables,
    z: Tensor,
    target: Tensor,
    normalizer: Tensor,
    block: Block,
    ignore_index: int | None,
    requires: Requirements,
    out: Tensor,
) -> Tensor:
    images, pixels = block
    labels = LabelBlock(target[images, pixels], ignore_index, z.shape[1], z.dtype)
    z = _without_void(z, labels.valid)
    log_sum = normalizer[images, pixels]
    p = _exp_difference(z, log_sum, out=out if out.dtype == z.dtype else None)
    a = None
    if tables.label_map is not None:
        a = tables.label_map[images, pixels]
        a = a if labels.weight is None else a * labels.weight
    of_pixel = [None if table is None else labels.look_up(table[images]) for table in tables.of_label]
    log_probability = probability = None
    if any(gradient is not None for gradient in of_pixel[1:]):
        log_probability = labels.pick(z).sub_(log_sum)
        if labels.valid is not None:
            log_probability.masked_fill_(~labels.valid, 0)
        probability = (log_probability * LOG2E).exp2_()
    a = _add(a, _gradient_of_label(of_pixel, probability, log_probability, requires.gammas))

    h = None  # ∂L/∂p, where it differs between pixels
    row = None if tables.of_channel is None else tables.of_channel[images]
    uniform = None if tables.of_uniform is None else tables.of_uniform[images]
    if tables.of_square is not None:
        h = p * (2 * tables.of_square[images]).unsqueeze(2)
    if tables.of_errors is not None:
        if labels.one_hot is None:
            h = _add(h, _softmax_error_gradient(tables.of_errors, images, p, labels.index, requires))
        else:
            gradient = _error_gradient(tables.of_errors, images, (labels.one_hot - p).abs_(), labels.one_hot, requires)
            h = _add(h, gradient.mul_(1 - 2 * labels.one_hot))

    # p (h - Σ h p) + a (δ - p) + u - p Σ u = p (h - t) + a δ + u, with t one number for each pixel.
    t = None
    if h is not None:
        if row is not None:
            h += row.unsqueeze(2)
        t = (h * p).sum(1)
    elif row is not None:
        t = torch.bmm(row.unsqueeze(1), p).squeeze(1)
    t = _add(t, a)
    if uniform is not None:
        t = _add(t, uniform.sum(1, keepdim=True).expand(len(z), z.shape[2]))
    if t is None:
        return p.zero_()
    if h is not None:
        p.mul_(h.sub_(t.unsqueeze(1)))
    elif row is not None:
        p.mul_(row.unsqueeze(2) - t.unsqueeze(1))
    else:
        p.mul_(t.neg().unsqueeze(1))
    if a is not None:
        labels.add(p, a)
    if uniform is not None:
        p.add_(uniform.unsqueeze(2) if labels.weight is None else uniform.unsqueeze(2) * labels.weight.unsqueeze(1))
    return p


def _sigmoid_gradient(
    tables: _Tables, z: Tensor, target: Tensor, block: Block, ignore_index: int | None, requires: Requirements
) -> Tensor:
    images, pixels = block
    labels, valid = valid_labels(target[images, :, pixels], ignore_index, 2)
    z = _without_void(z, valid)
    t = labels.to(z.dtype)
    p = z.sigmoid()
    wrong = t - p  # (2t - 1)(1 - p_y)
    a = None if tables.label_map is None else tables.label_map[images, :, pixels]
    of_pixel = [None if table is None else _look_up_sign(table[images], t) for table in tables.of_label]
    if any(gradient is not None for gradient in of_pixel):
        log_probability = _log_sigmoid((2 * t).sub_(1).mul_(z)) if requires.gammas else None
        a = _add(a, _gradient_of_label(of_pixel, 1 - wrong.abs(), log_probability, requires.gammas))
    result = None if a is None else a * wrong
    h = None if tables.of_channel is None else tables.of_channel[images].unsqueeze(2)
    if tables.of_square is not None:
        h = _add(h, p * (2 * tables.of_square[images]).unsqueeze(2))
    if tables.of_errors is not None and requires.errors == "probability":
        gradient = _error_gradient(tables.of_errors, images, wrong.abs(), t, requires)
        h = _add(h, gradient.mul_(1 - 2 * t))
    if h is not None:
        result = _add(result, torch.addcmul(p, p, p, value=-1).mul_(h))
    if tables.of_uniform is not None:
        result = _add(result, tables.of_uniform[images].unsqueeze(2) * (0.5 - p))
    if tables.of_errors is not None and requires.errors == "margin":
        sign = 1 - 2 * t
        errors = torch.addcmul(torch.ones_like(z), sign, z).relu_()
        inside = errors.sign()
        gradient = _error_gradient(tables.of_errors, images, errors, t, requires)
        result = _add(result, gradient.mul_(inside).mul_(sign))
    if result is None:
        return torch.zeros_like(z)
    return result if valid is None else result.mul_(valid)


def _look_up_sign(table: Tensor, t: Tensor) -> Tensor:
    """Of numbers (n, C, 2) the one of each pixel's label t, 0 or 1."""
    return torch.addcmul(table[..., :1], t, table[..., 1:] - table[..., :1])


def _softmax_error_gradient(table: Tensor, images: slice, p: Tensor, labels: Tensor, requires: Requirements) -> Tensor:
    """∂L/∂p through the sums of errors, (n, C, L)."""
    index = labels.unsqueeze(1)
    of_label = p.gather(1, index)
    rows = (table[images] if requires.errors_per_image else table).expand(len(p), -1, -1, -1)
    gradient = rows[:, :, 0].gather(2, requires.bins.index(requires.bins.positions(p.clone()), p.dtype))
    own = requires.bins.index(requires.bins.positions(1 - of_label), p.dtype).add_(
        (2 * index + 1) * requires.bins.count
    )
    return gradient.scatter_(1, index, -rows.flatten(1).gather(1, own.squeeze(1)).unsqueeze(1))


def _error_gradient(table: Tensor, images: slice, errors: Tensor, own: Tensor, requires: Requirements) -> Tensor:
    """∂L/∂e through the sums of errors, (n, C, L); `errors` are overwritten."""
    index = requires.bins.index(requires.bins.positions(errors, own), errors.dtype, labels=2)
    rows = (table[images] if requires.errors_per_image else table).expand(len(errors), -1, -1, -1).flatten(2)
    return rows.gather(2, index)


def blocks_of(logits: Tensor) -> list[Block]:
    """Slices of images and pixels: many pixels of one image, or many small images."""
    images, classes, pixels = logits.shape
    length = max(1, block_size(logits) // classes)
    count = max(1, length // max(1, pixels))
    return [
        (slice(image, image + count), slice(start, start + length))
        for image in range(0, images, count)
        for start in range(0, pixels, length)
    ]


def _widened(logits: Tensor) -> Tensor:
    return logits.to(wide_dtype(logits))


def _exp_difference(z: Tensor, offset: Tensor, out: Tensor | None = None) -> Tensor:
    """exp(z - offset), with one offset for each pixel."""
    # The difference first: it is exact near the peak, where the products of large logits would be rounded apart.
    return torch.sub(z, offset.unsqueeze(1), out=out).mul_(LOG2E).exp2_()


def _without_void(z: Tensor, valid: Tensor | None) -> Tensor:
    """The logits with nothing at void pixels, which may hold anything, that could spread by being multiplied by 0."""
    if valid is None or (z.device.type == "cpu" and bool(z.sum().isfinite())):
        return z
    return torch.where(valid if valid.ndim == z.ndim else valid.unsqueeze(1), z, 0)


def _active(gradient: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """None for zeros, where looking does not make the host wait."""
    if gradient is None or (gradient.device.type == "cpu" and not bool(gradient.any())):
        return None
    return gradient.to(dtype)


def _log_sigmoid(x: Tensor) -> Tensor:
    """log σ(x) = min(x, 0) - log(1 + exp(-|x|)), to the precision of numbers near 1; log1p costs eight times."""
    ratio = x.abs().mul_(-LOG2E).exp2_()
    return torch.sub(x.clamp(max=0), ratio.add_(1).log2_(), alpha=1 / LOG2E)


def _of_label(log_probability: Tensor, gammas: tuple[float, ...]) -> list[Tensor]:
    """ℓ, p_y and (1 - p_y)^γ ℓ of each pixel."""
    p = (log_probability * LOG2E).exp2_()
    return [log_probability, p, *((1 - p).pow(gamma).mul_(log_probability) for gamma in gammas)]


def _gradient_of_label(
    own: list[Tensor | None], p: Tensor | None, log_probability: Tensor | None, gammas: tuple[float, ...]
) -> Tensor | None:
    """∂L/∂ℓ from the gradients of Σ ℓ, Σ p_y and Σ (1 - p_y)^γ ℓ of each pixel's label."""
    gradient, of_probability, *others = own
    if of_probability is not None and p is not None:
        gradient = _add(gradient, of_probability * p)
    for of_power, gamma in zip(others, gammas, strict=True):
        if of_power is not None and p is not None and log_probability is not None:
            # tiny: at p = 1 the derivative of x^γ is infinite for γ < 1.
            wrong = (1 - p).clamp_(min=torch.finfo(p.dtype).tiny)
            changed = wrong.pow(gamma - 1).mul_(torch.addcmul(wrong, p, log_probability, value=-gamma))
            gradient = _add(gradient, of_power * changed)
    return gradient


def _sums_by_sign(t: Tensor, weight: Tensor, log_probability: Tensor, p: Tensor, gammas: tuple[float, ...]) -> Tensor:
    """(n, C, 2, K): the sums of pixels (n, C, L) by their label t, 0 or 1; maps and t are 0 at void pixels."""
    maps = [log_probability]
    if gammas:
        wrong = (t - p).abs_()
        maps += [wrong.pow(gamma).mul_(log_probability) for gamma in gammas]
    dtype = sum_dtype(t)
    ones, found = t.sum(2).to(dtype), p.sum(2).to(dtype)
    of_ones = _dot(t, p)
    zeros = weight.sum(2).to(dtype) - ones
    columns = [torch.stack([zeros, ones], dim=2), torch.stack([zeros - (found - of_ones), of_ones], dim=2)]
    for values in maps:
        own = _dot(t, values)
        columns.append(torch.stack([values.sum(2).to(dtype) - own, own], dim=2))
    count, probability, label, *others = columns
    return torch.stack([count, label, probability, *others], dim=3)


def _dot(one: Tensor, other: Tensor) -> Tensor:
    """Σ one·other over the last dimension."""
    return (one * other).sum(2).to(sum_dtype(one))


def _add(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    return other if one is None else one if other is None else one + other


BACK_END = BackEnd("torch", softmax_forward, softmax_backward, sigmoid_forward, sigmoid_backward, add_confusion)
