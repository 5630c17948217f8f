"""The Triton kernels of `triton_backend`: what `torch_backend` computes, for a program's blocks of pixels.

A channel of a block is one vector, and a tile of channels a tuple of them, so that a thread holds all channels of its
pixels, whatever layout Triton chooses: sums over channels are its own, and neighboring threads read neighboring pixels.
Arguments in capitals are constants of the compiled code; pointers that are None are of what is not read.
"""

# Triton types these functions when it compiles them.
# mypy: ignore-errors

import triton
import triton.language as tl


@triton.jit
def _labels(pointers, inside, ignore_index, CLASSES: tl.constexpr, IGNORES: tl.constexpr):
    """Labels, -1 where they are not a class; and which pixels are valid."""
    labels = tl.load(pointers, mask=inside, other=0).to(tl.int64)
    valid = inside
    if IGNORES:
        valid = valid & (labels != ignore_index)
    known = valid & (labels >= 0) & (labels < CLASSES)
    return tl.where(known, labels, -1).to(tl.int32), valid


@triton.jit
def _note_unknown(known_labels, labels, valid):
    """Writes 0 if a valid pixel's label is not a class."""
    tl.store(known_labels + tl.zeros_like(labels), tl.zeros_like(labels), mask=valid & (labels < 0))


@triton.jit
def _wide(number):
    """In 64 bits, in which products with strides fit."""
    return tl.zeros([1], tl.int64) + number


@triton.jit
def _rows(pointers, first, inside, valid, channel_stride, CLASSES: tl.constexpr, TILE: tl.constexpr):
    """Logits of a tile's channels in float32: -inf for channels beyond the last, 0 at void pixels, which may hold
    anything."""
    rows = ()
    for k in tl.static_range(TILE):
        mask = inside
        if CLASSES % TILE != 0:
            mask = inside & (first + k < CLASSES)
        z = tl.load(pointers, mask=mask, other=float("-inf")).to(tl.float32)
        rows = rows + (tl.where(valid, z, 0.0),)  # noqa: RUF005
        pointers += channel_stride
    return rows


@triton.jit
def _greatest(rows, peak):
    for k in tl.static_range(len(rows)):
        peak = tl.maximum(peak, rows[k])
    return peak


@triton.jit
def _exponentials(rows, offset):
    """Of the differences to one offset for each pixel; and their sum."""
    exponentials = ()
    total = tl.zeros_like(offset)
    for k in tl.static_range(len(rows)):
        e = tl.exp(rows[k] - offset)
        total += e
        exponentials = exponentials + (e,)  # noqa: RUF005
    return exponentials, total


@triton.jit
def _pick(rows, labels, picked):
    """The row of each pixel's label, counted from the first row, else what was picked before."""
    for k in tl.static_range(len(rows)):
        picked = tl.where(labels == k, rows[k], picked)
    return picked


@triton.jit
def _power(x, EXPONENT: tl.constexpr):
    if EXPONENT == 0:
        power = tl.full(x.shape, 1.0, tl.float32)
    elif EXPONENT == 1:
        power = x
    elif EXPONENT == 2:
        power = x * x
    else:
        power = tl.exp2(tl.log2(x) * EXPONENT)
    return power


@triton.jit
def _log_sigmoid(x):
    return tl.minimum(x, 0.0) - tl.log(1.0 + tl.exp(-tl.abs(x)))


@triton.jit
def _of_label(log_probability, p, wrong, GAMMAS: tl.constexpr):
    """1, ℓ, p_y and (1 - p_y)^γ ℓ."""
    values = (tl.full(p.shape, 1.0, tl.float32), log_probability, p)
    for k in tl.static_range(len(GAMMAS)):
        values = values + (_power(wrong, GAMMAS[k]) * log_probability,)  # noqa: RUF005
    return values


@triton.jit
def _gradient_of_label(gradients, log_probability, p, wrong, GAMMAS: tl.constexpr):
    """∂L/∂ℓ from those of Σ 1, which has none, Σ ℓ, Σ p_y and Σ (1 - p_y)^γ ℓ."""
    gradient = gradients[1] + gradients[2] * p
    # The smallest float32: at p = 1 the derivative of x^γ is infinite for γ < 1.
    wrong = tl.maximum(wrong, 1.1754943508222875e-38)
    for k in tl.static_range(len(GAMMAS)):
        gradient += gradients[3 + k] * _power(wrong, GAMMAS[k] - 1) * (wrong - GAMMAS[k] * p * log_probability)
    return gradient


@triton.jit
def _zeros(COUNT: tl.constexpr, BLOCK: tl.constexpr, DTYPE: tl.constexpr):
    sums = ()
    for _ in tl.static_range(COUNT):
        sums = sums + (tl.zeros([BLOCK], DTYPE),)  # noqa: RUF005
    return sums


@triton.jit
def _add(sums, values):
    added = ()
    for k in tl.static_range(len(sums)):
        added = added + (sums[k] + values[k],)  # noqa: RUF005
    return added


@triton.jit
def _add_where(sums, where, values):
    added = ()
    for k in tl.static_range(len(sums)):
        added = added + (sums[k] + tl.where(where, values[k], 0.0),)  # noqa: RUF005
    return added


@triton.jit
def _add_by_label(sums, labels, values, LABELS: tl.constexpr):
    """Adds values to the sums of each pixel's label: (label, value) in one tuple, label by label."""
    added = ()
    for label in tl.static_range(LABELS):
        own = labels == label
        for k in tl.static_range(len(values)):
            value = tl.where(own, values[k], 0.0)
            added = added + (sums[label * len(values) + k] + value,)  # noqa: RUF005
    return added


@triton.jit
def _store_sums(pointers, sums, existing):
    """Stores how many there are, of as many numbers in a row."""
    for k in tl.static_range(len(sums)):
        tl.store(pointers + k, tl.sum(sums[k], 0), mask=k < existing)


@triton.jit
def _positions(errors, LARGEST: tl.constexpr):
    """See `ErrorBins.positions`."""
    errors = tl.minimum(tl.maximum(errors, 0.0), LARGEST)
    return (errors + 1.0).to(tl.int32, bitcast=True) - 0x3F800000


@triton.jit
def _add_errors(
    row, firsts, errors, own, counted, shift, cut_off, BINS: tl.constexpr, CUT: tl.constexpr, LARGEST: tl.constexpr
):
    """Adds errors to a histogram of labels other and own; see `ErrorHistogram`.

    Those of the first bin, of other and own, are added to `firsts`, their places and 2²⁰ times their number: for those
    of a trained network are there, and atomic additions to one address wait for each other.
    """
    positions = _positions(errors, LARGEST)
    bins = positions >> CUT
    places = (positions & ((1 << CUT) - 1)) >> cut_off
    value = places.to(tl.int64) + (tl.full([1], 1, tl.int64) << shift)
    tl.atomic_add(row + tl.where(own, BINS, 0) + bins, value, mask=counted & (bins > 0), sem="relaxed")
    first = tl.where(counted & (bins == 0), places + (1 << 20), 0)
    return firsts[0] + tl.where(own, 0, first), firsts[1] + tl.where(own, first, 0)


@triton.jit
def _store_first_bins(row, firsts, existing, shift, BINS: tl.constexpr):
    for own in tl.static_range(2):
        count = tl.sum(firsts[own] >> 20, 0).to(tl.int64)
        places = tl.sum(firsts[own] & ((1 << 20) - 1), 0).to(tl.int64)
        tl.atomic_add(row + own * BINS, (count << shift) + places, mask=existing & (count > 0), sem="relaxed")


@triton.jit
def _error_gradient(row, errors, own, mask, BINS: tl.constexpr, CUT: tl.constexpr, LARGEST: tl.constexpr):
    """∂L/∂e of each error, looked up by bin."""
    pointers = row + tl.where(own, BINS, 0) + (_positions(errors, LARGEST) >> CUT)
    return tl.load(pointers, mask=mask, other=0.0)


@triton.jit(do_not_specialize=["chunks", "length", "copies", "shift", "cut_off", "ignore_index"])
def softmax_forward(
    logits, target, by_label, by_channel, label_map, normalizer, packed, known_labels, chunks, length,
    copies, copy_size, shift, cut_off,
    pixels, ignore_index, logits_image, logits_channel, logits_pixel, target_image, target_channel, target_pixel,
    CLASSES: tl.constexpr, IGNORES: tl.constexpr, GAMMAS: tl.constexpr, SQUARES: tl.constexpr, UNIFORM: tl.constexpr,
    MARGIN: tl.constexpr, PER_IMAGE: tl.constexpr, BINS: tl.constexpr, CUT: tl.constexpr, LARGEST: tl.constexpr,
    TILE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Sums by label and by channel of the program's pixels, maps, and histograms, of the softmax.

    With several tiles of channels a program has one block, whose logits it reads twice.
    """
    program = tl.program_id(0).to(tl.int64)
    image = program // chunks
    start = (program % chunks).to(tl.int32) * length * BLOCK
    logits += image * logits_image
    target += image * target_image
    LABEL_COLUMNS: tl.constexpr = 3 + len(GAMMAS)
    CHANNEL_COLUMNS: tl.constexpr = 1 + SQUARES + UNIFORM
    ONE_TILE: tl.constexpr = TILE >= CLASSES
    peak = tl.full([BLOCK], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    of_label = tl.zeros([BLOCK], tl.float32)
    if not ONE_TILE:
        pixel = start + tl.arange(0, BLOCK)
        inside = pixel < pixels
        labels, valid = _labels(target + pixel.to(tl.int64) * target_pixel, inside, ignore_index, CLASSES, IGNORES)
        for first in range(0, CLASSES, TILE):
            pointers = logits + pixel.to(tl.int64) * logits_pixel + _wide(first) * logits_channel
            rows = _rows(pointers, first, inside, valid, logits_channel, CLASSES, TILE)
            higher = _greatest(rows, peak)
            # Nothing but -inf so far: -inf - (-inf) would be NaN.
            offset = tl.where(higher == float("-inf"), 0.0, higher)
            _, of_tile = _exponentials(rows, offset)
            total = total * tl.exp(peak - offset) + of_tile
            peak = higher
            of_label = _pick(rows, labels - first, of_label)
    for first in range(0, CLASSES, TILE):
        label_sums = _zeros(TILE * LABEL_COLUMNS, BLOCK, tl.float32)
        channel_sums = _zeros(TILE * CHANNEL_COLUMNS, BLOCK, tl.float32)
        if packed is not None:
            firsts = _zeros(TILE * 2, BLOCK, tl.int32)
            tables = packed + program % copies * copy_size + (image * PER_IMAGE * CLASSES + first) * (2 * BINS)
        for block in range(0, length):
            pixel = start + block * BLOCK + tl.arange(0, BLOCK)
            inside = pixel < pixels
            wide_pixel = pixel.to(tl.int64)
            labels, valid = _labels(target + wide_pixel * target_pixel, inside, ignore_index, CLASSES, IGNORES)
            pointers = logits + wide_pixel * logits_pixel + _wide(first) * logits_channel
            rows = _rows(pointers, first, inside, valid, logits_channel, CLASSES, TILE)
            if ONE_TILE:
                peak = _greatest(rows, rows[0])
                exponentials, total = _exponentials(rows, peak)
                of_label = _pick(rows, labels, tl.zeros([BLOCK], tl.float32))
            else:
                exponentials, _ = _exponentials(rows, peak)
            log_total = tl.log(total)
            # In this order no digits of a large peak are lost.
            log_probability = tl.where(labels >= 0, of_label - peak - log_total, 0.0)
            if first == 0:
                _note_unknown(known_labels, labels, valid)
                log_sum = tl.where(valid, peak + log_total, float("inf"))
                tl.store(normalizer + image * pixels + pixel, log_sum, mask=inside)
                if label_map is not None:
                    tl.store(label_map + image * pixels + pixel, log_probability, mask=inside)
            p_label = tl.exp(log_probability)
            values = _of_label(log_probability, p_label, tl.maximum(1.0 - p_label, 0.0), GAMMAS)
            in_tile = labels - first
            label_sums = _add_by_label(label_sums, in_tile, values, TILE)
            weight = tl.where(valid, 1.0 / total, 0.0)
            columns = ()
            of_first_bins = ()
            for k in tl.static_range(TILE):
                p = exponentials[k] * weight
                columns = columns + (p,)  # noqa: RUF005
                if SQUARES:
                    columns = columns + (p * p,)  # noqa: RUF005
                if UNIFORM:
                    columns = columns + (tl.where(valid, rows[k] - peak - log_total, 0.0),)  # noqa: RUF005
                if packed is not None:
                    own = in_tile == k
                    counted = valid & (first + k < CLASSES)
                    table, of_first_bin = tables + k * 2 * BINS, (firsts[2 * k], firsts[2 * k + 1])
                    error = tl.where(own, 1.0 - p, p)
                    of_first_bins = of_first_bins + _add_errors(
                        table, of_first_bin, error, own, counted, shift, cut_off, BINS, CUT, LARGEST
                    )
            channel_sums = _add(channel_sums, columns)
            if packed is not None:
                firsts = of_first_bins
        row = program * CLASSES + first
        _store_sums(by_label + row * LABEL_COLUMNS, label_sums, (CLASSES - first) * LABEL_COLUMNS)
        _store_sums(by_channel + row * CHANNEL_COLUMNS, channel_sums, (CLASSES - first) * CHANNEL_COLUMNS)
        if packed is not None:
            for k in tl.static_range(TILE):
                table, of_first_bin = tables + k * 2 * BINS, (firsts[2 * k], firsts[2 * k + 1])
                _store_first_bins(table, of_first_bin, first + k < CLASSES, shift, BINS)


@triton.jit(do_not_specialize=["chunks", "length", "copies", "shift", "cut_off", "ignore_index"])
def sigmoid_forward(
    logits, target, by_label, by_channel, label_map, normalizer, packed, known_labels, chunks, length,
    copies, copy_size, shift, cut_off,
    pixels, ignore_index, logits_image, logits_channel, logits_pixel, target_image, target_channel, target_pixel,
    CLASSES: tl.constexpr, IGNORES: tl.constexpr, GAMMAS: tl.constexpr, SQUARES: tl.constexpr, UNIFORM: tl.constexpr,
    MARGIN: tl.constexpr, PER_IMAGE: tl.constexpr, BINS: tl.constexpr, CUT: tl.constexpr, LARGEST: tl.constexpr,
    TILE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Sums by label and by channel of the program's pixels of one channel, maps, and histograms."""
    program = tl.program_id(0).to(tl.int64)
    row = program // chunks
    image = row // CLASSES
    channel = row % CLASSES
    start = (program % chunks).to(tl.int32) * length * BLOCK
    logits += image * logits_image + channel * logits_channel
    target += image * target_image + channel * target_channel
    LABEL_COLUMNS: tl.constexpr = 3 + len(GAMMAS)
    CHANNEL_COLUMNS: tl.constexpr = 1 + SQUARES + UNIFORM
    label_sums = _zeros(2 * LABEL_COLUMNS, BLOCK, tl.float32)
    channel_sums = _zeros(CHANNEL_COLUMNS, BLOCK, tl.float32)
    if packed is not None:
        firsts = _zeros(2, BLOCK, tl.int32)
        table = packed + program % copies * copy_size + (image * PER_IMAGE * CLASSES + channel) * (2 * BINS)
    for block in range(0, length):
        pixel = start + block * BLOCK + tl.arange(0, BLOCK)
        inside = pixel < pixels
        wide_pixel = pixel.to(tl.int64)
        labels, valid = _labels(target + wide_pixel * target_pixel, inside, ignore_index, 2, IGNORES)
        _note_unknown(known_labels, labels, valid)
        z = tl.load(logits + wide_pixel * logits_pixel, mask=inside, other=0.0).to(tl.float32)
        z = tl.where(valid, z, 0.0)
        is_1 = labels == 1
        x = tl.where(is_1, z, -z)
        log_probability = _log_sigmoid(x)
        p = tl.sigmoid(z)
        wrong = tl.where(is_1, 1.0 - p, p)
        if label_map is not None:
            tl.store(label_map + row * pixels + pixel, tl.where(valid, log_probability, 0.0), mask=inside)
        values = _of_label(log_probability, 1.0 - wrong, wrong, GAMMAS)
        label_sums = _add_by_label(label_sums, labels, values, 2)
        columns = (p,)
        if SQUARES:
            columns = columns + (p * p,)  # noqa: RUF005
        if UNIFORM:
            columns = columns + (log_probability - 0.5 * x,)  # noqa: RUF005
        channel_sums = _add_where(channel_sums, valid, columns)
        if packed is not None:
            errors = wrong
            if MARGIN:
                errors = tl.maximum(1.0 - x, 0.0)
            # An error of 0 is none at any threshold.
            counted = valid & (errors > 0)
            firsts = _add_errors(table, firsts, errors, is_1, counted, shift, cut_off, BINS, CUT, LARGEST)
    _store_sums(by_label + program * 2 * LABEL_COLUMNS, label_sums, 2 * LABEL_COLUMNS)
    _store_sums(by_channel + program * CHANNEL_COLUMNS, channel_sums, CHANNEL_COLUMNS)
    if packed is not None:
        _store_first_bins(table, firsts, True, shift, BINS)


@triton.jit
def _load_columns(pointers, mask, COUNT: tl.constexpr):
    columns = ()
    for k in tl.static_range(COUNT):
        columns = columns + (tl.load(pointers + k, mask=mask, other=0.0).to(tl.float32),)  # noqa: RUF005
    return columns


@triton.jit
def _softmax_probabilities_and_gradients(
    rows, first, labels, valid, image, log_sum, by_channel, errors,
    CLASSES: tl.constexpr, SQUARES: tl.constexpr, UNIFORM: tl.constexpr, PER_IMAGE: tl.constexpr,
    BINS: tl.constexpr, CUT: tl.constexpr, LARGEST: tl.constexpr,
):  # fmt: skip
    """p; ∂L/∂p through the sums by channel and by bin; Σ p ∂L/∂p; and of the uniform sums ∂L/∂z, and its sum."""
    probabilities, gradients, uniforms = (), (), ()
    of_tile = tl.zeros_like(log_sum)
    for k in tl.static_range(len(rows)):
        p = tl.exp(rows[k] - log_sum)
        gradient = tl.zeros_like(p)
        uniform = tl.zeros([1], tl.float32)
        existing = first + k < CLASSES
        if by_channel is not None:
            column = by_channel + (image * CLASSES + first + k) * (1 + SQUARES + UNIFORM)
            gradient += tl.load(column, mask=existing, other=0.0).to(tl.float32)
            if SQUARES:
                gradient += 2.0 * tl.load(column + 1, mask=existing, other=0.0).to(tl.float32) * p
            if UNIFORM:
                uniform += tl.load(column + SQUARES + 1, mask=existing, other=0.0).to(tl.float32)
                of_tile += uniform
        if errors is not None:
            own = labels - first == k
            table = errors + (image * PER_IMAGE * CLASSES + first + k) * (2 * BINS)
            error = tl.where(own, 1.0 - p, p)
            of_error = _error_gradient(table, error, own, valid & existing, BINS, CUT, LARGEST)
            gradient += tl.where(own, -of_error, of_error)
        of_tile += gradient * p
        probabilities = probabilities + (p,)  # noqa: RUF005
        gradients = gradients + (gradient,)  # noqa: RUF005
        uniforms = uniforms + (uniform,)  # noqa: RUF005
    return probabilities, gradients, of_tile, uniforms


@triton.jit(do_not_specialize=["chunks", "ignore_index"])
def softmax_backward(
    by_label, by_channel, label_map, errors, logits, target, normalizer, result, chunks,
    pixels, ignore_index, logits_image, logits_channel, logits_pixel, target_image, target_channel, target_pixel,
    CLASSES: tl.constexpr, IGNORES: tl.constexpr, GAMMAS: tl.constexpr, SQUARES: tl.constexpr, UNIFORM: tl.constexpr,
    MARGIN: tl.constexpr, PER_IMAGE: tl.constexpr, BINS: tl.constexpr, CUT: tl.constexpr, LARGEST: tl.constexpr,
    TILE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The gradient of the logits of a block of pixels, of the softmax."""
    program = tl.program_id(0).to(tl.int64)
    image = program // chunks
    pixel = (program % chunks).to(tl.int32) * BLOCK + tl.arange(0, BLOCK)
    wide_pixel = pixel.to(tl.int64)
    inside = pixel < pixels
    logits += image * logits_image
    result += image * CLASSES * pixels
    target += image * target_image
    LABEL_COLUMNS: tl.constexpr = 3 + len(GAMMAS)
    labels, valid = _labels(target + wide_pixel * target_pixel, inside, ignore_index, CLASSES, IGNORES)
    log_sum = tl.load(normalizer + image * pixels + pixel, mask=inside, other=float("inf"))
    a = tl.zeros([BLOCK], tl.float32)
    if label_map is not None:
        a += tl.load(label_map + image * pixels + pixel, mask=valid, other=0.0)
    if by_label is not None:
        gradients = _load_columns(by_label + (image * CLASSES + labels) * LABEL_COLUMNS, labels >= 0, LABEL_COLUMNS)
        # The logit of the label, which the cache holds when it is read again.
        pointers = logits + labels.to(tl.int64) * logits_channel + wide_pixel * logits_pixel
        of_label = tl.load(pointers, mask=labels >= 0, other=0.0).to(tl.float32)
        log_probability = tl.where(labels >= 0, of_label - log_sum, 0.0)
        p_label = tl.exp(log_probability)
        a += _gradient_of_label(gradients, log_probability, p_label, 1.0 - p_label, GAMMAS)
    # p (h - Σ h p) + a (δ - p) + u - p Σ u = p (h - t) + a δ + u, with t one number for each pixel.
    t = a
    ONE_TILE: tl.constexpr = TILE >= CLASSES
    if not ONE_TILE and (by_channel is not None or errors is not None):
        for first in range(0, CLASSES, TILE):
            pointers = logits + wide_pixel * logits_pixel + _wide(first) * logits_channel
            rows = _rows(pointers, first, inside, valid, logits_channel, CLASSES, TILE)
            _, _, of_tile, _ = _softmax_probabilities_and_gradients(
                rows, first, labels, valid, image, log_sum, by_channel, errors,
                CLASSES, SQUARES, UNIFORM, PER_IMAGE, BINS, CUT, LARGEST,
            )  # fmt: skip
            t += of_tile
    for first in range(0, CLASSES, TILE):
        pointers = logits + wide_pixel * logits_pixel + _wide(first) * logits_channel
        rows = _rows(pointers, first, inside, valid, logits_channel, CLASSES, TILE)
        probabilities, h, of_tile, uniforms = _softmax_probabilities_and_gradients(
            rows, first, labels, valid, image, log_sum, by_channel, errors,
            CLASSES, SQUARES, UNIFORM, PER_IMAGE, BINS, CUT, LARGEST,
        )  # fmt: skip
        if ONE_TILE:
            t += of_tile
        out = result + _wide(first) * pixels + pixel
        for k in tl.static_range(TILE):
            additional = tl.where(labels - first == k, a, 0.0) + uniforms[k]
            gradient = tl.where(valid, probabilities[k] * (h[k] - t) + additional, 0.0)
            mask = inside
            if CLASSES % TILE != 0:
                mask = inside & (first + k < CLASSES)
            tl.store(out, gradient, mask=mask)
            out += pixels


@triton.jit(do_not_specialize=["chunks", "ignore_index"])
def sigmoid_backward(
    by_label, by_channel, label_map, errors, logits, target, normalizer, result, chunks,
    pixels, ignore_index, logits_image, logits_channel, logits_pixel, target_image, target_channel, target_pixel,
    CLASSES: tl.constexpr, IGNORES: tl.constexpr, GAMMAS: tl.constexpr, SQUARES: tl.constexpr, UNIFORM: tl.constexpr,
    MARGIN: tl.constexpr, PER_IMAGE: tl.constexpr, BINS: tl.constexpr, CUT: tl.constexpr, LARGEST: tl.constexpr,
    TILE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The gradient of the logits of a block of pixels of one channel."""
    program = tl.program_id(0).to(tl.int64)
    row = program // chunks
    image = row // CLASSES
    channel = row % CLASSES
    pixel = (program % chunks).to(tl.int32) * BLOCK + tl.arange(0, BLOCK)
    wide_pixel = pixel.to(tl.int64)
    inside = pixel < pixels
    target += image * target_image + channel * target_channel
    logits += image * logits_image + channel * logits_channel
    labels, valid = _labels(target + wide_pixel * target_pixel, inside, ignore_index, 2, IGNORES)
    z = tl.load(logits + wide_pixel * logits_pixel, mask=inside, other=0.0).to(tl.float32)
    z = tl.where(valid, z, 0.0)
    is_1 = labels == 1
    sign = tl.where(is_1, -1.0, 1.0)  # ∂e/∂p
    p = tl.sigmoid(z)
    wrong = tl.where(is_1, 1.0 - p, p)
    a = tl.zeros([BLOCK], tl.float32)
    if label_map is not None:
        a += tl.load(label_map + row * pixels + pixel, mask=valid, other=0.0)
    if by_label is not None:
        COLUMNS: tl.constexpr = 3 + len(GAMMAS)
        gradients = _load_columns(by_label + (row * 2 + labels) * COLUMNS, labels >= 0, COLUMNS)
        a += _gradient_of_label(gradients, _log_sigmoid(-sign * z), 1.0 - wrong, wrong, GAMMAS)
    h = tl.zeros([BLOCK], tl.float32)
    of_logit = tl.zeros([BLOCK], tl.float32)
    if by_channel is not None:
        column = by_channel + row * (1 + SQUARES + UNIFORM)
        h += tl.load(column).to(tl.float32)
        if SQUARES:
            h += 2.0 * tl.load(column + 1).to(tl.float32) * p
        if UNIFORM:
            of_logit += tl.load(column + SQUARES + 1).to(tl.float32) * (0.5 - p)
    if errors is not None:
        table = errors + (image * PER_IMAGE * CLASSES + channel) * (2 * BINS)
        if MARGIN:
            margin = tl.maximum(1.0 + sign * z, 0.0)
            counted = valid & (margin > 0)
            of_logit += sign * _error_gradient(table, margin, is_1, counted, BINS, CUT, LARGEST)
        else:
            h += sign * _error_gradient(table, wrong, is_1, valid, BINS, CUT, LARGEST)
    gradient = tl.where(valid, of_logit - a * sign * wrong + h * p * (1.0 - p), 0.0)
    tl.store(result + row * pixels + pixel, gradient, mask=inside)


@triton.jit
def _largest(pointers, inside, channel_stride, CLASSES: tl.constexpr):
    """The channel with the largest logit: the first of equal ones, and the first NaN before all numbers."""
    best = tl.load(pointers, mask=inside, other=0.0).to(tl.float32)
    index = tl.zeros(best.shape, tl.int32)
    for channel in range(1, CLASSES):
        pointers += channel_stride
        z = tl.load(pointers, mask=inside, other=0.0).to(tl.float32)
        better = (z > best) | ((z != z) & (best == best))
        best = tl.where(better, z, best)
        index = tl.where(better, channel, index)
    return index


@triton.jit(do_not_specialize=["chunks", "length", "copies", "ignore_index"])
def confusion(
    logits, target, counts, known_labels, chunks, length, copies,
    pixels, ignore_index, logits_image, logits_channel, logits_pixel, target_image, target_channel, target_pixel,
    CLASSES: tl.constexpr, IGNORES: tl.constexpr, SOFTMAX: tl.constexpr, BINS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Adds the program's pixels, of an image or one channel of it, to one of the copies of the counts.

    With BINS = 0, for many classes, pixel by pixel; else they are counted within the program first.
    """
    program = tl.program_id(0).to(tl.int64)
    row = program // chunks
    start = (program % chunks).to(tl.int32) * length * BLOCK
    if SOFTMAX:
        LABELS: tl.constexpr = CLASSES
        CELLS: tl.constexpr = CLASSES * CLASSES
        logits += row * logits_image
        target += row * target_image
        counts += program % copies * CELLS
    else:
        LABELS: tl.constexpr = 2
        CELLS: tl.constexpr = 4
        channel = row % CLASSES
        logits += row // CLASSES * logits_image + channel * logits_channel
        target += row // CLASSES * target_image + channel * target_channel
        counts += (program % copies * CLASSES + channel) * CELLS
    if BINS > 0:
        table = tl.zeros([BINS], tl.int32)
    for block in range(0, length):
        pixel = start + block * BLOCK + tl.arange(0, BLOCK)
        inside = pixel < pixels
        wide_pixel = pixel.to(tl.int64)
        labels, valid = _labels(target + wide_pixel * target_pixel, inside, ignore_index, LABELS, IGNORES)
        _note_unknown(known_labels, labels, valid)
        pointers = logits + wide_pixel * logits_pixel
        if SOFTMAX:
            prediction = _largest(pointers, inside, logits_channel, CLASSES)
        else:
            prediction = (tl.load(pointers, mask=inside, other=0.0).to(tl.float32) > 0).to(tl.int32)
        cell = labels * LABELS + prediction
        if BINS > 0:
            # The last bins are no cells.
            table += tl.histogram(tl.where(labels >= 0, cell, BINS - 1), BINS)
        else:
            tl.atomic_add(counts + cell, tl.full([BLOCK], 1, tl.int64), mask=labels >= 0, sem="relaxed")
    if BINS > 0:
        cells = tl.arange(0, BINS)
        tl.atomic_add(counts + cells, table.to(tl.int64), mask=(cells < CELLS) & (table > 0), sem="relaxed")
