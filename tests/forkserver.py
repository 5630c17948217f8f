"""Processes that have the package imported when they begin: copies of one that has imported it.

Importing takes seconds, and is done once for all processes that the caller starts in this way.
"""

from multiprocessing import get_context
from multiprocessing.context import ForkServerContext

PRELOADED = ["lightning_seg.commands.train", "lightning_seg.commands.evaluate", "lightning_seg.metrics"]


def forkserver() -> ForkServerContext:
    """Where such processes are made. Their environment is that of the caller when the first of them started."""
    context = get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context
