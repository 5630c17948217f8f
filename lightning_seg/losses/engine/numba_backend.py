"""The sums of the operators and their gradient by Numba's kernels, compiled for the machine's CPU.

Each of the threads of `block_threads` calls a kernel once, which does not hold Python's lock and takes one block of
pixels after the other; Numba's own threads would end the process when two of Python's entered them at once. Which
pixels a block has does not depend on the number of threads, and the sums of blocks are added in their order, so neither
do results. Where half precision is widened, or pixels that do not stand side by side are brought together, there is a
call for each block.
"""

import threading
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

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
Result = TypeVar("Result")

_CPU = torch.device("cpu")

_of_thread = threading.local()


# Where the first of a tensor's numbers stands in one dimension, and the strides of images and rows.
Place = tuple[int, int, int]


class _Call(NamedTuple):
    """What a call of a kernel computes: those of its blocks that no other call has taken.

    Attributes:
        blocks: int64 (B, 5): the first image and the one after the last, likewise of pixels, and which of the blocks of
            its images it is.
        taken: how many are taken, int64 (1,).
    """

    blocks: Numbers
    taken: Numbers

    @property
    def box(self) -> tuple[slice, slice]:
        """The images and the pixels of the only block."""
        first_image, end_image, first_pixel, end_pixel, _ = self.blocks[0].tolist()
        return slice(first_image, end_image), slice(first_pixel, end_pixel)


def _forward(
    logits: Tensor, target: Tensor, ignore_index: int | None, requires: Requirements, outputs: Outputs
) -> None:
    softmax = outputs.normalizer.numel() > 0
    classes, dtype = logits.shape[1], wide_dtype(logits)
    blocks, tile = _blocks(logits, classes if softmax else 1)
    parts = 1 + blocks[:, -1].max()
    by_label, by_channel = (np.zeros((parts, *total.shape)) for total in (outputs.by_label, outputs.by_channel))
    histograms = Histograms(logits, requires) if requires.errors != "none" else None
    label_map = outputs.label_map.view(-1).numpy() if requires.label_map else None
    normalizer = outputs.normalizer.view(-1).numpy()
    gammas, logs, squares, uniform = _optional(requires)
    sums, of_maps = (by_label, by_channel, label_map), _place(1 if softmax else classes, logits.shape[2])
    binning, margins = _binning(histograms, requires, logits), requires.errors == "margin"
    rows = (classes if softmax else 0) + _MAPS
    source_of = _Reader(logits, (dtype,))
    labels_of = _LabelsReader(target, ignore_index, classes if softmax else 2, tile)

    def add_blocks(call: _Call) -> bool:
        table = None if histograms is None else histograms.rows(slice(None)).numpy()
        read = *source_of(call), *labels_of(call), *call, _rows(rows, tile, dtype)
        known: bool
        if softmax:
            known = kernels.softmax_forward(
                *read, gammas, squares, uniform, *sums, normalizer, of_maps, table, *binning
            )
        else:
            known = kernels.sigmoid_forward(
                *read, logs, gammas, squares, uniform, *sums, of_maps, table, margins, *binning
            )
        return known

    # Each thread has histograms of its own.
    at_once = _HISTOGRAMS if histograms is not None else None
    if not all(_map_calls(add_blocks, blocks, source_of.in_place and labels_of.in_place, at_once)):
        valid_labels(target, ignore_index, classes if softmax else 2)  # which says what is wrong
    outputs.by_label.copy_(torch.from_numpy(by_label.sum(0)))
    outputs.by_channel.copy_(torch.from_numpy(by_channel.sum(0)))
    if histograms is not None:
        _write_errors(histograms, outputs)


def _write_errors(histograms: Histograms, outputs: Outputs) -> None:
    total, *others = (packed.numpy() for packed in histograms.packed)
    lower, step = (edges.numpy() for edges in histograms.edges())
    counts, sums = (values.flatten(0, 2).numpy() for values in (outputs.error_counts, outputs.error_sums))

    def write_rows(rows: slice) -> None:
        for other in others:
            np.add(total[rows], other[rows], out=total[rows])
        kernels.write_errors(total[rows], histograms.shift, lower, step, counts[rows], sums[rows])

    map_blocks(write_rows, _rows_of_blocks(total), _CPU, at_once=None)


def write_jaccard_integrals(sums: Tensor, counts: Tensor, total: Tensor, integrals: Tensor, gradients: Tensor) -> None:
    """Writes the last two of `jaccard_integrals`, whose groups and classes are one dimension here."""
    arrays = [values.detach().contiguous().numpy() for values in (sums, counts, total.to(sums.dtype))]
    arrays += [integrals.numpy(), gradients.numpy()]

    def write_rows(rows: slice) -> None:
        kernels.write_jaccard_integrals(*(values[rows] for values in arrays))

    map_blocks(write_rows, _rows_of_blocks(arrays[0]), _CPU, at_once=None)


def _rows_of_blocks(table: Numbers) -> list[slice]:
    step = -(-len(table) // _BLOCKS)
    return [slice(row, row + step) for row in range(0, len(table), step)]


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
    blocks, tile = _blocks(logits, classes if softmax else 1)
    rows = (classes if softmax else 0) * (1 if of_errors is None else 2) + _MAPS
    of_maps, in_place = _place(1 if softmax else classes, logits.shape[2]), result.dtype == dtype
    tables = by_label, by_channel, of_map
    source_of = _Reader(logits, (dtype,))
    labels_of = _LabelsReader(target, ignore_index, classes if softmax else 2, tile)

    def write_blocks(call: _Call) -> None:
        wide = result if in_place else _empty_block(call, classes, dtype)
        out = wide.view(-1).numpy(), _place(classes, logits.shape[2]) if in_place else _place_of_copy(call, wide)
        read = *source_of(call), *labels_of(call), *call, _rows(rows, tile, dtype)
        if softmax:
            kernels.softmax_backward(
                *read, gammas, squares, uniform, *tables, of_errors, log_sums, of_maps, cut, largest, *out, classes
            )
        else:
            kernels.sigmoid_backward(
                *read, logs, gammas, squares, uniform, *tables,
                of_maps, of_errors, margins, reads_probabilities, cut, largest, *out,
            )  # fmt: skip
        if not in_place:
            images, pixels = call.box
            result[images, :, pixels] = wide

    _map_calls(write_blocks, blocks, source_of.in_place and labels_of.in_place and in_place)
    return result


def write_largest_channels(logits: Tensor, result: Tensor) -> None:
    """Writes the channel with the largest logit of each pixel to (N, S), int64 and contiguous."""
    _, classes, pixels = logits.shape
    blocks, tile = _blocks(logits, 1)
    flat, of_result = result.view(-1).numpy(), _place(1, pixels)
    source_of = _Reader(logits, (wide_dtype(logits),))

    def write_blocks(call: _Call) -> None:
        kernels.largest_channels(*source_of(call), *call, classes, tile, flat, of_result)

    _map_calls(write_blocks, blocks, source_of.in_place)


def add_confusion(logits: Tensor, target: Tensor, ignore_index: int | None, softmax: bool, counts: Tensor) -> bool:
    """See `BackEnd`."""
    blocks, tile = _blocks(logits, 1)
    lock = threading.Lock()
    total = counts.numpy()
    kernel = kernels.count_softmax if softmax else kernels.count_sigmoid
    source_of = _Reader(logits, (wide_dtype(logits),))
    labels_of = _LabelsReader(target.unsqueeze(1) if softmax else target, ignore_index, counts.shape[-1], tile)

    def add_blocks(call: _Call) -> bool:
        of_call = np.zeros_like(total)
        known: bool = kernel(*source_of(call), *labels_of(call), *call, of_call)
        with lock:
            np.add(total, of_call, out=total)
        return known

    return all(_map_calls(add_blocks, blocks, source_of.in_place and labels_of.in_place))


def _blocks(logits: Tensor, channels: int) -> tuple[Numbers, int]:
    """Blocks of many pixels of one image, or of many small images, as `_Call` has them; and the pixels of a tile.

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
        (image, min(image + count, images), start, min(start + length, pixels), part)
        for image in range(0, images, count)
        for part, start in enumerate(range(0, pixels, length))
    ]
    return np.array(blocks), tile


def _map_calls(
    function: Callable[[_Call], Result], blocks: Numbers, in_place: bool, at_once: int | None = None
) -> list[Result]:
    """`function` of one call for each thread, or of one for each block, whose numbers are copied then.

    Args:
        function: of a call.
        blocks: what is computed.
        in_place: whether kernels read and write where the tensors are.
        at_once: how many run at once at most; None for as many as there are threads.
    """
    count = min(torch.get_num_threads(), len(blocks), at_once or len(blocks))
    calls = [_Call(blocks, np.zeros(1, np.int64))] * count
    if not in_place:
        calls = [_Call(block[None], np.zeros(1, np.int64)) for block in blocks]
    return map_blocks(function, calls, _CPU, count)


def _place(channels: int, pixels: int) -> Place:
    """That of contiguous numbers (N, channels, pixels)."""
    return 0, channels * pixels, pixels


def _place_of_copy(call: _Call, copy: Tensor) -> Place:
    """That of a block's numbers, (n, rows, L), such that its images and pixels are found by what they are in all."""
    images, pixels = call.box
    _, image, row = _place(*copy.shape[1:])
    return -(images.start * image + pixels.start), image, row


def _empty_block(call: _Call, channels: int, dtype: torch.dtype) -> Tensor:
    images, pixels = call.box
    return torch.empty(images.stop - images.start, channels, pixels.stop - pixels.start, dtype=dtype)


class _Reader:
    """Gives a tensor's numbers in one dimension, and their place, or those of a copy of a block.

    Args:
        tensor: (N, rows, S). What has another dtype, or pixels apart, is copied block by block.
        dtypes: those that kernels read; the first is what others are converted to.
    """

    def __init__(self, tensor: Tensor, dtypes: tuple[torch.dtype, ...]) -> None:
        self._tensor, self._dtypes = tensor.detach(), dtypes
        image, row, pixel = tensor.stride()
        self.in_place = tensor.dtype in dtypes and (pixel == 1 or tensor.shape[2] == 1)
        self._whole = (_flat(tensor), (0, image, row)) if self.in_place else None

    def __call__(self, call: _Call) -> tuple[Numbers, Place]:
        if self._whole is not None:
            return self._whole
        images, pixels = call.box
        part = self._tensor[images, :, pixels]
        part = part.to(part.dtype if part.dtype in self._dtypes else self._dtypes[0]).contiguous()
        return part.view(-1).numpy(), _place_of_copy(call, part)


class _LabelsReader:
    """Gives what kernels read labels by.

    That is: the target's numbers and their place; how many classes there are, the label of void pixels, and 0, or 1 if
    there is no such label; and the thread's row for the labels of a tile.
    """

    def __init__(self, target: Tensor, ignore_index: int | None, classes: int, tile: int) -> None:
        void_label = -1 if ignore_index is None else ignore_index
        if not -(2**31) <= void_label < 2**31:
            target = target.masked_fill(target == void_label, -(2**31))
            void_label = -(2**31)
        self._meaning, self._tile = (classes, void_label, int(ignore_index is None)), tile
        self._source_of = _Reader(target, (torch.int64, torch.uint8))  # each dtype is compiled for
        self.in_place = self._source_of.in_place

    def __call__(self, call: _Call) -> tuple[Numbers, Place, tuple[int, int, int], Numbers]:
        return *self._source_of(call), self._meaning, _scratch("labels", (self._tile,), np.int32)


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
