"""The sums of `class_sums` and their gradient by Triton kernels, one launch for each direction.

A program holds a block of pixels with all their channels, or with many classes one tile of channels after the other,
whose second read finds the cache; in tasks with a sigmoid, a block of one channel. It adds up at most 2¹⁴ pixels in
float32, so that counts are exact, and torch adds the sums of all programs in float64: no sum depends on the order in
which programs run. Histograms are integers, added atomically to some copies.

Blocks and warps were tuned on an H200; `python -m tests.benchmarks.losses --device cuda` compares. The kernels do not
compute float64 and empty batches, for which `back_ends` chooses another back end.
"""

from typing import Any

import torch
import triton
from torch import Tensor

from lightning_seg.losses.engine import triton_kernels
from lightning_seg.losses.engine.error_bins import ErrorHistogram
from lightning_seg.losses.engine.interface import BackEnd, Gradients, Outputs, Requirements

_WARPS = 4
# Programs wanted of a forward pass: several for each multiprocessor, few enough that their sums, which are added within
# a program first, cost little beside the logits. And the most pixels that one adds up.
_PROGRAMS = 4096
_MOST_PIXELS = 2**14
# Numbers that a thread holds of its pixels in the forward pass, beyond which channels are read tile by tile; channels
# of such a tile; and pixels of a block then, and otherwise.
_MOST_SUMS = 160
_TILE = 16
_TILED_BLOCK = 256
_FORWARD_BLOCK, _FORWARD_WARPS = 32, 1
# Copies of the histograms, which programs share: atomic additions to one address wait for each other, and a network's
# errors meet in few bins. Each has fewer bins than a 32nd of the logits, beside which they are small together.
_HISTOGRAMS = 16
_LOGITS_OF_A_COPY = 32
# Backward: probabilities that a thread holds, and the most pixels of a block.
_MOST_PROBABILITIES = 80
_BACKWARD_BLOCK = 512
# Confusion counts: pixels of a block; programs wanted; the most cells that a program counts by itself, where atomic
# additions of the many pixels with the same label and prediction would wait for each other; and copies of the counts,
# which programs share.
_PIXELS = 1024
_COUNTING_PROGRAMS = 1024
_MOST_BINS = 4096
_COPIES = 32
_MOST_CELLS = 2**20
_OF_PIXELS = (
    *("pixels", "ignore_index", "logits_image", "logits_channel", "logits_pixel"),
    *("target_image", "target_channel", "target_pixel", "CLASSES", "IGNORES"),
)


def softmax_forward(
    logits: Tensor, target: Tensor, ignore_index: int | None, requires: Requirements, outputs: Outputs
) -> None:
    """See `BackEnd`."""
    images, classes, _ = logits.shape
    sums = 4 + len(requires.gammas) + requires.squares + requires.uniform + 2 * (requires.errors != "none")
    tile, block, warps, most = classes, _FORWARD_BLOCK, _FORWARD_WARPS, _MOST_PIXELS // _FORWARD_BLOCK
    if classes * sums > _MOST_SUMS:
        tile, block, warps, most = _TILE, _TILED_BLOCK, _WARPS, 1  # a block's pixels are summed tile by tile
    kernel = triton_kernels.softmax_forward
    _launch_forward(kernel, images, classes, tile, block, warps, most, logits, target, ignore_index, requires, outputs)


def sigmoid_forward(
    logits: Tensor, target: Tensor, ignore_index: int | None, requires: Requirements, outputs: Outputs
) -> None:
    """See `BackEnd`."""
    rows = logits.shape[0] * logits.shape[1]
    kernel, block = triton_kernels.sigmoid_forward, _BACKWARD_BLOCK
    most = _MOST_PIXELS // block
    _launch_forward(kernel, rows, 2, 1, block, _WARPS, most, logits, target, ignore_index, requires, outputs)


def _launch_forward(
    kernel: Any,
    rows: int,
    labels: int,
    tile: int,
    block: int,
    warps: int,
    most: int,
    logits: Tensor,
    target: Tensor,
    ignore_index: int | None,
    requires: Requirements,
    outputs: Outputs,
) -> None:
    """Sums the pixels of `rows`, which are images, or channels of them; a program adds up `most` blocks."""
    by_label, by_channel, label_map, error_sums, error_counts, normalizer = outputs
    images, _, pixels = logits.shape
    blocks = triton.cdiv(pixels, block)
    length = min(most, max(1, rows * blocks // _PROGRAMS))
    chunks = triton.cdiv(blocks, length)
    label_sums, channel_sums = (
        torch.empty(rows, chunks, total.numel() // rows, dtype=torch.float32, device=logits.device)
        for total in (by_label, by_channel)
    )
    known = torch.ones((), dtype=torch.int32, device=logits.device)
    histogram, copies = None, 1
    if requires.errors != "none":
        copies = max(1, min(_HISTOGRAMS, logits.numel() // (_LOGITS_OF_A_COPY * error_sums.numel() or 1)))
        like = torch.empty(0, device=logits.device)
        histogram = ErrorHistogram(requires.bins, (copies, *error_sums.shape[:3]), like, images * pixels)
    with torch.cuda.device_of(logits):  # type: ignore[no-untyped-call]
        kernel[(rows * chunks,)](
            logits=logits,
            target=target,
            by_label=label_sums,
            by_channel=channel_sums,
            label_map=label_map if requires.label_map else None,
            normalizer=normalizer,
            packed=None if histogram is None else histogram.packed,
            known_labels=known,
            chunks=chunks,
            length=length,
            copies=copies,
            copy_size=error_sums.numel(),
            shift=0 if histogram is None else histogram.kept + histogram.pixels.bit_length(),
            cut_off=0 if histogram is None else requires.bins.cut(torch.float32) - histogram.kept,
            **_common_arguments(logits, target, ignore_index, requires),
            TILE=tile,
            BLOCK=block,
            num_warps=warps,
        )
    _assert_known(known, labels, ignore_index)
    for total, parts in ((by_label, label_sums), (by_channel, channel_sums)):
        torch.sum(parts, 1, dtype=total.dtype, out=total.view(rows, -1))
    if histogram is not None:
        histogram.packed = histogram.packed.sum(0)
        counts, sums = histogram.read()
        error_counts.copy_(counts)
        error_sums.copy_(sums)


def softmax_backward(
    gradients: Gradients,
    logits: Tensor,
    target: Tensor,
    normalizer: Tensor,
    ignore_index: int | None,
    requires: Requirements,
) -> Tensor:
    """See `BackEnd`."""
    images, classes, _ = logits.shape
    held = 1 if requires.errors == "none" else 4  # the lookups of errors wait for each other
    kernel, tile, block = triton_kernels.softmax_backward, classes, _BACKWARD_BLOCK
    while block > 32 * _WARPS and classes * held * block > _MOST_PROBABILITIES * 32 * _WARPS:
        block //= 2
    if classes > _MOST_PROBABILITIES:
        tile, block = _TILE, _TILED_BLOCK
    return _launch_backward(kernel, images, tile, block, gradients, logits, target, normalizer, ignore_index, requires)


def sigmoid_backward(
    gradients: Gradients,
    logits: Tensor,
    target: Tensor,
    normalizer: Tensor,
    ignore_index: int | None,
    requires: Requirements,
) -> Tensor:
    """See `BackEnd`."""
    rows = logits.shape[0] * logits.shape[1]
    kernel, block = triton_kernels.sigmoid_backward, _BACKWARD_BLOCK
    return _launch_backward(kernel, rows, 1, block, gradients, logits, target, normalizer, ignore_index, requires)


def _launch_backward(
    kernel: Any,
    rows: int,
    tile: int,
    block: int,
    gradients: Gradients,
    logits: Tensor,
    target: Tensor,
    normalizer: Tensor,
    ignore_index: int | None,
    requires: Requirements,
) -> Tensor:
    result = torch.empty(logits.shape, dtype=logits.dtype, device=logits.device)
    chunks = triton.cdiv(logits.shape[2], block)
    with torch.cuda.device_of(logits):  # type: ignore[no-untyped-call]
        kernel[(rows * chunks,)](
            by_label=_contiguous(gradients.by_label),
            by_channel=_contiguous(gradients.by_channel),
            label_map=_contiguous(gradients.label_map),
            # Narrower, since every logit looks a number up.
            errors=None if gradients.error_sums is None else gradients.error_sums.float().contiguous(),
            logits=logits,
            target=target,
            normalizer=normalizer,
            result=result,
            chunks=chunks,
            **_common_arguments(logits, target, ignore_index, requires),
            TILE=tile,
            BLOCK=block,
            num_warps=_WARPS,
        )
    return result


def add_confusion(logits: Tensor, target: Tensor, ignore_index: int | None, softmax: bool, counts: Tensor) -> bool:
    """See `BackEnd`."""
    images, classes, pixels = logits.shape
    rows = images if softmax else images * classes
    blocks = triton.cdiv(pixels, _PIXELS)
    length = max(1, rows * blocks // _COUNTING_PROGRAMS)
    cells = counts.numel() if softmax else 4
    bins = triton.next_power_of_2(cells + 1)
    copies = max(1, min(_COPIES, _MOST_CELLS // counts.numel()))
    parts = torch.zeros(copies, *counts.shape, dtype=torch.int64, device=logits.device)
    known = torch.ones((), dtype=torch.int32, device=logits.device)
    chunks = triton.cdiv(blocks, length)
    common = _common_arguments(logits, target, ignore_index, Requirements())
    with torch.cuda.device_of(logits):  # type: ignore[no-untyped-call]
        triton_kernels.confusion[(rows * chunks,)](
            counts=parts,
            known_labels=known,
            chunks=chunks,
            length=length,
            copies=copies,
            SOFTMAX=softmax,
            BINS=bins if bins <= _MOST_BINS else 0,
            BLOCK=_PIXELS,
            num_warps=_WARPS,
            logits=logits,
            target=target,
            **{name: common[name] for name in _OF_PIXELS},
        )
    _assert_known(known, counts.shape[-1], ignore_index)
    counts.add_(parts.sum(0))
    return True


def _assert_known(known: Tensor, labels: int, ignore_index: int | None) -> None:
    message = f"target holds a label out of range: expected 0 to {labels - 1}, and ignore_index={ignore_index}."
    torch._assert_async(known, message)


def _contiguous(gradient: Tensor | None) -> Tensor | None:
    return None if gradient is None else gradient.contiguous()


def _common_arguments(
    logits: Tensor, target: Tensor, ignore_index: int | None, requires: Requirements
) -> dict[str, Any]:
    image, *channel, pixel = target.stride()
    bins = requires.bins
    return {
        "pixels": logits.shape[2],
        "ignore_index": ignore_index or 0,
        "logits_image": logits.stride(0),
        "logits_channel": logits.stride(1),
        "logits_pixel": logits.stride(2),
        "target_image": image,
        "target_channel": channel[0] if channel else 0,
        "target_pixel": pixel,
        "CLASSES": logits.shape[1],
        "IGNORES": ignore_index is not None,
        "GAMMAS": requires.gammas,
        "SQUARES": requires.squares,
        "UNIFORM": requires.uniform,
        "MARGIN": requires.errors == "margin",
        "PER_IMAGE": requires.errors_per_image,
        "BINS": bins.count,
        "CUT": bins.cut(torch.float32),
        "LARGEST": 2.0**bins.octaves - 1,
    }


BACK_END = BackEnd("triton", softmax_forward, softmax_backward, sigmoid_forward, sigmoid_backward, add_confusion)
