"""The sums of `class_sums` and their gradient by torch operations, in blocks of pixels.

A block's values stay in the cache from one operation to the next, so that the memory sees the logits once, and beside
the gradient only blocks and maps of one channel are held. exp is computed as 2^(x log₂ e): on the CPU torch's exp2 is
three times as fast as its exp.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lightning_seg.losses.error_bins import ErrorHistogram
from lightning_seg.losses.labels import check_labels, valid_labels

if TYPE_CHECKING:
    from lightning_seg.losses.class_sums import Reads

LOG2E = math.log2(math.e)
# Logits in a block: enough that starting an operation costs little, few enough for the cache.
_BLOCK = 2**18

Block = tuple[slice, slice]


@dataclass(frozen=True)
class Gradients:
    """The gradients of `class_sums.ClassSums`, each None where it is 0."""

    by_label: Tensor | None
    by_channel: Tensor | None
    label_map: Tensor | None
    error_sums: Tensor | None


def forward(
    logits: Tensor,
    target: Tensor,
    softmax: bool,
    ignore_index: int | None,
    reads: Reads,
    outputs: tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor],
) -> None:
    """Writes the sums to `outputs`, as `class_sums.empty_outputs` makes them."""
    by_label, by_channel, label_map, error_sums, error_counts, normalizer = outputs
    by_label.zero_()
    by_channel.zero_()
    histograms = _Histograms(logits, reads) if reads.errors != "none" else None
    for images, pixels in _blocks(logits):
        z = _widened(logits[images, :, pixels])
        if softmax:
            labels, valid = _labels(target[images, pixels], ignore_index, logits.shape[1])
            z = _without_void(z, valid)
            peak = z.amax(1)
            e = _exp_difference(z, peak)
            total = e.sum(1)
            log_total = total.log()
            log_sum = peak + log_total
            # In this order no digits of a large peak are lost.
            log_probability = z.gather(1, labels.unsqueeze(1)).squeeze(1).sub_(peak).sub_(log_total)
            if valid is not None:
                log_probability.masked_fill_(~valid, 0)
                log_sum = log_sum.masked_fill(~valid, torch.inf)
            normalizer[images, pixels] = log_sum
            weight = total.reciprocal_() if valid is None else total.reciprocal_().mul_(valid)
            _add_by_label(by_label[images], labels, _of_label(log_probability, valid, reads.gammas))
            if reads.squares or histograms is not None:
                p = e.mul_(weight.unsqueeze(1))
                _write(by_channel[images], 0, p.sum(2))
            else:
                p = e
                _write(by_channel[images], 0, torch.bmm(e, weight.unsqueeze(2)).squeeze(2))
            if reads.squares:
                _write(by_channel[images], 1, p.square().sum(2))
            if reads.uniform:
                every = torch.ones_like(peak) if valid is None else valid.to(z.dtype)
                finite = log_sum if valid is None else log_sum.where(valid, 0)
                sums = torch.bmm(z, every.unsqueeze(2)).squeeze(2)
                _write(by_channel[images], -1, sums - finite.sum(1, keepdim=True))
            if histograms is not None:
                histograms.add_softmax(images, p, labels, valid)
        else:
            labels, valid = _labels(target[images, :, pixels], ignore_index, 2)
            z = _without_void(z, valid)
            t = labels.to(z.dtype)
            x = (2 * t).sub_(1).mul_(z)
            log_probability = _log_sigmoid(x)
            p = z.sigmoid()
            weight = torch.ones_like(z) if valid is None else valid.to(z.dtype)
            if valid is not None:
                log_probability.mul_(weight)
                p.mul_(weight)
            _add_by_sign(by_label[images], t, weight, log_probability, p, reads.gammas)
            _write(by_channel[images], 0, p.sum(2))
            if reads.squares:
                _write(by_channel[images], 1, p.square().sum(2))
            if reads.uniform:
                _write(by_channel[images], -1, (log_probability - 0.5 * weight * x).sum(2))
            if histograms is not None:
                errors = (1 - x).relu_() if reads.errors == "margin" else (t - p).abs_()
                # An error of 0 is no error at any threshold; counted, it would dilute those just above it.
                counted = errors > 0 if valid is None else (errors > 0).logical_and_(valid)
                histograms.add_sigmoid(images, errors, labels, counted)
        if reads.label_map:
            where = (images, pixels) if softmax else (images, slice(None), pixels)
            label_map[where] = log_probability
    if histograms is not None:
        counts, sums = histograms.histogram.read()
        error_counts.copy_(counts)
        error_sums.copy_(sums)


def backward(
    gradients: Gradients,
    logits: Tensor,
    target: Tensor,
    normalizer: Tensor,
    softmax: bool,
    ignore_index: int | None,
    reads: Reads,
) -> Tensor:
    """The gradient of the logits, in their dtype."""
    # Contiguous whatever the logits are: autograd takes any strides, and the blocks are read in this order.
    result = torch.empty(logits.shape, dtype=logits.dtype, device=logits.device)
    dtype = _wide(logits)
    by_label, by_channel, error_sums = (
        None if gradient is None else gradient.to(dtype)
        for gradient in (gradients.by_label, gradients.by_channel, gradients.error_sums)
    )
    gradients = Gradients(by_label, by_channel, gradients.label_map, error_sums)
    for images, pixels in _blocks(logits):
        z = _widened(logits[images, :, pixels])
        out = result[images, :, pixels]
        if softmax:
            part = _softmax_gradient(gradients, z, target, normalizer, (images, pixels), ignore_index, reads, out)
        else:
            part = _sigmoid_gradient(gradients, z, target, (images, pixels), ignore_index, reads)
        if part is not out:
            out.copy_(part)
    return result


def _softmax_gradient(
    gradients: Gradients,
    z: Tensor,
    target: Tensor,
    normalizer: Tensor,
    block: Block,
    ignore_index: int | None,
    reads: Reads,
    out: Tensor,
) -> Tensor:
    images, pixels = block
    labels, valid = valid_labels(target[images, pixels], ignore_index)
    z = _without_void(z, valid)
    log_sum = normalizer[images, pixels]
    p = _exp_difference(z, log_sum, out=out if out.dtype == z.dtype else None)
    a = gradients.label_map[images, pixels] if gradients.label_map is not None else None
    if gradients.by_label is not None:
        sums = gradients.by_label[images]
        own = [_active(sums[..., k]) for k in range(1, sums.shape[-1])]
        of_pixel = [None if g is None else g.gather(1, labels) for g in own]
        log_probability = None
        if any(g is not None for g in own[1:]):
            log_probability = z.gather(1, labels.unsqueeze(1)).squeeze(1).sub_(log_sum)
            if valid is not None:
                log_probability.masked_fill_(~valid, 0)
        probability = None if log_probability is None else (log_probability * LOG2E).exp2_()
        a = _add(a, _slope_of_label(of_pixel, probability, log_probability, reads.gammas))
    if a is not None and valid is not None:
        a = a * valid

    h = None  # ∂L/∂p, where it differs between pixels
    row = _active(gradients.by_channel[images, :, 0]) if gradients.by_channel is not None else None
    if gradients.by_channel is not None and reads.squares:
        h = p * (2 * gradients.by_channel[images, :, 1]).unsqueeze(2)
    if gradients.error_sums is not None:
        h = _add(h, _softmax_error_slope(gradients.error_sums, images, p, labels, reads))
    uniform = gradients.by_channel[images, :, -1] if gradients.by_channel is not None and reads.uniform else None

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
        p.scatter_add_(1, labels.unsqueeze(1), a.unsqueeze(1))
    if uniform is not None:
        p.add_(uniform.unsqueeze(2) if valid is None else uniform.unsqueeze(2) * valid.unsqueeze(1))
    return p


def _sigmoid_gradient(
    gradients: Gradients, z: Tensor, target: Tensor, block: Block, ignore_index: int | None, reads: Reads
) -> Tensor:
    images, pixels = block
    labels, valid = valid_labels(target[images, :, pixels], ignore_index)
    z = _without_void(z, valid)
    t = labels.to(z.dtype)
    p = z.sigmoid()
    wrong = t - p  # (2t - 1)(1 - p_y)
    a = gradients.label_map[images, :, pixels] if gradients.label_map is not None else None
    if gradients.by_label is not None:
        sums = gradients.by_label[images]
        own = [_active(sums[..., k]) for k in range(1, sums.shape[-1])]
        of_pixel = [None if g is None else torch.addcmul(g[..., :1], t, g[..., 1:] - g[..., :1]) for g in own]
        log_probability = _log_sigmoid((2 * t).sub_(1).mul_(z)) if reads.gammas else None
        a = _add(a, _slope_of_label(of_pixel, 1 - wrong.abs(), log_probability, reads.gammas))
    result = None if a is None else a * wrong
    h = None
    if gradients.by_channel is not None:
        h = _active(gradients.by_channel[images, :, :1])
        if reads.squares:
            h = _add(h, p * (2 * gradients.by_channel[images, :, 1:2]))
    if gradients.error_sums is not None and reads.errors == "probability":
        slope = _sigmoid_error_slope(gradients.error_sums, images, wrong.abs(), labels, reads)
        h = _add(h, slope.mul_(1 - 2 * t))
    if h is not None:
        result = _add(result, torch.addcmul(p, p, p, value=-1).mul_(h))
    if gradients.by_channel is not None and reads.uniform:
        result = _add(result, gradients.by_channel[images, :, -1:] * (0.5 - p))
    if gradients.error_sums is not None and reads.errors == "margin":
        sign = 1 - 2 * t
        errors = torch.addcmul(torch.ones_like(z), sign, z).relu_()
        inside = errors.sign()
        slope = _sigmoid_error_slope(gradients.error_sums, images, errors, labels, reads)
        result = _add(result, slope.mul_(inside).mul_(sign))
    if result is None:
        return torch.zeros_like(z)
    return result if valid is None else result.mul_(valid)


def _softmax_error_slope(table: Tensor, images: slice, p: Tensor, labels: Tensor, reads: Reads) -> Tensor:
    """∂L/∂p through the sums of errors, (n, C, L)."""
    index = labels.unsqueeze(1)
    of_label = p.gather(1, index)
    rows = (table[images] if reads.errors_per_image else table).expand(len(p), -1, -1, -1)
    slope = rows[:, :, 0].gather(2, reads.bins.index(reads.bins.positions(p.clone()), p.dtype))
    bins = reads.bins.index(reads.bins.positions(1 - of_label), p.dtype)
    own = rows[:, :, 1]
    flat = (index * own.shape[2] + bins).flatten(1)
    return slope.scatter_(1, index, -own.flatten(1).gather(1, flat).unsqueeze(1))


def _sigmoid_error_slope(table: Tensor, images: slice, errors: Tensor, labels: Tensor, reads: Reads) -> Tensor:
    """∂L/∂e through the sums of errors, (n, C, L); `errors` are overwritten."""
    bins = reads.bins.index(reads.bins.positions(errors), errors.dtype)
    rows = (table[images] if reads.errors_per_image else table).expand(len(errors), -1, -1, -1).flatten(2)
    return rows.gather(2, bins.add_(labels, alpha=reads.bins.count))


class _Histograms:
    """Histograms of errors for each group of images, class, and label: other (0) or own (1)."""

    def __init__(self, logits: Tensor, reads: Reads) -> None:
        images, classes, pixels = logits.shape
        self.per_image = reads.errors_per_image
        groups = images if self.per_image else 1
        like = torch.empty(0, dtype=_wide(logits), device=logits.device)
        self.histogram = ErrorHistogram(reads.bins, (groups, classes, 2), like, images * pixels)

    def add_softmax(self, images: slice, p: Tensor, labels: Tensor, valid: Tensor | None) -> None:
        """Adds |p_c - [y = c]|; `p`, 0 at void pixels, is overwritten."""
        index = labels.unsqueeze(1)
        own_bins, own = self.histogram.index_and_value(1 - p.gather(1, index))
        if valid is not None:
            own.mul_(valid.unsqueeze(1))
        bins, values = self.histogram.index_and_value(p)
        values.scatter_(1, index, 0)
        if valid is not None:
            values.mul_(valid.unsqueeze(1))
        packed = self._rows(images)
        self._scatter(packed[:, :, 0], bins, values)
        flat = (index * packed.shape[3] + own_bins).flatten(1)
        add = torch.zeros(len(packed), packed.shape[1] * packed.shape[3], dtype=torch.int64, device=p.device)
        add.scatter_add_(1, *(part.reshape(len(packed), -1) for part in (flat, own)))
        packed[:, :, 1] += add.view(len(packed), packed.shape[1], packed.shape[3])

    def add_sigmoid(self, images: slice, errors: Tensor, labels: Tensor, counted: Tensor) -> None:
        """Adds the errors that are counted; they are overwritten."""
        bins, values = self.histogram.index_and_value(errors)
        values.mul_(counted)
        self._scatter(self._rows(images).flatten(2), bins.add_(labels, alpha=self.histogram.bins.count), values)

    def _rows(self, images: slice) -> Tensor:
        return self.histogram.packed[images] if self.per_image else self.histogram.packed

    def _scatter(self, rows: Tensor, bins: Tensor, values: Tensor) -> None:
        """Adds (n, C, L) to (n, C, bins), or to (1, C, bins)."""
        if len(rows) == len(bins):
            rows.scatter_add_(2, bins, values)
        else:
            rows.scatter_add_(2, *(part.transpose(0, 1).flatten(1).unsqueeze(0) for part in (bins, values)))


def block_size(logits: Tensor) -> int:
    """How many logits a block has: few enough, too, that the blocks in use are small beside all logits."""
    if logits.device.type != "cpu":
        return 2**26  # there is no cache to stay in, and every operation costs a launch
    return max(2**15, min(_BLOCK, logits.numel() // 16))


def _blocks(logits: Tensor) -> Iterator[Block]:
    """Slices of images and pixels: many pixels of one image, or many small images."""
    images, classes, pixels = logits.shape
    length = max(1, block_size(logits) // classes)
    count = max(1, length // max(1, pixels))
    for image in range(0, images, count):
        for start in range(0, pixels, length):
            yield slice(image, image + count), slice(start, start + length)


def _wide(logits: Tensor) -> torch.dtype:
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


def _widened(logits: Tensor) -> Tensor:
    return logits.to(_wide(logits))


def _exp_difference(z: Tensor, offset: Tensor, out: Tensor | None = None) -> Tensor:
    """exp(z - offset), with one offset for each pixel."""
    # The difference first: it is exact near the peak, where the products of large logits would be rounded apart.
    return torch.sub(z, offset.unsqueeze(1), out=out).mul_(LOG2E).exp2_()


def _labels(target: Tensor, ignore_index: int | None, classes: int) -> tuple[Tensor, Tensor | None]:
    """Labels, int64, 0 at void pixels; and which pixels are valid, None if all are known to be."""
    labels, valid = valid_labels(target, ignore_index)
    check_labels(labels, classes, ignore_index)
    if valid is not None and valid.device.type == "cpu" and bool(valid.all()):
        valid = None
    return labels.clamp_(0, classes - 1) if labels.is_cuda else labels, valid


def _without_void(z: Tensor, valid: Tensor | None) -> Tensor:
    """The logits with nothing at void pixels, which may hold anything, that could spread by being multiplied by 0."""
    if valid is None or (z.device.type == "cpu" and bool(z.sum().isfinite())):
        return z
    return torch.where(valid if valid.ndim == z.ndim else valid.unsqueeze(1), z, 0)


def _active(gradient: Tensor) -> Tensor | None:
    """None for zeros, where looking does not make the host wait."""
    return None if gradient.device.type == "cpu" and not bool(gradient.any()) else gradient


def _log_sigmoid(x: Tensor) -> Tensor:
    """log σ(x) = min(x, 0) - log(1 + exp(-|x|)), to the precision of numbers near 1; log1p costs eight times."""
    ratio = x.abs().mul_(-LOG2E).exp2_()
    return torch.sub(x.clamp(max=0), ratio.add_(1).log2_(), alpha=1 / LOG2E)


def _of_label(log_probability: Tensor, valid: Tensor | None, gammas: tuple[float, ...]) -> Tensor:
    """1, ℓ, p_y and (1 - p_y)^γ ℓ of each pixel, 0 at void ones; float64, with the numbers as first dimension."""
    p = (log_probability * LOG2E).exp2_()
    parts = [torch.ones_like(p), log_probability, p, *((1 - p).pow(gamma).mul_(log_probability) for gamma in gammas)]
    values = torch.stack(parts).double()
    return values if valid is None else values.mul_(valid.double())


def _slope_of_label(
    own: list[Tensor | None], p: Tensor | None, log_probability: Tensor | None, gammas: tuple[float, ...]
) -> Tensor | None:
    """∂L/∂ℓ from the gradients of Σ ℓ, Σ p_y and Σ (1 - p_y)^γ ℓ of each pixel's label."""
    slope, of_probability, *others = own
    if of_probability is not None and p is not None:
        slope = _add(slope, of_probability * p)
    for gradient, gamma in zip(others, gammas, strict=True):
        if gradient is not None and p is not None and log_probability is not None:
            # tiny: at p = 1 the slope of x^γ is infinite for γ < 1.
            wrong = (1 - p).clamp_(min=torch.finfo(p.dtype).tiny)
            changed = wrong.pow(gamma - 1).mul_(torch.addcmul(wrong, p, log_probability, value=-gamma))
            slope = _add(slope, gradient * changed)
    return slope


def _add_by_label(sums: Tensor, labels: Tensor, values: Tensor) -> None:
    """Adds values (K, n, L) of pixels to (n, C, K) by label."""
    added = torch.zeros(len(values), *sums.shape[:2], dtype=values.dtype, device=values.device)
    added.scatter_add_(2, labels.expand(len(values), -1, -1), values)
    sums += added.movedim(0, 2)


def _add_by_sign(
    sums: Tensor, t: Tensor, weight: Tensor, log_probability: Tensor, p: Tensor, gammas: tuple[float, ...]
) -> None:
    """Adds to (n, C, 2, K) the sums of pixels (n, C, L) by their label t, 0 or 1; maps and t are 0 at void pixels."""
    count, ones = weight.sum(2).double(), t.sum(2).double()
    found, of_ones = p.sum(2).double(), _dot(t, p)
    sums[:, :, 0, 0] += count - ones
    sums[:, :, 1, 0] += ones
    sums[:, :, 0, 2] += count - ones - (found - of_ones)
    sums[:, :, 1, 2] += of_ones
    maps = [log_probability]
    if gammas:
        wrong = (t - p).abs_()
        maps += [wrong.pow(gamma).mul_(log_probability) for gamma in gammas]
    for column, values in zip((1, *range(3, 3 + len(gammas))), maps, strict=True):
        ones = _dot(t, values)
        sums[:, :, 0, column] += values.sum(2).double() - ones
        sums[:, :, 1, column] += ones


def _dot(one: Tensor, other: Tensor) -> Tensor:
    """Σ one·other over the last dimension, float64."""
    return (one * other).sum(2).double()


def _write(sums: Tensor, column: int, values: Tensor) -> None:
    sums[:, :, column] += values


def _add(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    return other if one is None else one if other is None else one + other
