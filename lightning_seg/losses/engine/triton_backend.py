"""The sums of `class_sums` and their gradient by Triton kernels, one launch for each direction.

A program holds a block of pixels with all their channels, or with more than 64 classes one tile of channels after the
other, whose second read finds the cache; in tasks with a sigmoid, a block of one channel. It adds up at most 2¹⁴ pixels
in float32, so that counts are exact, and torch adds the sums of all programs in float64: no sum depends on the order in
which programs run. Histograms are integers, added atomically; an error in the first bin, where those of a trained
network are, is added up within its block first, since atomic additions to one address wait for each other.

Checked under Triton's interpreter, and compiled for an H100; not yet run on a GPU, where blocks and warps may want
tuning. The kernels do not compute float64 and empty batches, for which `class_sums` chooses another back end.
"""

from typing import Any

import torch
import triton
from torch import Tensor

from lightning_seg.losses.engine import triton_kernels
from lightning_seg.losses.engine.error_bins import ErrorHistogram
from lightning_seg.losses.engine.interface import Gradients, Requirements

# Logits in a block, 32 for each thread of 4 warps, and the most blocks that a program adds up.
_BLOCK = 4096
_WARPS = 4
_BLOCKS = 16
# Programs wanted: several for each multiprocessor, few enough that their sums are small beside the logits.
_PROGRAMS = 4096
_MAX_TILE = 64


def forward(
    logits: Tensor,
    target: Tensor,
    softmax: bool,
    ignore_index: int | None,
    requires: Requirements,
    outputs: tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor],
) -> None:
    """Writes the sums to `outputs`, as `interface.empty_outputs` makes them."""
    by_label, by_channel, label_map, error_sums, error_counts, normalizer = outputs
    images, classes, pixels = logits.shape
    tile, block = _tile_and_block(classes if softmax else 1)
    rows = images if softmax else images * classes
    blocks = triton.cdiv(pixels, block)
    # More than one tile of channels: the block's pixels are summed tile by tile, and there is no second block.
    length = min(_BLOCKS, max(1, rows * blocks // _PROGRAMS)) if not softmax or classes <= tile else 1
    chunks = triton.cdiv(blocks, length)
    # The sums of each chunk of pixels of a row, which is an image, or a channel of one.
    label_sums, channel_sums = (
        torch.empty(rows, chunks, *total.shape[1 if softmax else 2 :], dtype=torch.float32, device=logits.device)
        for total in (by_label, by_channel)
    )
    known = torch.ones((), dtype=torch.int32, device=logits.device)
    histogram = None
    if requires.errors != "none":
        like = torch.empty(0, device=logits.device)
        histogram = ErrorHistogram(requires.bins, tuple(error_sums.shape[:3]), like, images * pixels)
    kernel = triton_kernels.softmax_forward if softmax else triton_kernels.sigmoid_forward
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
    labels = classes if softmax else 2
    message = f"target holds a label out of range: expected 0 to {labels - 1}, and ignore_index={ignore_index}."
    torch._assert_async(known, message)
    for total, parts in ((by_label, label_sums), (by_channel, channel_sums)):
        torch.sum(parts, 1, dtype=total.dtype, out=total.view(rows, *parts.shape[2:]))
    if histogram is not None:
        counts, sums = histogram.read()
        error_counts.copy_(counts)
        error_sums.copy_(sums)


def backward(
    gradients: Gradients,
    logits: Tensor,
    target: Tensor,
    normalizer: Tensor,
    softmax: bool,
    ignore_index: int | None,
    requires: Requirements,
) -> Tensor:
    """The gradient of the logits, in their dtype."""
    result = torch.empty(logits.shape, dtype=logits.dtype, device=logits.device)
    images, classes, pixels = logits.shape
    tile, block = _tile_and_block(classes if softmax else 1)
    rows = images if softmax else images * classes
    chunks = triton.cdiv(pixels, block)
    kernel = triton_kernels.softmax_backward if softmax else triton_kernels.sigmoid_backward
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
