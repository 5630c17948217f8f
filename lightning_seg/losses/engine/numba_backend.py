"""The sums of the operators and their gradient by Numba's kernels, compiled for the machine's CPU.

Blocks of pixels are computed side by side on the threads of `block_threads`, each by one call that does not hold
Python's lock; Numba's own threads would end the process when two of Python's entered them at once. Which pixels a block
has does not depend on the number of threads, and the sums of blocks are added in their order, so neither do results.
Half precision is widened block by block, and pixels that do not stand side by side are brought together.
"""

import threading
from collections.abc import Callable
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
_BLOCKS = 16
_LEAST, _MOST = 2**14, 2**18
_HISTOGRAMS = 4
# Rows that kernels keep of a tile beside those of its channels, and what is added to each.
_MAPS, _PADDING = 8, 16


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


Numbers = np.ndarray[Any, Any]

_of_thread = threading.local()


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
    label_map = outputs.label_map.view(-1).numpy() if requires.label_map else None
    normalizer = outputs.normalizer.view(-1).numpy()
    gammas, logs, squares, uniform = _optional(requires)
    binning = _binning(histograms, requires, logits)
    dtype = wide_dtype(logits)
    rows = (classes if softmax else 0) + _MAPS
    source_of = _reader(logits, (dtype,))
    labels_of = _labels_reader(target, ignore_index, classes if softmax else 2, tile)

    def add_block(block: _Block) -> bool:
        images, pixels, part = block
        table = None if histograms is None else histograms.rows(images).numpy()
        of_maps = _place(images.start, pixels.start, 1 if softmax else classes, logits.shape[2])
        read = *source_of(block), *labels_of(block), _rows(rows, tile, dtype)
        reads, sums = (gammas, squares, uniform), (by_label[part, images], by_channel[part, images], label_map)
        known: bool
        if softmax:
            known = kernels.softmax_forward(*read, *reads, *sums, normalizer, of_maps, table, *binning)
        else:
            margins = requires.errors == "margin"
            known = kernels.sigmoid_forward(*read, logs, *reads, *sums, of_maps, table, margins, *binning)
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
    log_sums = normalizer.view(-1).numpy()
    images = len(logits)
    by_label = _table(
        gradients.by_label, dtype, (images, *((classes,) if softmax else (classes, 2)), 3 + len(requires.gammas))
    )
    by_channel = _table(gradients.by_channel, dtype, (images, classes, 1 + requires.squares + requires.uniform))
    of_errors = None if gradients.error_sums is None else gradients.error_sums.detach().contiguous().numpy()
    of_map = None if gradients.label_map is None else _table(gradients.label_map, dtype, ()).reshape(-1)
    margins = requires.errors == "margin"
    reads_probabilities = not margins or of_map is not None or bool(by_label.any()) or bool(by_channel.any())
    gammas, logs, squares, uniform = _optional(requires)
    cut, largest = requires.bins.cut(dtype), 2.0**requires.bins.octaves - 1
    blocks, _, tile = _blocks(logits, classes if softmax else 1)

    rows = (classes if softmax else 0) * (1 if of_errors is None else 2) + _MAPS
    flat = result.view(-1).numpy() if result.dtype == dtype else None
    source_of = _reader(logits, (dtype,))
    labels_of = _labels_reader(target, ignore_index, classes if softmax else 2, tile)

    def write_block(block: _Block) -> None:
        images, pixels, _ = block
        of_maps = _place(images.start, pixels.start, 1 if softmax else classes, logits.shape[2])
        of_result, out = _place(images.start, pixels.start, classes, logits.shape[2]), flat
        if out is None:
            widened = torch.empty(images.stop - images.start, classes, pixels.stop - pixels.start, dtype=dtype)
            of_result, out = _place(0, 0, classes, widened.shape[2]), widened.view(-1).numpy()
        read = *source_of(block), *labels_of(block), _rows(rows, tile, dtype)
        reads, tables = (gammas, squares, uniform), (by_label[images], by_channel[images], of_map)
        errors = of_errors[images] if of_errors is not None and len(of_errors) > 1 else of_errors
        if softmax:
            kernels.softmax_backward(
                *read, *reads, *tables, errors, log_sums, of_maps, cut, largest, out, of_result, classes
            )
        else:
            kernels.sigmoid_backward(
                *read, logs, *reads, *tables,
                of_maps, errors, margins, reads_probabilities, cut, largest, out, of_result,
            )  # fmt: skip
        if flat is None:
            result[images, :, pixels] = widened

    map_blocks(write_block, blocks, logits.device, at_once=None)
    return result


def write_largest_channels(logits: Tensor, result: Tensor) -> None:
    """Writes the channel with the largest logit of each pixel to (N, S), int64 and contiguous."""
    _, classes, pixels = logits.shape
    blocks, _, tile = _blocks(logits, 1)
    flat = result.view(-1).numpy()
    source_of = _reader(logits, (wide_dtype(logits),))

    def write_block(block: _Block) -> None:
        of_block = block.images.stop - block.images.start, block.pixels.stop - block.pixels.start
        of_result = _place(block.images.start, block.pixels.start, 1, pixels)
        kernels.largest_channels(*source_of(block), *of_block, classes, tile, flat, of_result)

    map_blocks(write_block, blocks, logits.device, at_once=None)


def add_confusion(logits: Tensor, target: Tensor, ignore_index: int | None, softmax: bool, counts: Tensor) -> bool:
    """See `BackEnd`."""
    blocks, _, tile = _blocks(logits, 1)
    lock = threading.Lock()
    total = counts.numpy()
    kernel = kernels.count_softmax if softmax else kernels.count_sigmoid
    source_of = _reader(logits, (wide_dtype(logits),))
    labels_of = _labels_reader(target.unsqueeze(1) if softmax else target, ignore_index, counts.shape[-1], tile)

    def add_block(block: _Block) -> bool:
        of_block = np.zeros_like(total)
        known: bool = kernel(*source_of(block), *labels_of(block), of_block)
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


def _reader(
    tensor: Tensor, dtypes: tuple[torch.dtype, ...]
) -> Callable[[_Block], tuple[Numbers, tuple[int, int, int]]]:
    """A function that gives a block's numbers in one dimension, where they begin, and the strides of images and rows.

    Args:
        tensor: (N, rows, S). What has another dtype, or pixels apart, is copied block by block.
        dtypes: those that kernels read; the first is what others are converted to.
    """
    image, row, pixel = tensor.stride()
    if tensor.dtype in dtypes and (pixel == 1 or tensor.shape[2] == 1):
        flat = _flat(tensor)
        return lambda block: (flat, (block.images.start * image + block.pixels.start * pixel, image, row))

    def copied(block: _Block) -> tuple[Numbers, tuple[int, int, int]]:
        part = tensor[block.images, :, block.pixels].detach()
        part = part.to(part.dtype if part.dtype in dtypes else dtypes[0]).contiguous()
        return part.view(-1).numpy(), (0, part.shape[1] * part.shape[2], part.shape[2])

    return copied


def _labels_reader(
    target: Tensor, ignore_index: int | None, classes: int, tile: int
) -> Callable[[_Block], tuple[Numbers, tuple[int, int, int], tuple[int, int, int], tuple[int, int], Numbers]]:
    """A function that gives what kernels read the labels of a block by.

    That is: the target's numbers and their place; how many classes there are, the label of void pixels, and 0, or 1 if
    there is no such label; the numbers of images and pixels; and the thread's row for the labels of a tile.
    """
    void_label = -1 if ignore_index is None else ignore_index
    if not -(2**31) <= void_label < 2**31:
        target = target.masked_fill(target == void_label, -(2**31))
        void_label = -(2**31)
    meaning = classes, void_label, int(ignore_index is None)
    source_of = _reader(target, (torch.int64, torch.uint8))  # each dtype is compiled for

    def labels_of(
        block: _Block,
    ) -> tuple[Numbers, tuple[int, int, int], tuple[int, int, int], tuple[int, int], Numbers]:
        images, pixels, _ = block
        size = images.stop - images.start, pixels.stop - pixels.start
        return *source_of(block), meaning, size, _scratch("labels", (tile,), np.int32)

    return labels_of


def _optional(requires: Requirements) -> tuple[Numbers | None, bool | None, bool | None, bool | None]:
    """The exponents γ, and whether Σ ℓ, or what it is made of, Σ p_c² and Σ log p_c are read.

    What is None is not compiled.
    """
    logs = requires.log_probabilities or requires.gammas or requires.uniform or requires.label_map
    gammas = np.array(requires.gammas) if requires.gammas else None
    return gammas, bool(logs) or None, requires.squares or None, requires.uniform or None


def _rows(count: int, tile: int, dtype: torch.dtype) -> Numbers:
    """The thread's rows for the numbers of a tile."""
    # Rows of a multiple of 4096 bytes would share the same few lines of the cache.
    return _scratch("rows", (count, tile + _PADDING), np.float64 if dtype == torch.float64 else np.float32)


def _scratch(name: str, shape: tuple[int, ...], dtype: type[np.generic]) -> Numbers:
    """Numbers that the thread keeps: to map fresh pages for each block would cost as much as some loop over it."""
    kept: Numbers | None = getattr(_of_thread, name, None)
    if kept is None or kept.shape != shape or kept.dtype != dtype:
        kept = np.empty(shape, dtype)
        setattr(_of_thread, name, kept)
    return kept


def _flat(tensor: Tensor) -> Numbers:
    length = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    flat: Numbers = tensor.detach().as_strided((length,), (1,)).numpy()
    return flat


def _table(gradient: Tensor | None, dtype: torch.dtype, shape: tuple[int, ...]) -> Numbers:
    """A gradient, contiguous; zeros of a shape if there is none."""
    if gradient is None:
        return torch.zeros(shape, dtype=dtype).numpy()
    table: Numbers = gradient.detach().to(dtype).contiguous().numpy()
    return table


def _binning(histograms: Histograms | None, requires: Requirements, logits: Tensor) -> tuple[int, int, int, float]:
    """How errors are put into bins: the arguments of the kernels."""
    cut, largest = requires.bins.cut(wide_dtype(logits)), 2.0**requires.bins.octaves - 1
    if histograms is None:
        return cut, 0, 0, largest
    return cut, cut - histograms.kept, histograms.shift, largest


BACK_END = BackEnd("numba", softmax_forward, softmax_backward, sigmoid_forward, sigmoid_backward, add_confusion)
