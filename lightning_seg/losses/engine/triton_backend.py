"""The sums of `class_sums` and their gradient by Triton kernels, one launch for each direction.

A program holds a block of pixels with all their channels, or with more than 64 classes one tile of channels after the
other, whose second read finds the cache; in tasks with a sigmoid, a block of one channel. It adds up at most 2¹⁴ pixels
in float32, so that counts are exact, and torch adds the sums of all programs in float64: no sum depends on the order in
which programs run. Histograms are integers, added atomically; an error in the first bin, where those of a trained
network are, is added up within its block first, since atomic additions to one address wait for each other.

Checked under Triton's interpreter, and compiled for an H100; not yet run on a GPU, where blocks and warps may want
tuning. The kernels do not compute float64 and empty batches, for which `back_ends` chooses another back end.
"""

from typing import Any

import torch
import triton
from torch import Tensor

from lightning_seg.losses.engine import triton_kernels
from lightning_seg.losses.engine.error_bins import ErrorHistogram
from lightning_seg.losses.engine.interface import BackEnd, Gradients, Outputs, Requirements

# Logits in a block, 32 for each thread of 4 warps, and the most blocks that a program adds up.
_BLOCK = 4096
_WARPS = 4
_BLOCKS = 16
# Programs wanted: several for each multiprocessor, few enough that their sums are small beside the logits.
_PROGRAMS = 4096
_MAX_TILE = 64


def softmax_forward(
    logits: Tensor, target: Tensor, ignore_index: int | None, requires: Requirements, outputs: Outputs
) -> None:
    """See `BackEnd`."""
    images, classes, _ = logits.shape
    tile, block = _tile_and_block(classes)
    # More than one tile of channels: the block's pixels are summed tile by tile, and there is no second block.
    most = _BLOCKS if classes <= tile else 1
    kernel = triton_kernels.softmax_forward
    _launch_forward(kernel, images, classes, tile, block, most, logits, target, ignore_index, requires, outputs)


def sigmoid_forward(
    logits: Tensor, target: Tensor, ignore_index: int | None, requires: Requirements, outputs: Outputs
) -> None:
    """See `BackEnd`."""
    rows = logits.shape[0] * logits.shape[1]
    kernel = triton_kernels.sigmoid_forward
    _launch_forward(kernel, rows, 2, *_tile_and_block(1), _BLOCKS, logits, target, ignore_index, requires, outputs)


def _launch_forward(
    kernel: Any,
    rows: int,
    labels: int,
    tile: int,
    block: int,
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
    histogram = None
    if requires.errors != "none":
        like = torch.empty(0, device=logits.device)
        histogram = ErrorHistogram(requires.bins, tuple(error_sums.shape[:3]), like, images * pixels)
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
            shift=0 if histogram is None else histogram.kept + histogram.pixels.bit_length(),
            cut_off=0 if histogram is None else requires.bins.cut(torch.float32) - histogram.kept,
            **_common_arguments(logits, target, ignore_index, requires),
            TILE=tile,
            BLOCK=block,
            num_warps=_WARPS,
        )
    message = f"target holds a label out of range: expected 0 to {labels - 1}, and ignore_index={ignore_index}."
    torch._assert_async(known, message)
    for total, parts in ((by_label, label_sums), (by_channel, channel_sums)):
        torch.sum(parts, 1, dtype=total.dtype, out=total.view(rows, -1))
    if histogram is not None:
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
    kernel, tile, block = triton_kernels.softmax_backward, *_tile_and_block(classes)
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
    kernel, tile, block = triton_kernels.sigmoid_backward, *_tile_and_block(1)
    return _launch_backward(kernel, rows, tile, block, gradients, logits, target, normalizer, ignore_index, requires)


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
            by_label=_table(gradients.by_label),
            by_channel=_table(gradients.by_channel),
            label_map=_table(gradients.label_map),
            errors=_table(gradients.error_sums),
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


def _tile_and_block(classes: int) -> tuple[int, int]:
    """Channels and pixels that are computed at once."""
    tile = triton.next_power_of_2(classes)
    if tile > _MAX_TILE:
        tile = 32  # fewer channels of the last tile are padding than with 64
    return tile, min(1024, _BLOCK // tile)


def _table(gradient: Tensor | None) -> Tensor | None:
    return None if gradient is None else gradient.float().contiguous()


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


BACK_END = BackEnd("triton", softmax_forward, softmax_backward, sigmoid_forward, sigmoid_backward)
