"""The kernels of `numba_backend`: what `torch_backend` computes, for a block of pixels, tile by tile.

A tile is some pixels with all their channels, and stays in the cache of a core. A loop over its pixels is compiled to
vector instructions: it reads neighboring numbers of a few arrays, chooses between numbers instead of branching, and
keeps to one float type. NaN and infinity are honored; only `_of_sums` lets sums be taken in another order.

Labels are int32, -1 at void pixels. Sums are of the logits' type within a tile and float64 across tiles. Arguments have
no elements where nothing is read or written. Logits, maps of pixels and the gradient have one dimension: the number of
the block's image n, channel c and pixel i stands at first + n·image + c·channel + i·pixel, and of maps and gradients
pixel is 1. So a kernel has one signature for each dtype, since compiling one takes seconds. All kernels stand in this
file, because a change in another would not be noticed by the cache of compiled code.
"""

# Numba types these functions when it compiles them.
# mypy: ignore-errors

import math

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from lightning_seg.losses.engine.numba_cache import compiled, part

_kernel = compiled({"nsz", "arcp", "contract"})
_part = part({"nsz", "arcp", "contract"})
_of_sums = part({"nsz", "arcp", "contract", "reassoc"})

_LOG2E = np.float32(math.log2(math.e))
_LN2 = np.float32(math.log(2.0))
# Of 2^f for f from -1/2 to 1/2, with an error of 1e-7: the Taylor series.
_C1, _C2, _C3, _C4, _C5, _C6 = (np.float32(math.log(2.0) ** k / math.factorial(k)) for k in range(1, 7))
_SQRT_HALF = np.int32(0x3F3504F3)
_MANTISSA, _EXPONENT_OF_1 = np.int32(23), np.int32(127)
_LOWEST = np.float32(-126)
# Rows of a multiple of 4096 bytes would share the same few lines of the cache.
_PADDING = 16


def _bit_cast(source, result, llvm_type):
    @intrinsic
    def cast(context, value):
        return result(source), lambda _, builder, __, arguments: builder.bitcast(arguments[0], llvm_type)

    return cast


_int32_bits = _bit_cast(types.float32, types.int32, ir.IntType(32))
_int64_bits = _bit_cast(types.float64, types.int64, ir.IntType(64))
_float32_of = _bit_cast(types.int32, types.float32, ir.FloatType())


@intrinsic
def _nearest(context, value):
    def generate(_, builder, __, arguments):
        return builder.call(builder.module.declare_intrinsic("llvm.rint", [ir.FloatType()]), arguments)

    return types.float32(types.float32), generate


@intrinsic
def _integer(context, value):
    return types.int32(types.float32), lambda _, builder, __, arguments: builder.fptosi(arguments[0], ir.IntType(32))


@intrinsic
def _choose(context, condition, one, other):
    """`one if condition else other`, without a branch."""

    def generate(_, builder, __, arguments):
        return builder.select(*arguments)

    return one(types.boolean, one, one), generate


@_part
def _exp_float32(x):
    t = x * _LOG2E
    t = _choose(t < _LOWEST, _LOWEST, t)
    n = _nearest(t)
    f = t - n
    power = (((((_C6 * f + _C5) * f + _C4) * f + _C3) * f + _C2) * f + _C1) * f + np.float32(1)
    result = power * _float32_of((_integer(n) + _EXPONENT_OF_1) << _MANTISSA)
    return _choose(t <= _LOWEST, np.float32(0), result)


@_part
def _log_float32(x):
    bits = _int32_bits(x)
    exponent = (bits - _SQRT_HALF) >> _MANTISSA
    m = _float32_of(bits - (exponent << _MANTISSA))
    s = (m - np.float32(1)) / (m + np.float32(1))
    z = s * s
    series = ((z * np.float32(1 / 9) + np.float32(1 / 7)) * z + np.float32(1 / 5)) * z + np.float32(1 / 3)
    # The last term is NaN of NaN, whose bits look like a number's.
    return s * (np.float32(2) + np.float32(2) * z * series) + np.float32(exponent) * _LN2 + np.float32(0) * x


@_part
def _log1p_float32(x):
    s = x / (np.float32(2) + x)
    z = s * s
    series = ((z * np.float32(1 / 15) + np.float32(1 / 13)) * z + np.float32(1 / 11)) * z + np.float32(1 / 9)
    series = ((series * z + np.float32(1 / 7)) * z + np.float32(1 / 5)) * z + np.float32(1 / 3)
    return s * (np.float32(2) + np.float32(2) * z * series)


def _exp(x):
    """e^x of x that are 0 at most, to the precision of 2^t with t = x log₂ e; 0 below the normal numbers."""


def _log(x):
    """log x of normal numbers."""


def _log1p(x):
    """log(1 + x) of x from 0 to 1."""


def _position(error):
    """See `ErrorBins.positions`."""


def _like(value, error):
    """An integer in the type of positions."""


@overload(_exp)
def _(x):
    return (lambda x: _exp_float32(x)) if x == types.float32 else (lambda x: math.exp(x))


@overload(_log)
def _(x):
    return (lambda x: _log_float32(x)) if x == types.float32 else (lambda x: math.log(x))


@overload(_log1p)
def _(x):
    return (lambda x: _log1p_float32(x)) if x == types.float32 else (lambda x: math.log1p(x))


@overload(_position)
def _(error):
    if error == types.float32:
        return lambda error: _int32_bits(error + np.float32(1)) - np.int32(0x3F800000)
    return lambda error: _int64_bits(error + 1.0) - np.int64(1023 << 52)


@overload(_like)
def _(value, error):
    return (lambda value, error: np.int32(value)) if error == types.float32 else (lambda value, error: np.int64(value))


# ---------------------------------------------------------------------------------------------------------------------


@_of_sums
def _read_row(source, classes, ignores, ignore_index, labels):
    unknown = np.int64(0)
    for i in range(labels.size):
        label = np.int64(source[i])
        void = ignores & (label == ignore_index)
        known = (label >= 0) & (label < classes)
        labels[i] = _choose(known & ~void, np.int32(label), np.int32(-1))
        unknown += _choose(known | void, np.int64(0), np.int64(1))
    return unknown


@_kernel
def read_labels(target, first, image, channel, pixel, classes, ignores, ignore_index, labels):
    """Labels (n, rows, L) of a block, -1 at void pixels; returns whether all are known.

    `target` has one dimension; the label of image i, row r and pixel j stands at first + i·image + r·channel + j·pixel.
    """
    unknown = np.int64(0)
    for i in range(labels.shape[0]):
        for r in range(labels.shape[1]):
            start = first + i * image + r * channel
            row = labels[i, r]
            if pixel == 1:
                unknown += _read_row(target[start : start + row.size], classes, ignores, ignore_index, row)
            else:
                end = start + (row.size - 1) * pixel + 1
                unknown += _read_row(target[start:end:pixel], classes, ignores, ignore_index, row)
    return unknown == 0


@_part
def _fill(row, value):
    # Not row[:] = value, whose message about shapes takes seconds to compile.
    for i in range(row.size):
        row[i] = value


@_part
def _load(logits, start, stride, labels, row):
    """Logits of one channel, 0 at void pixels."""
    zero = row.dtype.type(0)
    if stride == 1:
        source = logits[start : start + labels.size]
        for i in range(labels.size):
            row[i] = _choose(labels[i] >= 0, source[i], zero)
    else:
        for i in range(labels.size):
            row[i] = _choose(labels[i] >= 0, logits[start + i * stride], zero)


@_part
def _raise_peak(row, before, peak):
    """The greater number. In place it would become a masked store, which some processors do slowly."""
    for i in range(peak.size):
        peak[i] = _choose(row[i] > before[i], row[i], before[i])


@_part
def _exponentials(row, peak, total):
    for i in range(total.size):
        e = _exp(row[i] - peak[i])
        row[i] = e
        total[i] += e


@_part
def _normalize(labels, peak, total, own):
    """Of each pixel log Σ exp z for its peak, 1 / Σ for the sum of exponentials, and ℓ for the logit of its label."""
    zero, one, infinity = peak.dtype.type(0), peak.dtype.type(1), peak.dtype.type(np.inf)
    for i in range(labels.size):
        valid = labels[i] >= 0
        log_total = _log(total[i])
        # In this order no digits of a large peak are lost.
        own[i] = _choose(valid, (own[i] - peak[i]) - log_total, zero)
        peak[i] = _choose(valid, peak[i] + log_total, infinity)
        total[i] = _choose(valid, one / total[i], zero)


@_part
def _exp_of(row, result):
    for i in range(row.size):
        result[i] = _exp(row[i])


@_part
def _power(row, exponent, result):
    """row^exponent, of numbers from 0 to 1."""
    if exponent == 0:
        _fill(result, result.dtype.type(1))
    elif exponent == 1:
        for i in range(row.size):
            result[i] = row[i]
    elif exponent == 2:
        for i in range(row.size):
            result[i] = row[i] * row[i]
    else:
        zero, least, exponent = row.dtype.type(0), row.dtype.type(1.1754943508222875e-38), row.dtype.type(exponent)
        for i in range(row.size):
            tiny = row[i] < least
            power = _exp(exponent * _log(_choose(tiny, least, row[i])))
            result[i] = _choose(tiny, zero, power)


@_part
def _inverse_power(row, exponent, result):
    """row^exponent of numbers from the smallest normal one to 1, also with exponents below 0."""
    if exponent >= 0:
        _power(row, exponent, result)
    else:
        exponent = row.dtype.type(-exponent)
        one = row.dtype.type(1)
        for i in range(row.size):
            result[i] = one / _exp(exponent * _log(row[i]))


@_of_sums
def _sum(row):
    total = row.dtype.type(0)
    for i in range(row.size):
        total += row[i]
    return total


@_of_sums
def _sum_of_label(labels, label, row):
    zero = row.dtype.type(0)
    total = zero
    for i in range(labels.size):
        total += _choose(labels[i] == label, row[i], zero)
    return total


@_of_sums
def _count(labels, label):
    count = np.int32(0)
    for i in range(labels.size):
        count += np.int32(labels[i] == label)
    return count


@_part
def _add_by_label(labels, row, sums, column, of_tile):
    """Adds a row to a column of the sums (labels, K) of its pixels' labels."""
    classes = sums.shape[0]
    if classes <= 8:
        for c in range(classes):
            sums[c, column] += _sum_of_label(labels, np.int32(c), row)
    else:
        _fill(of_tile, row.dtype.type(0))
        for i in range(labels.size):
            if labels[i] >= 0:
                of_tile[labels[i]] += row[i]
        for c in range(classes):
            sums[c, column] += of_tile[c]


@_of_sums
def _probabilities(row, weight):
    """Makes probabilities of exponentials; returns their sum and that of their squares."""
    total, squares = row.dtype.type(0), row.dtype.type(0)
    for i in range(row.size):
        p = row[i] * weight[i]
        row[i] = p
        total += p
        squares += p * p
    return total, squares


@_of_sums
def _dot(row, other):
    total = row.dtype.type(0)
    for i in range(row.size):
        total += row[i] * other[i]
    return total


@_part
def _bins_and_values(errors, labels, own, margins, count, cut, cut_off, shift, largest, bins, values):
    """The bin of each error, those of the own label after those of others, and what to add there; see `ErrorHistogram`.

    Void pixels add 0, and of margins those that are 0.
    """
    zero, limit = errors.dtype.type(0), errors.dtype.type(largest)
    one = np.int64(1) << shift
    for i in range(errors.size):
        # NaN, too, has a bin.
        position = _position(_choose(errors[i] < limit, errors[i], limit))
        width = _like(cut, errors[i])
        index = position >> width
        place = (position - (index << width)) >> _like(cut_off, errors[i])
        counts = (labels[i] >= 0) & ((errors[i] > zero) | (not margins))
        bins[i] = np.uint32(index) + _choose(labels[i] == own, np.uint32(count), np.uint32(0))
        values[i] = _choose(counts, one + np.int64(place), np.int64(0))


@_part
def _add_errors(errors, labels, own, margins, table, bins, values, cut, cut_off, shift, largest):
    """Adds errors to a histogram (2, bins) of labels other and own."""
    length = errors.size
    _bins_and_values(
        errors, labels, own, margins, table.shape[1], cut, cut_off, shift, largest, bins[:length], values[:length]
    )
    flat = table.reshape(table.size)
    # Those of the first bin, where most of a trained network are, would wait for each other.
    first = np.int64(0)
    for i in range(length):
        if bins[i] == 0:
            first += values[i]
        else:
            flat[bins[i]] += values[i]
    flat[0] += first


@_part
def _errors(row, labels, channel, errors):
    """Errors of probabilities."""
    one = row.dtype.type(1)
    for i in range(row.size):
        errors[i] = _choose(labels[i] == channel, one - row[i], row[i])


@_kernel
def softmax_forward(
    logits, place, labels, tile, gammas, squares, uniform,
    by_label, by_channel, label_map, normalizer, of_maps, packed, cut, cut_off, shift, largest,
):  # fmt: skip
    """Sums of a block (n, C, L) by label and by channel, (n, C, K), added to what they hold; maps; and histograms."""
    first, image, channel, pixel = place
    first_of_maps, image_of_maps, _ = of_maps
    images, _, pixels = labels.shape
    classes = by_channel.shape[1]
    of_tile = np.empty(classes, normalizer.dtype)
    z = np.empty((classes, tile + _PADDING), normalizer.dtype)
    maps = np.empty((7, tile), normalizer.dtype)
    bins, values = np.empty(tile, np.uint32), np.empty(tile, np.int64)
    for n in range(images):
        for start in range(0, pixels, tile):
            length = min(tile, pixels - start)
            label = labels[n, 0, start : start + length]
            peak, total, own = maps[0, :length], maps[1, :length], maps[2, :length]
            probability, wrong, power = maps[3, :length], maps[4, :length], maps[5, :length]
            higher = maps[6, :length]
            _fill(peak, peak.dtype.type(-np.inf))
            _fill(total, total.dtype.type(0))
            in_maps = first_of_maps + n * image_of_maps + start
            for c in range(classes):
                row = z[c, :length]
                _load(logits, first + n * image + c * channel + start * pixel, pixel, label, row)
                _raise_peak(row, peak, higher)
                peak, higher = higher, peak
                if uniform:
                    by_channel[n, c, by_channel.shape[2] - 1] += _sum(row)
            for i in range(length):
                own[i] = z[max(label[i], 0), i]
            for c in range(classes):
                _exponentials(z[c, :length], peak, total)
            _normalize(label, peak, total, own)
            for i in range(length):
                normalizer[in_maps + i] = peak[i]
            if label_map.size > 0:
                for i in range(length):
                    label_map[in_maps + i] = own[i]
            _exp_of(own, probability)
            of_image = by_label[n]
            if classes <= 8:
                for c in range(classes):
                    of_image[c, 0] += _count(label, np.int32(c))
            else:
                for i in range(length):
                    if label[i] >= 0:
                        of_image[label[i], 0] += 1
            for column in range(1, 3):
                _add_by_label(label, own if column == 1 else probability, of_image, column, of_tile)
            for k in range(gammas.size):
                for i in range(length):
                    wrong[i] = max(1 - probability[i], 0)
                _power(wrong, gammas[k], power)
                for i in range(length):
                    power[i] *= own[i]
                _add_by_label(label, power, of_image, 3 + k, of_tile)
            log_sums = 0.0
            if uniform:
                for i in range(length):
                    log_sums += peak[i] if label[i] >= 0 else 0
            for c in range(classes):
                row = z[c, :length]
                if squares or packed.size > 0:
                    sum_of_row, sum_of_squares = _probabilities(row, total)
                    by_channel[n, c, 0] += sum_of_row
                    if squares:
                        by_channel[n, c, 1] += sum_of_squares
                else:
                    by_channel[n, c, 0] += _dot(row, total)
                if uniform:
                    by_channel[n, c, by_channel.shape[2] - 1] -= log_sums
                if packed.size > 0:
                    _errors(row, label, np.int32(c), wrong)
                    table = packed[n if packed.shape[0] > 1 else 0, c]
                    _add_errors(wrong, label, np.int32(c), False, table, bins, values, cut, cut_off, shift, largest)


@_part
def _probabilities_of(row, log_sums):
    """Makes probabilities of logits."""
    for i in range(row.size):
        row[i] = _exp(row[i] - log_sums[i])


@_part
def _add_products(row, of_channel, of_square, t):
    """Adds h·p to t, with h the gradient of p."""
    twice = of_square + of_square
    for i in range(row.size):
        t[i] += row[i] * (of_channel + twice * row[i])


@_part
def _write_gradient(p, labels, channel, of_channel, of_square, of_uniform, t, a, result):
    """p (h - t) + a δ + u."""
    twice, zero = of_square + of_square, p.dtype.type(0)
    for i in range(p.size):
        own = _choose(labels[i] == channel, a[i], zero) + _choose(labels[i] >= 0, of_uniform, zero)
        result[i] = p[i] * ((of_channel + twice * p[i]) - t[i]) + own


@_part
def _add_error_gradient(p, of_error, result):
    for i in range(p.size):
        result[i] += p[i] * of_error[i]


@_part
def _error_gradients(errors, labels, own, table, cut, largest, result):
    """∂L/∂p or ∂L/∂z of each error, looked up by bin; `table` has those of labels other and own."""
    limit, flat, count = errors.dtype.type(largest), table.reshape(table.size), np.uint32(table.shape[1])
    for i in range(errors.size):
        position = _position(_choose(errors[i] < limit, errors[i], limit))
        index = np.uint32(position >> _like(cut, errors[i]))
        result[i] = flat[index + _choose(labels[i] == own, count, np.uint32(0))]


@_part
def _label_gradients(labels, gradients, gammas, log_probability, probability, wrong, power, a):
    """Adds ∂L/∂ℓ of each pixel, by the gradients (labels, K) of the sums by label, to a."""
    zero = a.dtype.type(0)
    for i in range(labels.size):
        label = max(labels[i], 0)
        of_pixel = gradients[label, 1] + gradients[label, 2] * probability[i]
        a[i] += _choose(labels[i] >= 0, of_pixel, zero)
    if gammas.size == 0:
        return
    one, least = a.dtype.type(1), a.dtype.type(1.1754943508222875e-38)
    for i in range(labels.size):
        # The smallest normal number: at p = 1 the derivative of x^γ is infinite for γ < 1.
        wrong[i] = max(one - probability[i], least)
    for k in range(gammas.size):
        gamma = a.dtype.type(gammas[k])
        _inverse_power(wrong, gammas[k] - 1, power)
        for i in range(labels.size):
            if labels[i] >= 0:
                changed = power[i] * (wrong[i] - gamma * probability[i] * log_probability[i])
                a[i] += gradients[labels[i], 3 + k] * changed


@_kernel
def softmax_backward(
    logits, place, labels, tile, gammas, squares, uniform,
    by_label, by_channel, of_map, of_errors, normalizer, of_maps, cut, largest, result, of_result, classes,
):  # fmt: skip
    """Writes the gradient of a block (n, C, L)."""
    first, image, channel, pixel = place
    first_of_maps, image_of_maps, _ = of_maps
    first_of_result, image_of_result, channel_of_result = of_result
    images, _, pixels = labels.shape
    zero = result.dtype.type(0)
    p = np.empty((classes, tile + _PADDING), result.dtype)
    maps = np.empty((6, tile), result.dtype)
    errors = np.empty(tile if of_errors.size > 0 else 0, result.dtype)
    lookup = np.empty((classes if of_errors.size > 0 else 0, tile + _PADDING), result.dtype)
    for n in range(images):
        for start in range(0, pixels, tile):
            length = min(tile, pixels - start)
            label = labels[n, 0, start : start + length]
            in_maps = first_of_maps + n * image_of_maps + start
            log_sums = normalizer[in_maps : in_maps + length]
            a, t, own = maps[0, :length], maps[1, :length], maps[2, :length]
            probability, wrong, power = maps[3, :length], maps[4, :length], maps[5, :length]
            begin = first + n * image + start * pixel
            _fill(a, zero)
            if of_map.size > 0:
                for i in range(length):
                    a[i] = of_map[in_maps + i] if label[i] >= 0 else zero
            if by_label.size > 0:
                for i in range(length):
                    own[i] = logits[begin + label[i] * channel + i * pixel] - log_sums[i] if label[i] >= 0 else zero
                _exp_of(own, probability)
                _label_gradients(label, by_label[n], gammas, own, probability, wrong, power, a)
            # p (h - Σ h p) + a (δ - p) + u - p Σ u = p (h - t) + a δ + u, with t one number for each pixel.
            for i in range(length):
                t[i] = a[i]
            if by_channel.size > 0 and uniform:
                of_uniform = zero
                for c in range(classes):
                    of_uniform += by_channel[n, c, by_channel.shape[2] - 1]
                for i in range(length):
                    t[i] += of_uniform
            for c in range(classes):
                row = p[c, :length]
                _load(logits, begin + c * channel, pixel, label, row)
                _probabilities_of(row, log_sums)
                if by_channel.size > 0:
                    _add_products(row, by_channel[n, c, 0], by_channel[n, c, 1] if squares else zero, t)
                if of_errors.size > 0:
                    error, found = errors[:length], lookup[c, :length]
                    _errors(row, label, np.int32(c), error)
                    table = of_errors[n if of_errors.shape[0] > 1 else 0, c]
                    _error_gradients(error, label, np.int32(c), table, cut, largest, found)
                    for i in range(length):
                        t[i] += found[i] * row[i]
            for c in range(classes):
                in_result = first_of_result + n * image_of_result + c * channel_of_result + start
                row = result[in_result : in_result + length]
                of_channel = by_channel[n, c, 0] if by_channel.size > 0 else zero
                of_square = by_channel[n, c, 1] if by_channel.size > 0 and squares else zero
                of_uniform = by_channel[n, c, by_channel.shape[2] - 1] if by_channel.size > 0 and uniform else zero
                _write_gradient(p[c, :length], label, np.int32(c), of_channel, of_square, of_uniform, t, a, row)
                if of_errors.size > 0:
                    _add_error_gradient(p[c, :length], lookup[c, :length], row)


# ---------------------------------------------------------------------------------------------------------------------


@_part
def _sigmoids(z, labels, log_probability, probability):
    """ℓ = log σ(±z) and p = σ(z); 0 at void pixels."""
    zero, one = z.dtype.type(0), z.dtype.type(1)
    for i in range(z.size):
        x = _choose(labels[i] == 1, z[i], -z[i])
        ratio = _exp(-abs(z[i]))
        part = one / (one + ratio)
        valid = labels[i] >= 0
        probability[i] = _choose(valid, _choose(z[i] >= zero, part, ratio * part), zero)
        log_probability[i] = _choose(valid, _choose(x < zero, x, zero) - _log1p(ratio), zero)


@_part
def _own_and_wrong(z, labels, own, wrong):
    """p_y and 1 - p_y."""
    zero, one = z.dtype.type(0), z.dtype.type(1)
    for i in range(z.size):
        right = _choose(labels[i] == 1, z[i], -z[i]) >= zero
        ratio = _exp(-abs(z[i]))
        part = one / (one + ratio)
        other = ratio * part
        own[i] = _choose(right, part, other)
        wrong[i] = _choose(right, other, part)


@_of_sums
def _sums_by_sign(labels, row):
    """The sums of a row that is 0 at void pixels, of the labels 0 and 1."""
    zero = row.dtype.type(0)
    total, ones = zero, zero
    for i in range(row.size):
        total += _choose(labels[i] == 1, zero, row[i])
        ones += _choose(labels[i] == 1, row[i], zero)
    return total, ones


@_of_sums
def _uniform_sum(z, labels, log_probability):
    """Σ ½ (log p + log(1 - p)) = Σ (ℓ - x / 2)."""
    half = z.dtype.type(0.5)
    total = z.dtype.type(0)
    for i in range(z.size):
        total += log_probability[i] - half * _choose(labels[i] == 1, z[i], -z[i])
    return total


@_part
def _margins(z, labels, errors):
    zero, one = z.dtype.type(0), z.dtype.type(1)
    for i in range(z.size):
        margin = one - _choose(labels[i] == 1, z[i], -z[i])
        errors[i] = _choose(margin < zero, zero, margin)


@_kernel
def sigmoid_forward(
    logits, place, labels, tile, gammas, squares, uniform,
    by_label, by_channel, label_map, of_maps, packed, margins, cut, cut_off, shift, largest,
):  # fmt: skip
    """Sums of a block (n, C, L) by label, (n, C, 2, K), and by channel, (n, C, K), added; maps; and histograms."""
    first, image, channel, pixel = place
    first_of_maps, image_of_maps, channel_of_maps = of_maps
    images, classes, pixels = labels.shape
    maps = np.empty((5, tile), label_map.dtype)
    bins, values = np.empty(tile, np.uint32), np.empty(tile, np.int64)
    for n in range(images):
        for c in range(classes):
            sums, of_channel = by_label[n, c], by_channel[n, c]
            for start in range(0, pixels, tile):
                length = min(tile, pixels - start)
                label = labels[n, c, start : start + length]
                z, own, probability = maps[0, :length], maps[1, :length], maps[2, :length]
                wrong, power = maps[3, :length], maps[4, :length]
                _load(logits, first + n * image + c * channel + start * pixel, pixel, label, z)
                _sigmoids(z, label, own, probability)
                if label_map.size > 0:
                    in_maps = first_of_maps + n * image_of_maps + c * channel_of_maps + start
                    for i in range(length):
                        label_map[in_maps + i] = own[i]
                zeros, ones = _count(label, np.int32(0)), _count(label, np.int32(1))
                sums[0, 0] += zeros
                sums[1, 0] += ones
                of_zeros, of_ones = _sums_by_sign(label, own)
                sums[0, 1] += of_zeros
                sums[1, 1] += of_ones
                of_zeros, of_ones = _sums_by_sign(label, probability)
                of_channel[0] += of_zeros
                of_channel[0] += of_ones
                sums[0, 2] += np.float64(zeros) - of_zeros
                sums[1, 2] += of_ones
                if squares:
                    of_channel[1] += _dot(probability, probability)
                if uniform:
                    of_channel[of_channel.size - 1] += _uniform_sum(z, label, own)
                if gammas.size > 0 or (packed.size > 0 and not margins):
                    _errors(probability, label, np.int32(1), wrong)
                for k in range(gammas.size):
                    _power(wrong, gammas[k], power)
                    for i in range(length):
                        power[i] *= own[i]
                    of_zeros, of_ones = _sums_by_sign(label, power)
                    sums[0, 3 + k] += of_zeros
                    sums[1, 3 + k] += of_ones
                if packed.size > 0:
                    if margins:
                        _margins(z, label, wrong)
                    table = packed[n if packed.shape[0] > 1 else 0, c]
                    # An error of 0 is no error at any threshold; counted, it would dilute those just above it.
                    _add_errors(wrong, label, np.int32(1), True, table, bins, values, cut, cut_off, shift, largest)


@_part
def _sigmoid_gradient(labels, own, wrong, a, of_channel, of_square, of_uniform, row):
    """The gradient of logits; a is 0 at void pixels."""
    zero, half = row.dtype.type(0), row.dtype.type(0.5)
    twice = of_square + of_square
    for i in range(row.size):
        is_one = labels[i] == 1
        p = _choose(is_one, own[i], wrong[i])
        of_label = a[i] * _choose(is_one, wrong[i], -wrong[i])
        h = of_channel + twice * p
        value = (of_label + (h * own[i]) * wrong[i]) + of_uniform * (half - p)
        row[i] = _choose(labels[i] >= 0, value, zero)


@_kernel
def sigmoid_backward(
    logits, place, labels, tile, gammas, squares, uniform,
    by_label, by_channel, of_map, of_maps, of_errors, margins, cut, largest, result, of_result,
):  # fmt: skip
    """Writes the gradient of a block (n, C, L)."""
    first, image, channel, pixel = place
    first_of_maps, image_of_maps, channel_of_maps = of_maps
    first_of_result, image_of_result, channel_of_result = of_result
    images, classes, pixels = labels.shape
    zero, one = result.dtype.type(0), result.dtype.type(1)
    maps = np.empty((7, tile), result.dtype)
    for n in range(images):
        for c in range(classes):
            of_channel = by_channel[n, c, 0] if by_channel.size > 0 else zero
            of_square = by_channel[n, c, 1] if by_channel.size > 0 and squares else zero
            of_uniform = by_channel[n, c, by_channel.shape[2] - 1] if by_channel.size > 0 and uniform else zero
            for start in range(0, pixels, tile):
                length = min(tile, pixels - start)
                label = labels[n, c, start : start + length]
                z, own, wrong = maps[0, :length], maps[1, :length], maps[2, :length]
                a, log_probability = maps[3, :length], maps[4, :length]
                power, scratch = maps[5, :length], maps[6, :length]
                in_result = first_of_result + n * image_of_result + c * channel_of_result + start
                row = result[in_result : in_result + length]
                _load(logits, first + n * image + c * channel + start * pixel, pixel, label, z)
                _own_and_wrong(z, label, own, wrong)
                _fill(a, zero)
                if of_map.size > 0:
                    in_maps = first_of_maps + n * image_of_maps + c * channel_of_maps + start
                    for i in range(length):
                        a[i] = of_map[in_maps + i] if label[i] >= 0 else zero
                if by_label.size > 0:
                    if gammas.size > 0:
                        _sigmoids(z, label, log_probability, scratch)
                    _label_gradients(label, by_label[n, c], gammas, log_probability, own, scratch, power, a)
                _sigmoid_gradient(label, own, wrong, a, of_channel, of_square, of_uniform, row)
                if of_errors.size > 0:
                    table = of_errors[n if of_errors.shape[0] > 1 else 0, c]
                    errors = wrong
                    if margins:
                        errors = scratch
                        _margins(z, label, errors)
                    _error_gradients(errors, label, np.int32(1), table, cut, largest, power)
                    for i in range(length):
                        factor = (one if errors[i] > 0 else zero) if margins else own[i] * wrong[i]
                        row[i] += power[i] * factor if label[i] >= 0 else zero


# ---------------------------------------------------------------------------------------------------------------------


@_part
def _copy(logits, start, stride, row):
    if stride == 1:
        source = logits[start : start + row.size]
        for i in range(row.size):
            row[i] = source[i]
    else:
        for i in range(row.size):
            row[i] = logits[start + i * stride]


@_part
def _raise_index(row, channel, best, index, higher, its_index):
    """The greater number and its channel; the first of equal ones, and the first NaN before all numbers."""
    for i in range(best.size):
        better = (row[i] > best[i]) | ((row[i] != row[i]) & (best[i] == best[i]))
        higher[i] = _choose(better, row[i], best[i])
        its_index[i] = _choose(better, channel, index[i])


@_part
def _largest(logits, begin, channel, pixel, classes, length, rows, indices):
    """Which of the rows of `indices` holds the channels with the largest logits of some pixels, int32."""
    _copy(logits, begin, pixel, rows[0, :length])
    _fill(indices[0, :length], np.int32(0))
    last = 0
    for c in range(1, classes):
        row, best, higher = rows[2, :length], rows[last, :length], rows[1 - last, :length]
        _copy(logits, begin + c * channel, pixel, row)
        _raise_index(row, np.int32(c), best, indices[last, :length], higher, indices[1 - last, :length])
        last = 1 - last
    return last


@_kernel
def largest_channels(logits, place, images, pixels, classes, tile, result, of_result):
    """Writes the channel with the largest logit of a block's pixels."""
    first, image, channel, pixel = place
    first_of_result, image_of_result, _ = of_result
    rows, indices = np.empty((3, tile), logits.dtype), np.empty((2, tile), np.int32)
    for n in range(images):
        for start in range(0, pixels, tile):
            length = min(tile, pixels - start)
            begin = first + n * image + start * pixel
            index = indices[_largest(logits, begin, channel, pixel, classes, length, rows, indices), :length]
            in_result = first_of_result + n * image_of_result + start
            for i in range(length):
                result[in_result + i] = index[i]


@_kernel
def count_softmax(logits, place, labels, tile, counts):
    """Adds the pixels of a block to their number by label and by channel with the largest logit, int64 (C, C)."""
    first, image, channel, pixel = place
    images, _, pixels = labels.shape
    classes = counts.shape[0]
    rows, indices = np.empty((3, tile), logits.dtype), np.empty((2, tile), np.int32)
    for n in range(images):
        for start in range(0, pixels, tile):
            length = min(tile, pixels - start)
            begin = first + n * image + start * pixel
            index = indices[_largest(logits, begin, channel, pixel, classes, length, rows, indices), :length]
            label = labels[n, 0, start : start + length]
            for i in range(length):
                if label[i] >= 0:
                    counts[label[i], index[i]] += 1


@_of_sums
def _count_signs(row, labels):
    """How many pixels have the label 0 and a positive logit, label 1, and both."""
    positive, ones, both = np.int32(0), np.int32(0), np.int32(0)
    for i in range(row.size):
        is_one, is_positive = np.int32(labels[i] == 1), np.int32(row[i] > 0)
        positive += is_positive & np.int32(labels[i] == 0)
        ones += is_one
        both += is_one & is_positive
    return positive, ones, both


@_kernel
def count_sigmoid(logits, place, labels, tile, counts):
    """Adds the pixels of a block to their number by channel, label and whether the logit is positive, (C, 2, 2)."""
    first, image, channel, pixel = place
    images, classes, pixels = labels.shape
    row = np.empty(tile, logits.dtype)
    for n in range(images):
        for c in range(classes):
            for start in range(0, pixels, tile):
                length = min(tile, pixels - start)
                begin = first + n * image + c * channel + start * pixel
                label = labels[n, c, start : start + length]
                _copy(logits, begin, pixel, row[:length])
                positive, ones, both = _count_signs(row[:length], label)
                counts[c, 0, 0] += _count(label, np.int32(0)) - positive
                counts[c, 0, 1] += positive
                counts[c, 1, 0] += ones - both
                counts[c, 1, 1] += both
