"""Blocks of a tensor side by side on the CPU's threads.

torch spreads every single operation over its threads, which wait for each other after each; with many small operations
and a core that another process uses at times, that waiting takes longer than the work.
"""

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from typing import TypeVar, cast

import torch
from torch import Tensor

# Blocks at once of torch operations: each takes memory, and Python starts the operations of one at a time.
_AT_ONCE = 4
# Logits in a block: enough that starting an operation costs little, few enough for the cache.
_BLOCK = 2**19

Block = TypeVar("Block")
Result = TypeVar("Result")


def map_blocks(
    function: Callable[[Block], Result],
    blocks: Sequence[Block],
    device: torch.device,
    at_once: int | None = _AT_ONCE,
) -> list[Result]:
    """`function` of each block, in their order, without gradients.

    On the CPU blocks run at once and share torch's threads, so that what they write must not overlap.

    Args:
        function: of a block.
        blocks: what it is given.
        device: what it computes on.
        at_once: how many run at once at most; None for as many as there are threads.
    """
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    at_once = threads if at_once is None else min(threads, at_once)
    inference = torch.is_inference_mode_enabled()  # only of this thread

    if threads == 1 or len(blocks) == 1:
        with torch.no_grad():
            return [function(block) for block in blocks]

    left, results = deque(enumerate(blocks)), cast(list[Result], [None] * len(blocks))

    def take_blocks() -> None:
        torch.set_num_threads(threads // at_once)  # of this thread, and of threads that start from now on
        try:
            with torch.inference_mode(inference), torch.no_grad():
                while True:
                    try:
                        index, block = left.popleft()
                    except IndexError:  # none is left
                        return
                    results[index] = function(block)
        finally:
            left.clear()  # no thread begins another block after an error

    # This thread takes blocks, too: to wait for each would wake it as often, which costs as much as a small block.
    others = [_pool(at_once - 1).submit(take_blocks) for _ in range(at_once - 1)] if at_once > 1 else []
    try:
        take_blocks()
    finally:
        wait(others)
        torch.set_num_threads(threads)
    for other in others:
        other.result()
    return results


def block_size(logits: Tensor) -> int:
    """How many logits a block has: few enough, too, that the blocks in use are small beside all logits."""
    if logits.device.type != "cpu":
        return 2**26  # there is no cache to stay in, and every operation costs a launch
    return max(2**15, min(_BLOCK, logits.numel() // 16))


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="lightning_seg")


# A forked process has the pool but not its threads.
os.register_at_fork(after_in_child=_pool.cache_clear)
