"""What logits predict, and how often it meets each label, in one pass over them.

Pixels stay in the cache from finding their largest logits to counting them, and no map of the batch is made.
"""

import math

import torch
from torch import Tensor

from lightning_seg.losses.engine.back_ends import choose_back_end
from lightning_seg.losses.engine.block_threads import map_blocks
from lightning_seg.losses.engine.labels import valid_labels
from lightning_seg.losses.engine.torch_backend import Block, blocks_of


def largest_channels(logits: Tensor) -> Tensor:
    """`logits.argmax(1)`: the first of equal channels, and the first that is NaN before all numbers.

    Args:
        logits: (N, C, *spatial), floating point; on another device than the CPU, argmax itself finds it.

    Returns:
        int64, (N, *spatial).
    """
    if logits.device.type != "cpu" or torch.compiler.is_compiling():
        return logits.argmax(1)
    images, classes, *spatial = logits.shape
    return _largest_channels(logits.detach().reshape(images, classes, math.prod(spatial))).view(images, *spatial)


def _largest_channels(logits: Tensor) -> Tensor:
    result = torch.empty(len(logits), logits.shape[2], dtype=torch.int64)
    if choose_back_end(logits.device, logits.dtype, logits.numel()).name == "numba":
        from lightning_seg.losses.engine import numba_backend

        numba_backend.write_largest_channels(logits, result)
        return result

    def write_block(block: Block) -> None:
        images, pixels = block
        # argmax takes three times as long.
        result[images, pixels] = logits[images, :, pixels].max(1).indices

    map_blocks(write_block, blocks_of(logits), logits.device)
    return result


def confusion_counts(logits: Tensor, target: Tensor, *, ignore_index: int | None, softmax: bool) -> Tensor:
    """The number of valid pixels by label and prediction, the channel with the largest logit or the sign of each.

    Args:
        logits: (N, C, S), floating point.
        target: bool or integers, (N, S); of sigmoids 0 and 1, (N, C, S).
        ignore_index: the label of void pixels.
        softmax: whether channels exclude each other.

    Returns:
        int64, rows the label, columns the prediction: (C, C), of sigmoids (C, 2, 2).

    Raises:
        ValueError: a label is out of range. On CUDA, where looking would make the host wait, the device asserts it.
    """
    counts: Tensor = _confusion_counts(logits.detach(), target, ignore_index, softmax)
    return counts


@torch.library.custom_op("lightning_seg::confusion_counts", mutates_args=())
def _confusion_counts(logits: Tensor, target: Tensor, ignore_index: int | None, softmax: bool) -> Tensor:
    counts = _empty_counts(logits, softmax).zero_()
    back_end = choose_back_end(logits.device, logits.dtype, logits.numel())
    if not back_end.add_confusion(logits, target, ignore_index, softmax, counts):
        valid_labels(target, ignore_index, counts.shape[-1])  # which says what is wrong
    return counts


@_confusion_counts.register_fake
def _(logits: Tensor, target: Tensor, ignore_index: int | None, softmax: bool) -> Tensor:
    return _empty_counts(logits, softmax)


def _empty_counts(logits: Tensor, softmax: bool) -> Tensor:
    classes = logits.shape[1]
    return logits.new_empty((classes, classes) if softmax else (classes, 2, 2), dtype=torch.int64)
