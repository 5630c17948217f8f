"""The kernels of `numba_backend`: what `torch_backend` computes, for blocks of pixels, tile by tile.

A tile is some pixels with all their channels, and stays in the cache of a core. A loop over its pixels is compiled to
vector instructions: it reads neighboring numbers of a few arrays, chooses between numbers instead of branching, and
keeps to one float type. NaN and infinity are honored; only `_of_sums` lets sums be taken in another order.

Labels are read tile by tile, as int32, -1 at void pixels. Sums are of the logits' type within a tile and float64 across
tiles. Logits, the target, maps of pixels and the gradient have one dimension: the number of image n, channel c and
pixel i stands at first + n·image + c·channel + i. So a kernel has one signature for each dtype, but for
what is None where a loss does not read it: that is not compiled either, since compiling takes seconds. Most of them are
Numba's for each function, slice and branch: parts are few, and take whole rows and a length. All kernels stand in this
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
# e^x is 2^n 2^f with n = round(x log₂e) and f from -1/2 to 1/2. Added to this number, n stands in the lowest bits, as
# the exponent of 2^n; n = -127, which the lowest x has, stands for 0.
_EXPONENTS = np.float32(1.5 * 2**23 + 127)
_LOWEST = np.float32(-127 * math.log(2.0))
# Of 2^f - 1, the least maximal error, 9e-8.
_P1, _P2, _P3, _P4, _P5 = map(np.float32, (0.6931470036, 0.2402224243, 0.05550733581, 0.009671512991, 0.001326472731))
# Of log(1 + x) / x - 1 from 0 to 1, likewise, 3e-8.
_L1, _L2, _L3, _L4 = map(np.float32, (-0.4999964833, 0.3332132399, -0.2485716343, 0.1915365458))
_L5, _L6, _L7, _L8 = map(np.float32, (-0.1375380307, 0.07920454443, -0.03006579541, 0.005364825018))
_SQRT_HALF = np.int32(0x3F3504F3)
_MANTISSA = np.int32(23)
# The smallest normal number of float32.
_LEAST = 2.0**-126


def _bit_cast(source, result, llvm_type):
    @intrinsic
    def cast(context, value):
        return result(source), lambda _, builder, __, arguments: builder.bitcast(arguments[0], llvm_type)

    return cast


_int32_bits = _bit_cast(types.float32, types.int32, ir.IntType(32))
_int64_bits = _bit_cast(types.float64, types.int64, ir.IntType(64))
_float32_of = _bit_cast(types.int32, types.float32, ir.FloatType())


@intrinsic
def _take(context, taken):
    """How many were taken before, of all threads, which it raises by one."""

    def generate(context, builder, signature, arguments):
        (array,) = arguments
        counter = context.make_array(signature.args[0])(context, builder, array).data
        return builder.atomic_rmw("add", counter, ir.Constant(ir.IntType(64), 1), "monotonic")

    return types.int64(taken), generate


@intrinsic
def _choose(context, condition, one, other):
    """`one if condition else other`, without a branch."""

    def generate(_, builder, __, arguments):
        return builder.select(*arguments)

    return one(types.boolean, one, one), generate


@_part
def _exp_float32(x):
    x = _choose(x < _LOWEST, _LOWEST, x)
    t = x * _LOG2E + _EXPONENTS
    f = x * _LOG2E - (t - _EXPONENTS)
    # Short chains: some processors have few operations that wait for each other under way.
    square = f * f
    power = (_P1 * f + np.float32(1)) + square * ((_P3 * f + _P2) + square * (_P5 * f + _P4))
    return power * _float32_of(_int32_bits(t) << _MANTISSA)


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
    square = x * x
    fourth = square * square
    low = (_L1 * x + np.float32(1)) + square * (_L3 * x + _L2)
    high = (_L5 * x + _L4) + square * (_L7 * x + _L6)
    return x * (low + fourth * (high + fourth * _L8))


def _exp(x):
    """e^x of x that are 0 at most, with an error of 2e-7 and that of x log₂e; 0 below the normal numbers."""


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


@_part
def _label(given, meaning):
    """A label, -1 of a void pixel; and two numbers that are 0 if it is known."""
    classes, void_label, voids = meaning
    label = np.int32(given)
    known, void = np.uint32(label) < np.uint32(classes), label == np.int32(void_label)
    unknown = _choose(known, np.int32(0), _choose(void, np.int32(voids), np.int32(1)))
    return _choose(known & ~void, label, np.int32(-1)), unknown, np.int64(label) ^ np.int64(given)


@_part
def _read_labels(target, meaning, labels):
    """Labels of neighboring pixels, -1 at void ones; returns whether all are known."""
    unknown, beyond = np.int32(0), np.int64(0)
    for i in range(labels.size):
        labels[i], is_unknown, is_beyond = _label(target[i], meaning)
        unknown, beyond = np.int32(unknown | is_unknown), beyond | is_beyond
    return (unknown == 0) & (beyond == 0)


@_part
def _fill(row, length, value):
    # Not row[:] = value, whose message about shapes takes seconds to compile.
    for i in range(length):
        row[i] = value


@_part
def _load(source, label, row, before, peak):
    """Logits of one channel, 0 at void pixels; and the greater of them and those before.

    In place that would become a masked store, which some processors do slowly.
    """
    zero = row.dtype.type(0)
    for i in range(label.size):
        value = _choose(label[i] >= 0, source[i], zero)
        row[i] = value
        peak[i] = _choose(value > before[i], value, before[i])


@_part
def _exponentials(row, peak, length, total):
    for i in range(length):
        e = _exp(row[i] - peak[i])
        row[i] = e
        total[i] += e


@_part
def _normalize(label, peak, total, own, probability, log_sums):
    """log Σ exp z of each pixel; 1 / Σ for the sum of exponentials; ℓ for the logit of its label, and e^ℓ."""
    zero, one, infinity = peak.dtype.type(0), peak.dtype.type(1), peak.dtype.type(np.inf)
    for i in range(label.size):
        valid = label[i] >= 0
        log_total = _log(total[i])
        # In this order no digits of a large peak are lost.
        log_probability = _choose(valid, (own[i] - peak[i]) - log_total, zero)
        own[i] = log_probability
        probability[i] = _exp(log_probability)
        log_sums[i] = _choose(valid, peak[i] + log_total, infinity)
        total[i] = _choose(valid, one / total[i], zero)


@_part
def _power(row, length, exponent, result):
    """row^exponent, of numbers from 0 to 1."""
    zero, one, least = row.dtype.type(0), row.dtype.type(1), row.dtype.type(_LEAST)
    power = row.dtype.type(exponent)
    square = exponent == 2
    if square or exponent == 1:
        for i in range(length):
            result[i] = row[i] * _choose(square, row[i], one)
    else:
        below = _choose(exponent == 0, one, zero)
        for i in range(length):
            tiny = row[i] < least
            result[i] = _choose(tiny, below, _exp(power * _log(_choose(tiny, least, row[i]))))


@_of_sums
def _sum_below(peak, row, length):
    """Σ (z - peak), which of large logits keeps the digits that Σ z would lose."""
    total = row.dtype.type(0)
    for i in range(length):
        total += row[i] - peak[i]
    return total


@_of_sums
def _sums_of_label(label, which, one, other):
    """Of the pixels of a label their number, and the sums of two rows."""
    zero = one.dtype.type(0)
    count, of_one, of_other = np.int32(0), zero, zero
    for i in range(label.size):
        is_own = label[i] == which
        count = np.int32(count + np.int32(is_own))  # two int32 would add to an int64
        of_one += _choose(is_own, one[i], zero)
        of_other += _choose(is_own, other[i], zero)
    return count, of_one, of_other


@_part
def _add_by_label(label, one, other, sums):
    """Adds the number of pixels of each label, and two rows, to their sums (labels, K)."""
    classes = sums.shape[0]
    if classes <= 8:
        for c in range(classes):
            count, of_one, of_other = _sums_of_label(label, np.int32(c), one, other)
            sums[c, 0] += count
            sums[c, 1] += of_one
            sums[c, 2] += of_other
    else:
        for i in range(label.size):
            if label[i] >= 0:
                sums[label[i], 0] += 1
                sums[label[i], 1] += one[i]
                sums[label[i], 2] += other[i]


@_of_sums
def _probabilities(row, weight, length):
    """Makes probabilities of exponentials; returns their sum and that of their squares."""
    total, squares = row.dtype.type(0), row.dtype.type(0)
    for i in range(length):
        p = row[i] * weight[i]
        row[i] = p
        total += p
        squares += p * p
    return total, squares


@_of_sums
def _dot(row, other, length):
    total = row.dtype.type(0)
    for i in range(length):
        total += row[i] * other[i]
    return total


@_part
def _focal(wrong, log_probability, length, gamma, result):
    """(1 - p)^γ ℓ, of 1 - p."""
    _power(wrong, length, gamma, result)
    for i in range(length):
        result[i] *= log_probability[i]


@_part
def _bins_and_values(errors, label, own, margins, count, cut, cut_off, shift, largest, bins, values):
    """The bin of each error, those of the own label after those of others, and what to add there; see `ErrorHistogram`.

    Void pixels add 0, and of margins those that are 0.
    """
    zero, limit = errors.dtype.type(0), errors.dtype.type(largest)
    one = np.int64(1) << shift
    for i in range(label.size):
        # NaN, too, has a bin.
        position = _position(_choose(errors[i] < limit, errors[i], limit))
        width = _like(cut, errors[i])
        index = position >> width
        place = (position - (index << width)) >> _like(cut_off, errors[i])
        counts = (label[i] >= 0) & ((errors[i] > zero) | (not margins))
        bins[i] = np.uint32(index) + _choose(label[i] == own, np.uint32(count), np.uint32(0))
        values[i] = _choose(counts, one + np.int64(place), np.int64(0))


@_part
def _add_errors(errors, label, own, margins, table, bins, values, cut, cut_off, shift, largest):
    """Adds errors to a histogram (2, bins) of labels other and own."""
    _bins_and_values(errors, label, own, margins, table.shape[1], cut, cut_off, shift, largest, bins, values)
    flat = table.reshape(table.size)
    # Those of the first bin, where most of a trained network are, would wait for each other.
    first = np.int64(0)
    for i in range(label.size):
        if bins[i] == 0:
            first += values[i]
        else:
            flat[bins[i]] += values[i]
    flat[0] += first


@_part
def _errors(row, label, channel, errors):
    """Errors of probabilities."""
    one = row.dtype.type(1)
    for i in range(label.size):
        errors[i] = _choose(label[i] == channel, one - row[i], row[i])


@_kernel
def softmax_forward(
    logits, place, target, of_target, meaning, labels, blocks, taken, scratch, gammas, squares, uniform,
    by_label, by_channel, label_map, normalizer, of_maps, packed, cut, cut_off, shift, largest,
):  # fmt: skip
    """Sums of blocks by label and by channel, (parts, N, C, K), added to what they hold; maps; and histograms.

    Returns whether all labels are known.
    """
    first, image, channel = place
    first_of_target, image_of_target, _ = of_target
    first_of_maps, image_of_maps, _ = of_maps
    tile, known = labels.size, True
    classes = by_channel.shape[2]
    z, maps = scratch, scratch[classes:]
    total, own, probability, wrong, power = maps[2], maps[3], maps[4], maps[5], maps[6]
    if packed is not None:
        bins, values = np.empty(tile, np.uint32), np.empty(tile, np.int64)
    block = _take(taken)
    while block < len(blocks):
        for n in range(blocks[block, 0], blocks[block, 1]):
            of_image, of_channels = by_label[blocks[block, 4], n], by_channel[blocks[block, 4], n]
            for start in range(blocks[block, 2], blocks[block, 3], tile):
                length = min(tile, blocks[block, 3] - start)
                label = labels[:length]
                known &= _read_labels(target[first_of_target + n * image_of_target + start :], meaning, label)
                peak, higher = maps[0], maps[1]
                _fill(peak, length, peak.dtype.type(-np.inf))
                _fill(total, length, peak.dtype.type(0))
                begin, in_maps = first + n * image + start, first_of_maps + n * image_of_maps + start
                for c in range(classes):
                    _load(logits[begin + c * channel :], label, z[c], peak, higher)
                    peak, higher = higher, peak
                for i in range(length):
                    own[i] = z[max(label[i], 0), i]
                for c in range(classes):
                    if uniform is not None:
                        of_channels[c, of_channels.shape[1] - 1] += _sum_below(peak, z[c], length)
                    _exponentials(z[c], peak, length, total)
                log_sums = normalizer[in_maps : in_maps + length]
                _normalize(label, peak, total, own, probability, log_sums)
                if label_map is not None:
                    for i in range(length):
                        label_map[in_maps + i] = own[i]
                _add_by_label(label, own, probability, of_image)
                if gammas is not None:
                    for i in range(length):
                        wrong[i] = max(1 - probability[i], 0)
                    for k in range(gammas.size):
                        _focal(wrong, own, length, gammas[k], power)
                        for i in range(length):
                            if label[i] >= 0:
                                of_image[label[i], 3 + k] += power[i]
                for c in range(classes):
                    row = z[c]
                    if squares is not None or packed is not None:
                        sum_of_row, sum_of_squares = _probabilities(row, total, length)
                        of_channels[c, 0] += sum_of_row
                        if squares is not None:
                            of_channels[c, 1] += sum_of_squares
                    else:
                        of_channels[c, 0] += _dot(row, total, length)
                    if packed is not None:
                        _errors(row, label, np.int32(c), wrong)
                        table = packed[n if packed.shape[0] > 1 else 0, c]
                        _add_errors(wrong, label, np.int32(c), False, table, bins, values, cut, cut_off, shift, largest)
                if uniform is not None:
                    of_valid = 0.0
                    for i in range(length):
                        of_valid += _log(total[i]) if label[i] >= 0 else 0
                    for c in range(classes):
                        of_channels[c, of_channels.shape[1] - 1] += of_valid
        block = _take(taken)
    return known


@_part
def _probabilities_of(source, label, log_sums, of_channel, of_square, p, t):
    """Probabilities of logits; adds h·p to t, with h the gradient of p."""
    zero = p.dtype.type(0)
    for i in range(label.size):
        probability = _exp(_choose(label[i] >= 0, source[i], zero) - log_sums[i])
        p[i] = probability
        h = of_channel
        if of_square is not None:
            h += (of_square + of_square) * probability
        t[i] += probability * h


@_part
def _write_gradient(p, label, channel, of_channel, of_square, of_uniform, t, a, result):
    """p (h - t) + a δ + u."""
    zero = p.dtype.type(0)
    for i in range(label.size):
        own = _choose(label[i] == channel, a[i], zero)
        if of_uniform is not None:
            own += _choose(label[i] >= 0, of_uniform, zero)
        h = of_channel
        if of_square is not None:
            h += (of_square + of_square) * p[i]
        result[i] = p[i] * (h - t[i]) + own


@_part
def _add_product(row, other, length, result):
    for i in range(length):
        result[i] += row[i] * other[i]


@_part
def _error_gradients(errors, label, own, table, cut, largest, result):
    """∂L/∂p or ∂L/∂z, looked up by the bin of each error; `table` has ∂L/∂e, float64, of labels other and own."""
    limit, flat, count = errors.dtype.type(largest), table.reshape(table.size), np.uint32(table.shape[1])
    for i in range(label.size):
        position = _position(_choose(errors[i] < limit, errors[i], limit))
        index = np.uint32(position >> _like(cut, errors[i]))
        is_own = label[i] == own
        of_error = result.dtype.type(flat[index + _choose(is_own, count, np.uint32(0))])
        result[i] = _choose(is_own, -of_error, of_error)  # an error of the own class falls with p and z


@_part
def _add_focal_gradients(label, gradients, gammas, log_probability, probability, wrong, power, a):
    """Adds ∂L/∂ℓ of each pixel by the gradients (labels, K) of the sums of γ to a."""
    one, least = a.dtype.type(1), a.dtype.type(_LEAST)
    for k in range(gammas.size):
        gamma = a.dtype.type(gammas[k])
        for i in range(label.size):
            # The smallest normal number: at p = 1 the derivative of x^γ is infinite for γ < 1.
            other = one - probability[i]
            wrong[i] = _choose(other < least, least, other)
        _power(wrong, label.size, abs(gammas[k] - 1), power)
        inverse = gammas[k] < 1
        for i in range(label.size):
            if label[i] >= 0:
                factor = one / power[i] if inverse else power[i]
                changed = factor * (wrong[i] - gamma * probability[i] * log_probability[i])
                a[i] += gradients[label[i], 3 + k] * changed


@_kernel
def softmax_backward(
    logits, place, target, of_target, meaning, labels, blocks, taken, scratch, gammas, squares, uniform,
    by_label, by_channel, of_map, of_errors, normalizer, of_maps, cut, largest, result, of_result, classes,
):  # fmt: skip
    """Writes the gradient of blocks."""
    first, image, channel = place
    first_of_maps, image_of_maps, _ = of_maps
    first_of_target, image_of_target, _ = of_target
    first_of_result, image_of_result, channel_of_result = of_result
    tile, zero = labels.size, result.dtype.type(0)
    p, maps = scratch, scratch[classes:]
    a, t, own, probability, wrong, power = maps[0], maps[1], maps[2], maps[3], maps[4], maps[5]
    if of_errors is not None:
        lookup = scratch[classes + 6 :]
    block = _take(taken)
    while block < len(blocks):
        for n in range(blocks[block, 0], blocks[block, 1]):
            of_labels, of_channels = by_label[n], by_channel[n]
            for start in range(blocks[block, 2], blocks[block, 3], tile):
                length = min(tile, blocks[block, 3] - start)
                label = labels[:length]
                _read_labels(target[first_of_target + n * image_of_target + start :], meaning, label)
                in_maps = first_of_maps + n * image_of_maps + start
                begin = first + n * image + start
                log_sums = normalizer[in_maps : in_maps + length]
                _fill(a, length, zero)
                # p (h - Σ h p) + a (δ - p) + u - p Σ u = p (h - t) + a δ + u, with t one number for each pixel.
                _fill(t, length, zero)
                for c in range(classes):
                    of_square = of_channels[c, 1] if squares is not None else None
                    source = logits[begin + c * channel :]
                    _probabilities_of(source, label, log_sums, of_channels[c, 0], of_square, p[c], t)
                    if of_errors is not None:
                        _errors(p[c], label, np.int32(c), wrong)
                        table = of_errors[n if of_errors.shape[0] > 1 else 0, c]
                        _error_gradients(wrong, label, np.int32(c), table, cut, largest, lookup[c])
                        _add_product(p[c], lookup[c], length, t)
                for i in range(length):
                    if label[i] >= 0:
                        probability[i] = p[label[i], i]
                        a[i] = of_labels[label[i], 1] + of_labels[label[i], 2] * probability[i]
                if gammas is not None:
                    for i in range(length):
                        own[i] = logits[begin + label[i] * channel + i] - log_sums[i] if label[i] >= 0 else zero
                    _add_focal_gradients(label, of_labels, gammas, own, probability, wrong, power, a)
                if of_map is not None:
                    for i in range(length):
                        a[i] += of_map[in_maps + i] if label[i] >= 0 else zero
                of_all = zero
                if uniform is not None:
                    for c in range(classes):
                        of_all += of_channels[c, of_channels.shape[1] - 1]
                for i in range(length):
                    t[i] += a[i] + of_all
                for c in range(classes):
                    in_result = first_of_result + n * image_of_result + c * channel_of_result + start
                    of_square = of_channels[c, 1] if squares is not None else None
                    of_uniform = of_channels[c, of_channels.shape[1] - 1] if uniform is not None else None
                    row = result[in_result : in_result + length]
                    _write_gradient(p[c], label, np.int32(c), of_channels[c, 0], of_square, of_uniform, t, a, row)
                    if of_errors is not None:
                        _add_product(p[c], lookup[c], length, row)
        block = _take(taken)


# ---------------------------------------------------------------------------------------------------------------------


# Loops are short: some processors have few operations that wait for each other under way. What void pixels hold goes
# along, until it is left out.


@_part
def _read_labels_and_ratios(target, meaning, labels, source, ratio):
    """Labels; and r = e^-|z|: p and 1 - p are 1 / (1 + r) and r / (1 + r), if z < 0 in the other order.

    In one loop the memory is read while numbers are computed.
    """
    unknown, beyond = np.int32(0), np.int64(0)
    for i in range(labels.size):
        labels[i], is_unknown, is_beyond = _label(target[i], meaning)
        unknown, beyond = np.int32(unknown | is_unknown), beyond | is_beyond
        ratio[i] = _exp(-abs(source[i]))
    return (unknown == 0) & (beyond == 0)


@_of_sums
def _sigmoid_sums(source, label, ratio, probability):
    """p = σ(z), 0 at void pixels; the number and the sums of p of the labels 0 and 1."""
    zero, one = ratio.dtype.type(0), ratio.dtype.type(1)
    zeros, ones, p_zeros, p_ones = np.int32(0), np.int32(0), zero, zero
    for i in range(label.size):
        is_one = label[i] == 1
        part = one / (one + ratio[i])
        p = _choose(label[i] >= 0, _choose(source[i] >= zero, part, ratio[i] * part), zero)
        probability[i] = p
        zeros = np.int32(zeros + np.int32(label[i] == 0))  # two int32 would add to an int64
        ones = np.int32(ones + np.int32(is_one))
        p_zeros += _choose(is_one, zero, p)
        p_ones += _choose(is_one, p, zero)
    return zeros, ones, p_zeros, p_ones


@_of_sums
def _log_sigmoid_sums(source, label, ratio, log_probability):
    """ℓ = log σ(±z), 0 at void pixels, and its sums of the labels 0 and 1."""
    zero = ratio.dtype.type(0)
    l_zeros, l_ones = zero, zero
    for i in range(label.size):
        log_probability[i] = _log1p(ratio[i])
    for i in range(label.size):
        is_one = label[i] == 1
        signed = _choose(is_one, source[i], -source[i])
        log_p = _choose(label[i] >= 0, _choose(signed < zero, signed, zero) - log_probability[i], zero)
        log_probability[i] = log_p
        l_zeros += _choose(is_one, zero, log_p)
        l_ones += _choose(is_one, log_p, zero)
    return l_zeros, l_ones


@_of_sums
def _sums_by_sign(label, row):
    """The sums of a row that is 0 at void pixels, of the labels 0 and 1."""
    zero = row.dtype.type(0)
    total, ones = zero, zero
    for i in range(label.size):
        total += _choose(label[i] == 1, zero, row[i])
        ones += _choose(label[i] == 1, row[i], zero)
    return total, ones


@_of_sums
def _uniform_sum(source, label, log_probability):
    """Σ ½ (log p + log(1 - p)) = Σ (ℓ - x / 2)."""
    zero, half = log_probability.dtype.type(0), log_probability.dtype.type(0.5)
    total = zero
    for i in range(label.size):
        signed = _choose(label[i] == 1, source[i], -source[i])
        total += log_probability[i] - half * _choose(label[i] >= 0, signed, zero)
    return total


@_part
def _margins(source, label, errors):
    """max(0, 1 ∓ z), 0 at void pixels."""
    zero, one = errors.dtype.type(0), errors.dtype.type(1)
    for i in range(label.size):
        margin = one - _choose(label[i] == 1, source[i], -source[i])
        errors[i] = _choose((label[i] < 0) | (margin < zero), zero, margin)


@_part
def _positive(errors, label, found, its_label, place):
    """Brings the errors above 0, their labels and where they were to the front; returns how many there are.

    They are few once a network has learned something.
    """
    count = np.uint64(0)
    for i in range(label.size):
        place[count] = i
        count += np.uint64(errors[i] > 0)
    for i in range(count):
        found[i], its_label[i] = errors[place[i]], label[place[i]]
    return np.int64(count)


@_kernel
def sigmoid_forward(
    logits, place, target, of_target, meaning, labels, blocks, taken, scratch, logs, gammas, squares, uniform,
    by_label, by_channel, label_map, of_maps, packed, margins, cut, cut_off, shift, largest,
):  # fmt: skip
    """Sums of blocks by label, (parts, N, C, 2, K), and by channel, (parts, N, C, K), added; maps; and histograms.

    Returns whether all labels are known.
    """
    first, image, channel = place
    first_of_target, image_of_target, channel_of_target = of_target
    first_of_maps, image_of_maps, channel_of_maps = of_maps
    classes, tile, known = by_channel.shape[2], labels.size, True
    ratio, own, probability, wrong, power = scratch[0], scratch[1], scratch[2], scratch[3], scratch[4]
    if packed is not None:
        bins, values, its_label = np.empty(tile, np.uint32), np.empty(tile, np.int64), np.empty(tile, np.int32)
    block = _take(taken)
    while block < len(blocks):
        for n in range(blocks[block, 0], blocks[block, 1]):
            for c in range(classes):
                sums, of_channel = by_label[blocks[block, 4], n, c], by_channel[blocks[block, 4], n, c]
                for start in range(blocks[block, 2], blocks[block, 3], tile):
                    length = min(tile, blocks[block, 3] - start)
                    label = labels[:length]
                    in_target = first_of_target + n * image_of_target + c * channel_of_target + start
                    source = logits[first + n * image + c * channel + start :]
                    known &= _read_labels_and_ratios(target[in_target:], meaning, label, source, ratio)
                    zeros, ones, p_zeros, p_ones = _sigmoid_sums(source, label, ratio, probability)
                    if logs is not None:
                        l_zeros, l_ones = _log_sigmoid_sums(source, label, ratio, own)
                        sums[0, 1] += l_zeros
                        sums[1, 1] += l_ones
                    sums[0, 0] += zeros
                    sums[1, 0] += ones
                    sums[0, 2] += np.float64(zeros) - p_zeros
                    sums[1, 2] += p_ones
                    of_channel[0] += p_zeros
                    of_channel[0] += p_ones
                    if label_map is not None:
                        in_maps = first_of_maps + n * image_of_maps + c * channel_of_maps + start
                        for i in range(length):
                            label_map[in_maps + i] = own[i]
                    if squares is not None:
                        of_channel[1] += _dot(probability, probability, length)
                    if uniform is not None:
                        of_channel[of_channel.size - 1] += _uniform_sum(source, label, own)
                    if gammas is not None:
                        _errors(probability, label, np.int32(1), wrong)
                        for k in range(gammas.size):
                            _focal(wrong, own, length, gammas[k], power)
                            of_zeros, of_ones = _sums_by_sign(label, power)
                            sums[0, 3 + k] += of_zeros
                            sums[1, 3 + k] += of_ones
                    if packed is not None:
                        if margins:
                            _margins(source, label, power)
                            label = its_label[: _positive(power, label, wrong, its_label, bins)]
                        else:
                            _errors(probability, label, np.int32(1), wrong)
                        table = packed[n if packed.shape[0] > 1 else 0, c]
                        # An error of 0 is no error at any threshold; counted, it would dilute those just above it.
                        _add_errors(wrong, label, np.int32(1), True, table, bins, values, cut, cut_off, shift, largest)
        block = _take(taken)
    return known


@_part
def _sigmoid_gradients(source, label, ratio, of_logs, h_of_zeros, h_of_ones, of_square, of_uniform, row):
    """The gradient of logits, 0 at void pixels, by those of p of the labels 0 and 1, and by that of each ℓ."""
    zero, half, one = row.dtype.type(0), row.dtype.type(0.5), row.dtype.type(1)
    for i in range(label.size):
        is_one, is_positive = label[i] == 1, source[i] >= zero
        part = one / (one + ratio[i])
        other = ratio[i] * part
        p, not_p = _choose(is_positive, part, other), _choose(is_positive, other, part)
        h = _choose(is_one, h_of_ones, h_of_zeros)
        if of_square is not None:
            h += (of_square + of_square) * p
        value = h * (part * other)
        if of_logs is not None:
            value += of_logs[i] * _choose(is_one, not_p, -p)
        if of_uniform is not None:
            value += of_uniform * (half - p)
        row[i] = _choose(label[i] >= 0, value, zero)


@_part
def _errors_and_slopes(source, label, ratio, wrong, slope):
    """1 - p_y, and p (1 - p)."""
    zero, one = ratio.dtype.type(0), ratio.dtype.type(1)
    for i in range(label.size):
        part = one / (one + ratio[i])
        other = ratio[i] * part
        wrong[i] = _choose(_choose(label[i] == 1, source[i], -source[i]) >= zero, other, part)
        slope[i] = part * other


@_part
def _add_error_gradients(label, found, slope, row):
    zero = row.dtype.type(0)
    for i in range(label.size):
        row[i] += _choose(label[i] >= 0, found[i] * slope[i], zero)


@_kernel
def sigmoid_backward(
    logits, place, target, of_target, meaning, labels, blocks, taken, scratch, logs, gammas, squares, uniform,
    by_label, by_channel, of_map, of_maps, of_errors, margins, reads_probabilities, cut, largest, result, of_result,
):  # fmt: skip
    """Writes the gradient of blocks."""
    first, image, channel = place
    first_of_target, image_of_target, channel_of_target = of_target
    first_of_maps, image_of_maps, channel_of_maps = of_maps
    first_of_result, image_of_result, channel_of_result = of_result
    classes, tile = by_channel.shape[1], labels.size
    zero = result.dtype.type(0)
    ratio, a, wrong, slope, probability, power = (
        scratch[0], scratch[1], scratch[2], scratch[3], scratch[4], scratch[5]
    )  # fmt: skip
    if of_errors is not None:
        kept_labels, its_place = np.empty(tile, np.int32), np.empty(tile, np.uint32)
    block = _take(taken)
    while block < len(blocks):
        for n in range(blocks[block, 0], blocks[block, 1]):
            for c in range(classes):
                of_labels, of_channel = by_label[n, c], by_channel[n, c]
                # Of the label 0 it is of Σ (1 - p).
                h_of_zeros, h_of_ones = of_channel[0] - of_labels[0, 2], of_channel[0] + of_labels[1, 2]
                of_square = of_channel[1] if squares is not None else None
                of_uniform = of_channel[of_channel.size - 1] if uniform is not None else None
                for start in range(blocks[block, 2], blocks[block, 3], tile):
                    length = min(tile, blocks[block, 3] - start)
                    label = labels[:length]
                    in_target = first_of_target + n * image_of_target + c * channel_of_target + start
                    source = logits[first + n * image + c * channel + start :]
                    in_result = first_of_result + n * image_of_result + c * channel_of_result + start
                    row = result[in_result : in_result + length]
                    if reads_probabilities:
                        _read_labels_and_ratios(target[in_target:], meaning, label, source, ratio)
                        if logs is not None:
                            for i in range(length):
                                a[i] = of_labels[1, 1] if label[i] == 1 else of_labels[0, 1]
                            if of_map is not None:
                                in_maps = first_of_maps + n * image_of_maps + c * channel_of_maps + start
                                for i in range(length):
                                    a[i] += of_map[in_maps + i] if label[i] >= 0 else zero
                            if gammas is not None:
                                _sigmoid_sums(source, label, ratio, wrong)
                                _log_sigmoid_sums(source, label, ratio, slope)
                                _errors(wrong, label, np.int32(0), probability)  # p_y
                                _add_focal_gradients(label, of_labels, gammas, slope, probability, wrong, power, a)
                            of_logs = a
                        else:
                            of_logs = None
                        _sigmoid_gradients(
                            source, label, ratio, of_logs, h_of_zeros, h_of_ones, of_square, of_uniform, row
                        )
                    else:
                        _read_labels(target[in_target:], meaning, label)
                        _fill(row, length, zero)
                    if of_errors is not None:
                        table = of_errors[n if of_errors.shape[0] > 1 else 0, c]
                        if margins:
                            _margins(source, label, power)
                            its_label = kept_labels[: _positive(power, label, wrong, kept_labels, its_place)]
                            _error_gradients(wrong, its_label, np.int32(1), table, cut, largest, power)
                            for i in range(its_label.size):
                                row[its_place[i]] += power[i]
                        else:
                            _errors_and_slopes(source, label, ratio, wrong, slope)
                            _error_gradients(wrong, label, np.int32(1), table, cut, largest, power)
                            _add_error_gradients(label, power, slope, row)
        block = _take(taken)


# ---------------------------------------------------------------------------------------------------------------------


@_kernel
def write_errors(packed, shift, lower, step, counts, sums):
    """Writes the number of errors in bins and their sum, each (rows, bins), of what `ErrorHistogram` adds up."""
    places = (np.int64(1) << shift) - 1
    for r in range(packed.shape[0]):
        for i in range(packed.shape[1]):
            count = packed[r, i] >> shift
            counts[r, i] = count
            sums[r, i] = count * lower[i] + (packed[r, i] & places) * step[i]


@_kernel
def write_jaccard_integrals(sums, counts, totals, integrals, gradients):
    """Writes `jaccard_integrals` of histograms (rows, 2, bins), and 0 for the gradients of bins without errors."""
    for r in range(counts.shape[0]):
        total, wrong, found, integral = totals[r], 0.0, 0.0, 0.0
        for i in range(counts.shape[2] - 1, -1, -1):
            others, own = counts[r, 0, i], counts[r, 1, i]
            of_others, of_own = 0.0, 0.0
            if total == 0:
                # J is 1 once there is any error: the largest ones have all of it.
                of_others = 1 / others if others > 0 and wrong == 0 else 0.0
            elif others > 0:
                union, after = total + wrong, total + wrong + others
                of_own = math.log1p(others / union) / others
                # ΔJ = (G - F) n_b / (U U') + n_f / U', in differences that lose no digits.
                of_others = (total - found) / (union * after) + own * (1 / after - of_own) / others
            elif own > 0:
                of_own = 1 / (total + wrong)
            gradients[r, 0, i], gradients[r, 1, i] = of_others, of_own
            integral += sums[r, 0, i] * of_others + sums[r, 1, i] * of_own
            wrong += others
            found += own
        integrals[r] = integral


# ---------------------------------------------------------------------------------------------------------------------


@_part
def _raise_index(source, channel, best, index, higher, its_index):
    """The greater number and its channel; the first of equal ones, and the first NaN before all numbers."""
    for i in range(higher.size):
        stays = (source[i] <= best[i]) | (best[i] != best[i])
        higher[i] = _choose(stays, best[i], source[i])
        its_index[i] = _choose(stays, index[i], channel)


@_part
def _largest(logits, begin, channel, classes, length, rows, indices):
    """Which of the rows of `indices` holds the channels with the largest logits of some pixels, int32."""
    source = logits[begin : begin + length]
    for i in range(length):
        rows[0, i] = source[i]
        indices[0, i] = 0
    last = 0
    for c in range(1, classes):
        source = logits[begin + c * channel :]
        _raise_index(source, np.int32(c), rows[last], indices[last], rows[1 - last, :length], indices[1 - last])
        last = 1 - last
    return last


@_kernel
def largest_channels(logits, place, blocks, taken, classes, tile, result, of_result):
    """Writes the channel with the largest logit of the pixels of blocks."""
    first, image, channel = place
    first_of_result, image_of_result, _ = of_result
    rows, indices = np.empty((2, tile), logits.dtype), np.empty((2, tile), np.int32)
    block = _take(taken)
    while block < len(blocks):
        for n in range(blocks[block, 0], blocks[block, 1]):
            for start in range(blocks[block, 2], blocks[block, 3], tile):
                length = min(tile, blocks[block, 3] - start)
                index = indices[_largest(logits, first + n * image + start, channel, classes, length, rows, indices)]
                in_result = first_of_result + n * image_of_result + start
                for i in range(length):
                    result[in_result + i] = index[i]
        block = _take(taken)


@_kernel
def count_softmax(logits, place, target, of_target, meaning, labels, blocks, taken, counts):
    """Adds the pixels of blocks to their number by label and by channel with the largest logit, int64 (C, C).

    Returns whether all labels are known.
    """
    first, image, channel = place
    first_of_target, image_of_target, _ = of_target
    classes, tile, known = counts.shape[0], labels.size, True
    rows, indices = np.empty((2, tile), logits.dtype), np.empty((2, tile), np.int32)
    block = _take(taken)
    while block < len(blocks):
        for n in range(blocks[block, 0], blocks[block, 1]):
            for start in range(blocks[block, 2], blocks[block, 3], tile):
                length = min(tile, blocks[block, 3] - start)
                index = indices[_largest(logits, first + n * image + start, channel, classes, length, rows, indices)]
                label = labels[:length]
                known &= _read_labels(target[first_of_target + n * image_of_target + start :], meaning, label)
                for i in range(length):
                    if label[i] >= 0:
                        counts[label[i], index[i]] += 1
        block = _take(taken)
    return known


@_of_sums
def _count_signs(source, label):
    """How many pixels have the label 0, it and a positive logit, the label 1, and it and a positive logit."""
    zeros, positive, ones, both = np.int32(0), np.int32(0), np.int32(0), np.int32(0)
    for i in range(label.size):
        is_zero, is_one, is_positive = label[i] == 0, label[i] == 1, source[i] > 0
        zeros += np.int32(is_zero)
        positive += np.int32(is_zero & is_positive)
        ones += np.int32(is_one)
        both += np.int32(is_one & is_positive)
    return zeros, positive, ones, both


@_kernel
def count_sigmoid(logits, place, target, of_target, meaning, labels, blocks, taken, counts):
    """Adds the pixels of blocks to their number by channel, label and whether the logit is positive, (C, 2, 2).

    Returns whether all labels are known.
    """
    first, image, channel = place
    first_of_target, image_of_target, channel_of_target = of_target
    classes, tile, known = counts.shape[0], labels.size, True
    block = _take(taken)
    while block < len(blocks):
        for n in range(blocks[block, 0], blocks[block, 1]):
            for c in range(classes):
                for start in range(blocks[block, 2], blocks[block, 3], tile):
                    length = min(tile, blocks[block, 3] - start)
                    label = labels[:length]
                    in_target = first_of_target + n * image_of_target + c * channel_of_target + start
                    known &= _read_labels(target[in_target:], meaning, label)
                    zeros, positive, ones, both = _count_signs(logits[first + n * image + c * channel + start :], label)
                    counts[c, 0, 0] += zeros - positive
                    counts[c, 0, 1] += positive
                    counts[c, 1, 0] += ones - both
                    counts[c, 1, 1] += both
        block = _take(taken)
    return known
