"""How often each integer occurs, on any device without making it wait."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def bin_count(cells: Tensor, count: int) -> Tensor:
    """The number of each of the integers 0 to count - 1, int64 (count,).

    Args:
        cells: int64, of one dimension. What is out of range was refused before, on CUDA by an assertion on the device.
        count: how many integers there are.
    """
    if cells.device.type in ("cpu", "mps") and not torch.compiler.is_compiling():
        return torch.bincount(cells.cpu(), minlength=count).to(cells.device)  # mps has no int64 sums
    # bincount would make a GPU wait.
    with _any_order():
        counts = torch.zeros(count, dtype=torch.int64, device=cells.device)
        return counts.scatter_add_(0, cells.clamp(0, count - 1), torch.ones_like(cells))


@contextmanager
def _any_order() -> Iterator[None]:
    """Lifts torch's deterministic mode: integer counts do not depend on the order of summation."""
    if not torch.are_deterministic_algorithms_enabled():
        yield
        return
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(True, warn_only=warn_only)
