"""Which back end computes the sums."""

from functools import cache

import torch

from lightning_seg.losses.engine import torch_backend
from lightning_seg.losses.engine.interface import BackEnd


def choose_back_end(device: str, dtype: torch.dtype, size: int) -> BackEnd:
    """The Triton kernels for float32 and half precision on CUDA; torch operations for all else.

    Args:
        device: the type of the logits' device.
        dtype: of the logits.
        size: the number of logits.
    """
    if device == "cuda" and dtype in (torch.float32, torch.bfloat16, torch.float16) and size > 0:
        return _triton()
    return torch_backend.BACK_END


@cache
def _triton() -> BackEnd:
    """Imported when the first CUDA tensor comes, not before."""
    try:
        from lightning_seg.losses.engine import triton_backend
    except ModuleNotFoundError:
        return torch_backend.BACK_END
    return triton_backend.BACK_END
