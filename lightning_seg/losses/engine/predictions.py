"""What logits predict, and how often it meets each label, in one pass over them on the CPU.

A block of pixels stays in the cache from finding its largest logits to counting them, and no map of the batch is made.
"""

import math
from threading import Lock

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
        logits: (N, C, S), floating point, on the CPU.
        target: bool or integers, (N, S); of sigmoids 0 and 1, (N, C, S).
        ignore_index: the label of void pixels.
        softmax: whether channels exclude each other.

    Returns:
        int64, rows the label, columns the prediction: (C, C), of sigmoids (C, 2, 2).

    Raises:
        ValueError: a label is out of range.
    """
    classes = logits.shape[1]
    counts = torch.zeros((classes, classes) if softmax else (classes, 2, 2), dtype=torch.int64)
    if choose_back_end(logits.device, logits.dtype, logits.numel()).name == "numba":
        from lightning_seg.losses.engine import numba_backend

        known = numba_backend.add_confusion(logits, target, ignore_index, softmax, counts)
    else:
        known = _add_confusion(logits, target, ignore_index, softmax, counts)
    if not known:
        valid_labels(target, ignore_index, classes if softmax else 2)  # which says what is wrong
    return counts


def _add_confusion(logits: Tensor, target: Tensor, ignore_index: int | None, softmax: bool, counts: Tensor) -> bool:
    """Adds the counts by torch operations; returns whether all labels are known."""
    labels = counts.shape[-1]
    lock = Lock()
    channels = torch.arange(0, counts.numel(), labels**2).view(-1, 1)

    def add_block(block: Block) -> bool:
        images, pixels = block
        z = logits[images, :, pixels]
        prediction = z.max(1).indices if softmax else (z > 0).long()
        of_block = target[images, pixels] if softmax else target[images, :, pixels]
        try:
            index, valid = valid_labels(of_block, ignore_index, labels)
        except ValueError:  # of this block, whose label need not be the one to name
            return False
        cell = prediction.add_(index * labels)
        if not softmax:
            cell += channels
        if valid is not None:
            cell.masked_fill_(~valid, counts.numel())  # the last cell is that of void pixels
        found = torch.bincount(cell.flatten(), minlength=counts.numel() + 1)[:-1]
        with lock:
            counts.add_(found.view(counts.shape))
        return True

    return all(map_blocks(add_block, blocks_of(logits), logits.device))
