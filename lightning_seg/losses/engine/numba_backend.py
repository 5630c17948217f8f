"""The sums of the operators and their gradient by Numba's kernels, compiled for the machine's CPU.

Blocks of pixels are computed side by side on the threads of `block_threads`, each by one call that does not hold
Python's lock; Numba's own threads would end the process when two of Python's entered them at once. Which pixels a block
has does not depend on the number of threads, and the sums of blocks are added in their order, so neither do results.
Half precision is widened block by block.
"""

from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lightning_seg.losses.engine import numba_kernels as kernels
from lightning_seg.losses.engine.block_threads import map_blocks
from lightning_seg.losses.engine.dtypes import wide_dtype
from lightning_seg.losses.engine.histograms import Histograms
from lightning_seg.losses.engine.interface import BackEnd, Gradients, Outputs, Requirements
from lightning_seg.losses.engine.labels import valid_labels

# Logits of a tile, which stay in the cache of a core, and the most pixels of one.
_TILE = 2**15
_MOST_PIXELS = 1024
# Logits of a block: few enough that all threads have some to do, enough that starting one costs little.
_BLOCKS = 32
_LEAST, _MOST = 2**14, 2**18
_HISTOGRAMS = 4


def softmax_forward(
    logits: Tensor, target: Tensor, ignore_index: int | None, requires: Requirements, outputs: Outputs
) -> None:
    """See `BackEnd`."""
    _forward(logits, target.unsqueeze(1), ignore_index, requires, outputs)


def sigmoid_forward(
    logits: Tensor, target: Tensor, ignore_index: int | None, requires: Requirements, outputs: Outputs
) -> None:
    """See `BackEnd`."""
    _forward(logits, target, ignore_index, requires, outputs)


class _Block(NamedTuple):
    images: slice
    pixels: slice
    part: int  # which of the blocks of its images


def _forward(
    logits: Tensor, target: Tensor, ignore_index: int | None, requires: Requirements, outputs: Outputs
) -> None:
    softmax = outputs.normalizer.numel() > 0
    classes = logits.shape[1]
    blocks, parts, tile = _blocks(logits, classes if softmax else 1)
    by_label, by_channel = (np.zeros((parts, *total.shape)) for total in (outputs.by_label, outputs.by_channel))
    histograms = Histograms(logits, requires) if requires.errors != "none" else None
    label_map, normalizer = outputs.label_map.flatten().numpy(), outputs.normalizer.flatten().numpy()
    gammas = np.array(requires.gammas)
    no_table = np.empty((0, 0, 0, 0), np.int64)
    binning = _binning(histograms, requires, logits)

    def add_block(block: _Block) -> bool:
        images, pixels, part = block
        labels, known = _labels(target, block, ignore_index, classes if softmax else 2)
        table = no_table if histograms is None else histograms.rows(images).numpy()
        shared = (
            *_source(logits, block), labels, tile, gammas, requires.squares, requires.uniform,
            by_label[part, images], by_channel[part, images], label_map,
        )  # fmt: skip
        of_maps = _place(images.start, pixels.start, 1 if softmax else classes, logits.shape[2])
        if softmax:
            kernels.softmax_forward(*shared, normalizer, of_maps, table, *binning)
        else:
            kernels.sigmoid_forward(*shared, of_maps, table, requires.errors == "margin", *binning)
        return known

    # Each thread has histograms of its own.
    at_once = _HISTOGRAMS if histograms is not None else None
    if not all(map_blocks(add_block, blocks, logits.device, at_once)):
        valid_labels(target, ignore_index, classes if softmax else 2)  # which says what is wrong
    outputs.by_label.copy_(torch.from_numpy(by_label.sum(0)))
    outputs.by_channel.copy_(torch.from_numpy(by_channel.sum(0)))
    if histograms is not None:
        histograms.write(outputs.error_counts, outputs.error_sums)


def softmax_backward(
    gradients: Gradients,
    logits: Tensor,
    target: Tensor,
    normalizer: Tensor,
    ignore_index: int | None,
    requires: Requirements,
) -> Tensor:
    """See `BackEnd`."""
    return _backward(gradients, logits, target.unsqueeze(1), normalizer, ignore_index, requires)


def sigmoid_backward(
    gradients: Gradients,
    logits: Tensor,
    target: Tensor,
    normalizer: Tensor,
    ignore_index: int | None,
    requires: Requirements,
) -> Tensor:
    """See `BackEnd`."""
    return _backward(gradients, logits, target, normalizer, ignore_index, requires)


def _backward(
    gradients: Gradients,
    logits: Tensor,
    target: Tensor,
    normalizer: Tensor,
    ignore_index: int | None,
    requires: Requirements,
) -> Tensor:
    softmax = normalizer.numel() > 0
    classes, dtype = logits.shape[1], wide_dtype(logits)
    result = torch.empty(logits.shape, dtype=logits.dtype, device=logits.device)
    log_sums = normalizer.flatten().numpy()
    by_label = _table(gradients.by_label, dtype, 3 if softmax else 4)
    by_channel = _table(gradients.by_channel, dtype, 3)
    of_errors = _table(gradients.error_sums, dtype, 4)
    if of_errors.size > 0:
        of_errors = of_errors * np.array([[1], [-1]], of_errors.dtype)  # an error of the own class falls with p and z
    of_map = _table(gradients.label_map, dtype, 1).reshape(-1)
    gammas = np.array(requires.gammas)
    margins = requires.errors == "margin"
    cut, largest = requires.bins.cut(dtype), 2.0**requires.bins.octaves - 1
    blocks, _, tile = _blocks(logits, classes if softmax else 1)

    def write_block(block: _Block) -> None:
        images, pixels, _ = block
        labels, _ = _labels(target, block, ignore_index, classes if softmax else 2)
        of_maps = _place(images.start, pixels.start, 1 if softmax else classes, logits.shape[2])
        of_result = _place(images.start, pixels.start, classes, logits.shape[2])
        out = result
        if result.dtype != dtype:
            out = torch.empty(images.stop - images.start, classes, pixels.stop - pixels.start, dtype=dtype)
            of_result = _place(0, 0, classes, out.shape[2])
        shared = (
            *_source(logits, block), labels, tile, gammas, requires.squares, requires.uniform,
            *(table[images] if table.size > 0 else table for table in (by_label, by_channel)),
        )  # fmt: skip
        errors = of_errors[images] if len(of_errors) > 1 else of_errors
        flat = out.flatten().numpy()
        if softmax:
            kernels.softmax_backward(*shared, of_map, errors, log_sums, of_maps, cut, largest, flat, of_result, classes)
        else:
            kernels.sigmoid_backward(*shared, of_map, of_maps, errors, margins, cut, largest, flat, of_result)
        if out is not result:
            result[images, :, pixels] = out

    map_blocks(write_block, blocks, logits.device, at_once=None)
    return result


def write_largest_channels(logits: Tensor, result: Tensor) -> None:
    """Writes the channel with the largest logit of each pixel to (N, S), int64 and contiguous."""
    _, classes, pixels = logits.shape
    blocks, _, tile = _blocks(logits, 1)
    flat = result.flatten().numpy()

    def write_block(block: _Block) -> None:
        of_block = block.images.stop - block.images.start, block.pixels.stop - block.pixels.start
        of_result = _place(block.images.start, block.pixels.start, 1, pixels)
        kernels.largest_channels(*_source(logits, block), *of_block, classes, tile, flat, of_result)

    map_blocks(write_block, blocks, logits.device, at_once=None)


def add_confusion(logits: Tensor, target: Tensor, ignore_index: int | None, softmax: bool, counts: Tensor) -> bool:
    """See `BackEnd`."""
    blocks, _, tile = _blocks(logits, 1)
    lock = Lock()
    total = counts.numpy()

    def add_block(block: _Block) -> bool:
        rows = target.unsqueeze(1) if softmax else target
        labels, known = _labels(rows, block, ignore_index, counts.shape[-1])
        of_block = np.zeros_like(total)
        kernel = kernels.count_softmax if softmax else kernels.count_sigmoid
        kernel(*_source(logits, block), labels, tile, of_block)
        with lock:
            np.add(total, of_block, out=total)
        return known

    return all(map_blocks(add_block, blocks, logits.device, at_once=None))


def _blocks(logits: Tensor, channels: int) -> tuple[list[_Block], int, int]:
    """Blocks of many pixels of one image, or of many small images; how many an image has; and the pixels of a tile.

    Args:
        logits: (N, C, S).
        channels: those that a tile has of its pixels.
    """
    images, classes, pixels = logits.shape
    tile = max(16, min(_MOST_PIXELS, _TILE // channels // 16 * 16))
    size = max(_LEAST, min(_MOST, logits.numel() // _BLOCKS)) // classes
    length = max(tile, size // tile * tile)
    count = max(1, size // pixels)
    blocks = [
        _Block(slice(image, min(image + count, images)), slice(start, min(start + length, pixels)), part)
        for image in range(0, images, count)
        for part, start in enumerate(range(0, pixels, length))
    ]
    return blocks, -(-pixels // length), tile


def _place(image: int, pixel: int, channels: int, pixels: int) -> tuple[int, int, int]:
    """Where a block begins in contiguous numbers (N, channels, pixels), and the strides of images and channels."""
    return image * channels * pixels + pixel, channels * pixels, pixels


def _source(logits: Tensor, block: _Block) -> tuple[np.ndarray[Any, Any], tuple[int, int, int, int]]:
    """Numbers in one dimension; where the block's begin, and the strides of images, channels and pixels."""
    widened = logits.dtype not in (torch.float32, torch.float64)
    if widened:
        logits = logits[block.images, :, block.pixels].float()
    image, channel, pixel = logits.stride()
    start = 0 if widened else block.images.start * image + block.pixels.start * pixel
    return _flat(logits), (start, image, channel, pixel)


def _labels(target: Tensor, block: _Block, ignore_index: int | None, classes: int) -> tuple[np.ndarray[Any, Any], bool]:
    """Labels of a block, int32 (n, rows, L), -1 at void pixels; and whether all are known."""
    images, pixels, _ = block
    if target.dtype not in (torch.int64, torch.uint8):  # each type would be compiled for
        target = target[images, :, pixels].long()
        block = _Block(slice(0, len(target)), slice(0, target.shape[2]), 0)
    image, row, pixel = target.stride()
    shape = images.stop - images.start, target.shape[1], pixels.stop - pixels.start
    labels = np.empty(shape, np.int32)
    first = block.images.start * image + block.pixels.start * pixel
    ignores = ignore_index is not None
    known = kernels.read_labels(_flat(target), first, image, row, pixel, classes, ignores, ignore_index or 0, labels)
    return labels, known


def _flat(tensor: Tensor) -> np.ndarray[Any, Any]:
    length = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    flat: np.ndarray[Any, Any] = tensor.detach().as_strided((length,), (1,)).numpy()
    return flat


def _table(gradient: Tensor | None, dtype: torch.dtype, dimensions: int) -> np.ndarray[Any, Any]:
    """A gradient, contiguous; without elements where it is 0."""
    if gradient is None or not bool(gradient.any()):
        return torch.empty((0,) * dimensions, dtype=dtype).numpy()
    table: np.ndarray[Any, Any] = gradient.detach().to(dtype).contiguous().numpy()
    return table


def _binning(histograms: Histograms | None, requires: Requirements, logits: Tensor) -> tuple[int, int, int, float]:
    """How errors are put into bins: the arguments of the kernels."""
    cut, largest = requires.bins.cut(wide_dtype(logits)), 2.0**requires.bins.octaves - 1
    if histograms is None:
        return cut, 0, 0, largest
    return cut, cut - histograms.kept, histograms.shift, largest


BACK_END = BackEnd("numba", softmax_forward, softmax_backward, sigmoid_forward, sigmoid_backward, add_confusion)
