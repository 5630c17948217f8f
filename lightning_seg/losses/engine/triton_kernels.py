"""The Triton kernels of `triton_backend`: what `torch_backend` computes, for a program's block of pixels.

A tile is (channels, pixels). Arguments in capitals are constants of the compiled code; pointers that are None are of
what is not read.
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
def _of_own_channel(logits, labels, wide_pixel, channel_stride, pixel_stride):
    """The logit of each pixel's label, which the cache still holds."""
    pointers = logits + labels.to(tl.int64) * channel_stride + wide_pixel * pixel_stride
    return tl.load(pointers, mask=labels >= 0, other=0.0).to(tl.float32)


@triton.jit
def _tile(rows, channels, pixel, inside, valid, pixel_stride, CLASSES: tl.constexpr, TILE: tl.constexpr):
    """Logits in float32: -inf for channels beyond the last, 0 at void pixels, which may hold anything."""
    mask = inside[None, :]
    if CLASSES % TILE != 0:
        mask = mask & (channels < CLASSES)[:, None]
    pointers = rows[:, None] + pixel[None, :].to(tl.int64) * pixel_stride
    # Makes a thread hold all channels of one pixel, so that sums over them, and the numbers of a pixel, are its own.
    # Triton would give it as many pixels as 16 bytes hold, and spread their channels over threads.
    pointers = tl.max_contiguous(pointers, [1, 1])
    z = tl.load(pointers, mask=mask, other=float("-inf")).to(tl.float32)
    return tl.where(valid[None, :], z, 0.0)


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
def _zeros(COUNT: tl.constexpr, TILE: tl.constexpr, BLOCK: tl.constexpr):
    sums = ()
    for _ in tl.static_range(COUNT):
        sums = sums + (tl.zeros([TILE, BLOCK], tl.float32),)  # noqa: RUF005
    return sums


@triton.jit
def _add_where(sums, where, values):
    added = ()
    for k in tl.static_range(len(sums)):
        added = added + (sums[k] + where.to(tl.float32) * values[k],)  # noqa: RUF005
    return added


@triton.jit
def _add(sums, values):
    added = ()
    for k in tl.static_range(len(sums)):
        added = added + (sums[k] + values[k],)  # noqa: RUF005
    return added


@triton.jit
def _store_sums(pointers, sums, mask):
    for k in tl.static_range(len(sums)):
        tl.store(pointers + k, tl.sum(sums[k], 1), mask=mask)


@triton.jit
def _positions(errors, LARGEST: tl.constexpr):
    """See `ErrorBins.positions`."""
    errors = tl.minimum(tl.maximum(errors, 0.0), LARGEST)
    return (errors + 1.0).to(tl.int32, bitcast=True) - 0x3F800000


@triton.jit
def _add_errors(
    rows, errors, own, counted, shift, cut_off, BINS: tl.constexpr, CUT: tl.constexpr, LARGEST: tl.constexpr
):
    """Adds errors to histograms, `rows` of them, of labels other and own; see `ErrorHistogram`."""
    positions = _positions(errors, LARGEST)
    bins = positions >> CUT
    places = (positions & ((1 << CUT) - 1)) >> cut_off
    values = places.to(tl.int64) + (tl.full([1, 1], 1, tl.int64) << shift)
    pointers = rows[:, None] + tl.where(own, BINS, 0) + bins
    tl.atomic_add(pointers, values, mask=counted & (bins > 0), sem="relaxed")
    first = tl.where(counted & (bins == 0), values, 0)
    of_own = tl.sum(tl.where(own, first, 0), 1)
    of_all = tl.sum(first, 1)
    tl.atomic_add(rows, of_all - of_own, mask=of_all != of_own, sem="relaxed")
    tl.atomic_add(rows + BINS, of_own, mask=of_own != 0, sem="relaxed")


@triton.jit
def _error_gradient(rows, errors, own, mask, BINS: tl.constexpr, CUT: tl.constexpr, LARGEST: tl.constexpr):
    """∂L/∂e of each error, looked up by bin."""
    pointers = rows[:, None] + tl.where(own, BINS, 0) + (_positions(errors, LARGEST) >> CUT)
    return tl.load(pointers, mask=mask, other=0.0)


@triton.jit(do_not_specialize=["chunks", "shift", "cut_off", "ignore_index"])
def softmax_forward(
    logits, target, by_label, by_channel, label_map, normalizer, packed, known_labels, chunks, length, shift, cut_off,
    pixels, ignore_index, logits_image, logits_channel, logits_pixel, target_image, target_channel, target_pixel,
    CLASSES: tl.constexpr, IGNORES: tl.constexpr, GAMMAS: tl.constexpr, SQUARES: tl.constexpr, UNIFORM: tl.constexpr,
    MARGIN: tl.constexpr, PER_IMAGE: tl.constexpr, BINS: tl.constexpr, CUT: tl.constexpr, LARGEST: tl.constexpr,
    TILE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Sums by label and by channel of the program's pixels, maps, and histograms, of the softmax."""
    program = tl.program_id(0).to(tl.int64)
    image = program // chunks
    start = (program % chunks).to(tl.int32) * length * BLOCK
    logits += image * logits_image
    target += image * target_image
    LABEL_COLUMNS: tl.constexpr = 3 + len(GAMMAS)
    CHANNEL_COLUMNS: tl.constexpr = 1 + SQUARES + UNIFORM
    ONE_TILE: tl.constexpr = TILE >= CLASSES
    if not ONE_TILE:
        pixel = start + tl.arange(0, BLOCK)
        inside = pixel < pixels
        labels, valid = _labels(target + pixel.to(tl.int64) * target_pixel, inside, ignore_index, CLASSES, IGNORES)
        peak = tl.full([BLOCK], float("-inf"), tl.float32)
        total = tl.zeros([BLOCK], tl.float32)
        for first in range(0, CLASSES, TILE):
            channels = first + tl.arange(0, TILE)
            rows = logits + channels.to(tl.int64) * logits_channel
            z = _tile(rows, channels, pixel, inside, valid, logits_pixel, CLASSES, TILE)
            higher = tl.maximum(peak, tl.max(z, 0))
            # Nothing but -inf so far: -inf - (-inf) would be NaN.
            offset = tl.where(higher == float("-inf"), 0.0, higher)
            total = total * tl.exp(peak - offset) + tl.sum(tl.exp(z - offset[None, :]), 0)
            peak = higher
    for first in range(0, CLASSES, TILE):
        channels = first + tl.arange(0, TILE)
        rows = logits + channels.to(tl.int64) * logits_channel
        label_sums = _zeros(LABEL_COLUMNS, TILE, BLOCK)
        channel_sums = _zeros(CHANNEL_COLUMNS, TILE, BLOCK)
        for block in range(0, length):
            pixel = start + block * BLOCK + tl.arange(0, BLOCK)
            inside = pixel < pixels
            wide_pixel = pixel.to(tl.int64)
            labels, valid = _labels(target + wide_pixel * target_pixel, inside, ignore_index, CLASSES, IGNORES)
            z = _tile(rows, channels, pixel, inside, valid, logits_pixel, CLASSES, TILE)
            if ONE_TILE:
                peak = tl.max(z, 0)
                e = tl.exp(z - peak[None, :])
                total = tl.sum(e, 0)
            else:
                e = tl.exp(z - peak[None, :])
            log_total = tl.log(total)
            p = e * tl.where(valid, 1.0 / total, 0.0)[None, :]
            of_label = _of_own_channel(logits, labels, wide_pixel, logits_channel, logits_pixel)
            # In this order no digits of a large peak are lost.
            log_probability = tl.where(labels >= 0, of_label - peak - log_total, 0.0)
            if first == 0:
                _note_unknown(known_labels, labels, valid)
                log_sum = tl.where(valid, peak + log_total, float("inf"))
                tl.store(normalizer + image * pixels + pixel, log_sum, mask=inside)
                if label_map is not None:
                    tl.store(label_map + image * pixels + pixel, log_probability, mask=inside)
            # No label is a channel beyond the last; so the compiler learns it, and leaves these channels out.
            existing = (channels < CLASSES)[:, None]
            own = (labels[None, :] == channels[:, None]) & existing
            p_label = tl.exp(log_probability)
            values = _of_label(
                log_probability[None, :], p_label[None, :], tl.maximum(1.0 - p_label, 0.0)[None, :], GAMMAS
            )
            label_sums = _add_where(label_sums, own, values)
            p = tl.where(existing, p, 0.0)
            columns = (p,)
            if SQUARES:
                columns = columns + (p * p,)  # noqa: RUF005
            if UNIFORM:
                log_p = z - peak[None, :] - log_total[None, :]
                columns = columns + (tl.where(valid[None, :] & existing, log_p, 0.0),)  # noqa: RUF005
            channel_sums = _add(channel_sums, columns)
            if packed is not None:
                group = image * PER_IMAGE
                histograms = packed + (group * CLASSES + channels) * (2 * BINS)
                counted = valid[None, :] & existing
                _add_errors(histograms, tl.where(own, 1.0 - p, p), own, counted, shift, cut_off, BINS, CUT, LARGEST)
        row = program * CLASSES + channels
        _store_sums(by_label + row * LABEL_COLUMNS, label_sums, channels < CLASSES)
        _store_sums(by_channel + row * CHANNEL_COLUMNS, channel_sums, channels < CLASSES)


@triton.jit(do_not_specialize=["chunks", "shift", "cut_off", "ignore_index"])
def sigmoid_forward(
    logits, target, by_label, by_channel, label_map, normalizer, packed, known_labels, chunks, length, shift, cut_off,
    pixels, ignore_index, logits_image, logits_channel, logits_pixel, target_image, target_channel, target_pixel,
    CLASSES: tl.constexpr, IGNORES: tl.constexpr, GAMMAS: tl.constexpr, SQUARES: tl.constexpr, UNIFORM: tl.constexpr,
    MARGIN: tl.constexpr, PER_IMAGE: tl.constexpr, BINS: tl.constexpr, CUT: tl.constexpr, LARGEST: tl.constexpr,
    TILE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Sums by label and by channel of the program's pixels of one channel, maps, and histograms."""
    program = tl.program_id(0).to(tl.int64)
    row = program // chunks
    image = row // CLASSES
    channels = row % CLASSES + tl.arange(0, TILE)
    start = (program % chunks).to(tl.int32) * length * BLOCK
    logits_rows = logits + image * logits_image + channels * logits_channel
    target += image * target_image + (row % CLASSES) * target_channel
    LABEL_COLUMNS: tl.constexpr = 3 + len(GAMMAS)
    CHANNEL_COLUMNS: tl.constexpr = 1 + SQUARES + UNIFORM
    sums_of_0 = _zeros(LABEL_COLUMNS, TILE, BLOCK)
    sums_of_1 = _zeros(LABEL_COLUMNS, TILE, BLOCK)
    channel_sums = _zeros(CHANNEL_COLUMNS, TILE, BLOCK)
    for block in range(0, length):
        pixel = start + block * BLOCK + tl.arange(0, BLOCK)
        inside = pixel < pixels
        labels, valid = _labels(target + pixel.to(tl.int64) * target_pixel, inside, ignore_index, 2, IGNORES)
        _note_unknown(known_labels, labels, valid)
        z = _tile(logits_rows, channels, pixel, inside, valid, logits_pixel, 1, TILE)
        is_1 = (labels == 1)[None, :]
        is_0 = (labels == 0)[None, :]
        x = tl.where(is_1, z, -z)
        log_probability = _log_sigmoid(x)
        p = tl.sigmoid(z)
        wrong = tl.where(is_1, 1.0 - p, p)
        if label_map is not None:
            shown = tl.where(valid[None, :], log_probability, 0.0)
            tl.store(label_map + row * pixels + pixel[None, :], shown, mask=inside[None, :])
        values = _of_label(log_probability, 1.0 - wrong, wrong, GAMMAS)
        sums_of_0 = _add_where(sums_of_0, is_0, values)
        sums_of_1 = _add_where(sums_of_1, is_1, values)
        columns = (p,)
        if SQUARES:
            columns = columns + (p * p,)  # noqa: RUF005
        if UNIFORM:
            columns = columns + (log_probability - 0.5 * x,)  # noqa: RUF005
        channel_sums = _add_where(channel_sums, valid[None, :], columns)
        if packed is not None:
            errors = wrong
            if MARGIN:
                errors = tl.maximum(1.0 - x, 0.0)
            histograms = packed + (image * PER_IMAGE * CLASSES + channels) * (2 * BINS)
            # An error of 0 is none at any threshold.
            counted = valid[None, :] & (errors > 0)
            _add_errors(histograms, errors, is_1, counted, shift, cut_off, BINS, CUT, LARGEST)
    of_program = program + tl.arange(0, TILE)
    written = tl.arange(0, TILE) == 0
    _store_sums(by_label + of_program * 2 * LABEL_COLUMNS, sums_of_0, written)
    _store_sums(by_label + (of_program * 2 + 1) * LABEL_COLUMNS, sums_of_1, written)
    _store_sums(by_channel + of_program * CHANNEL_COLUMNS, channel_sums, written)


@triton.jit
def _load_columns(pointers, mask, COUNT: tl.constexpr):
    columns = ()
    for k in tl.static_range(COUNT):
        columns = columns + (tl.load(pointers + k, mask=mask, other=0.0),)  # noqa: RUF005
    return columns


@triton.jit
def _softmax_probability_and_gradient(
    z, channels, labels, valid, image, log_sum, by_channel, errors,
    CLASSES: tl.constexpr, SQUARES: tl.constexpr, UNIFORM: tl.constexpr, PER_IMAGE: tl.constexpr,
    BINS: tl.constexpr, CUT: tl.constexpr, LARGEST: tl.constexpr,
):  # fmt: skip
    """p; and ∂L/∂p through the sums by channel and by bin."""
    p = tl.exp(z - log_sum[None, :])
    gradient = tl.zeros_like(p)
    if by_channel is not None:
        rows = by_channel + (image * CLASSES + channels) * (1 + SQUARES + UNIFORM)
        gradient += tl.load(rows, mask=channels < CLASSES, other=0.0)[:, None]
        if SQUARES:
            gradient += 2.0 * tl.load(rows + 1, mask=channels < CLASSES, other=0.0)[:, None] * p
    if errors is not None:
        own = labels[None, :] == channels[:, None]
        rows = errors + (image * PER_IMAGE * CLASSES + channels) * (2 * BINS)
        mask = valid[None, :] & (channels < CLASSES)[:, None]
        of_error = _error_gradient(rows, tl.where(own, 1.0 - p, p), own, mask, BINS, CUT, LARGEST)
        gradient += tl.where(own, -of_error, of_error)
    return p, gradient


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
    CHANNEL_COLUMNS: tl.constexpr = 1 + SQUARES + UNIFORM
    labels, valid = _labels(target + wide_pixel * target_pixel, inside, ignore_index, CLASSES, IGNORES)
    log_sum = tl.load(normalizer + image * pixels + pixel, mask=inside, other=float("inf"))
    a = tl.zeros([BLOCK], tl.float32)
    if label_map is not None:
        a += tl.load(label_map + image * pixels + pixel, mask=valid, other=0.0)
    if by_label is not None:
        gradients = _load_columns(by_label + (image * CLASSES + labels) * LABEL_COLUMNS, labels >= 0, LABEL_COLUMNS)
        of_label = _of_own_channel(logits, labels, wide_pixel, logits_channel, logits_pixel)
        log_probability = tl.where(labels >= 0, of_label - log_sum, 0.0)
        p_label = tl.exp(log_probability)
        a += _gradient_of_label(gradients, log_probability, p_label, 1.0 - p_label, GAMMAS)
    # p (h - Σ h p) + a (δ - p) + u - p Σ u = p (h - t) + a δ + u, with t one number for each pixel.
    t = a
    ONE_TILE: tl.constexpr = TILE >= CLASSES
    if not ONE_TILE and (by_channel is not None or errors is not None):
        for first in range(0, CLASSES, TILE):
            channels = first + tl.arange(0, TILE)
            rows = logits + channels.to(tl.int64) * logits_channel
            z = _tile(rows, channels, pixel, inside, valid, logits_pixel, CLASSES, TILE)
            p, h = _softmax_probability_and_gradient(
                z, channels, labels, valid, image, log_sum, by_channel, errors,
                CLASSES, SQUARES, UNIFORM, PER_IMAGE, BINS, CUT, LARGEST,
            )  # fmt: skip
            t += tl.sum(h * p, 0)
            if by_channel is not None and UNIFORM:
                u = by_channel + (image * CLASSES + channels + 1) * CHANNEL_COLUMNS - 1
                t += tl.sum(tl.load(u, mask=channels < CLASSES, other=0.0), 0)
    for first in range(0, CLASSES, TILE):
        channels = first + tl.arange(0, TILE)
        wide_channels = channels.to(tl.int64)
        z = _tile(logits + wide_channels * logits_channel, channels, pixel, inside, valid, logits_pixel, CLASSES, TILE)
        p, h = _softmax_probability_and_gradient(
            z, channels, labels, valid, image, log_sum, by_channel, errors,
            CLASSES, SQUARES, UNIFORM, PER_IMAGE, BINS, CUT, LARGEST,
        )  # fmt: skip
        of_tile = t
        if ONE_TILE:
            of_tile += tl.sum(h * p, 0)
        own = labels[None, :] == channels[:, None]
        additional = tl.where(own, a[None, :], 0.0)
        if by_channel is not None and UNIFORM:
            u = by_channel + (image * CLASSES + channels + 1) * CHANNEL_COLUMNS - 1
            of_uniform = tl.load(u, mask=channels < CLASSES, other=0.0)
            if ONE_TILE:
                of_tile += tl.sum(of_uniform, 0)
            additional += of_uniform[:, None]
        gradient = tl.where(valid[None, :], p * (h - of_tile[None, :]) + additional, 0.0)
        mask = inside[None, :]
        if CLASSES % TILE != 0:
            mask = mask & (channels < CLASSES)[:, None]
        pointers = tl.max_contiguous(result + wide_channels[:, None] * pixels + pixel[None, :], [1, 1])
        tl.store(pointers, gradient, mask=mask)


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
    channels = row % CLASSES + tl.arange(0, TILE)
    pixel = (program % chunks).to(tl.int32) * BLOCK + tl.arange(0, BLOCK)
    inside = pixel < pixels
    target += image * target_image + (row % CLASSES) * target_channel
    labels, valid = _labels(target + pixel.to(tl.int64) * target_pixel, inside, ignore_index, 2, IGNORES)
    rows = logits + image * logits_image + channels * logits_channel
    z = _tile(rows, channels, pixel, inside, valid, logits_pixel, 1, TILE)
    is_1 = (labels == 1)[None, :]
    sign = tl.where(is_1, -1.0, 1.0)  # ∂e/∂p
    p = tl.sigmoid(z)
    wrong = tl.where(is_1, 1.0 - p, p)
    a = tl.zeros([TILE, BLOCK], tl.float32)
    if label_map is not None:
        a += tl.load(label_map + row * pixels + pixel, mask=valid, other=0.0)[None, :]
    if by_label is not None:
        COLUMNS: tl.constexpr = 3 + len(GAMMAS)
        gradients = _load_columns(by_label + (row * 2 + labels[None, :]) * COLUMNS, (labels >= 0)[None, :], COLUMNS)
        a += _gradient_of_label(gradients, _log_sigmoid(-sign * z), 1.0 - wrong, wrong, GAMMAS)
    h = tl.zeros([TILE, BLOCK], tl.float32)
    of_logit = tl.zeros([TILE, BLOCK], tl.float32)
    if by_channel is not None:
        column = by_channel + row * (1 + SQUARES + UNIFORM)
        h += tl.load(column)
        if SQUARES:
            h += 2.0 * tl.load(column + 1) * p
        if UNIFORM:
            of_logit += tl.load(column + SQUARES + 1) * (0.5 - p)
    if errors is not None:
        tables = errors + (image * PER_IMAGE * CLASSES + channels) * (2 * BINS)
        if MARGIN:
            margin = tl.maximum(1.0 + sign * z, 0.0)
            counted = valid[None, :] & (margin > 0)
            of_logit += sign * _error_gradient(tables, margin, is_1, counted, BINS, CUT, LARGEST)
        else:
            h += sign * _error_gradient(tables, wrong, is_1, valid[None, :], BINS, CUT, LARGEST)
    gradient = tl.where(valid[None, :], of_logit - a * sign * wrong + h * p * (1.0 - p), 0.0)
    tl.store(result + row * pixels + pixel[None, :], gradient, mask=inside[None, :])
