"""Which back end computes the sums."""

import os
import warnings
from functools import cache

import torch

from lightning_seg.losses.engine import torch_backend
from lightning_seg.losses.engine.interface import BackEnd

#: The variable that forces a back end: torch, triton or numba.
VARIABLE = "LIGHTNING_SEG_BACKEND"

_HALF = (torch.bfloat16, torch.float16)
# The device and the dtypes that a back end computes; torch computes all.
_KERNELS = {"triton": ("cuda", (torch.float32, *_HALF)), "numba": ("cpu", (torch.float64, torch.float32, *_HALF))}
# Logits from which Numba's kernels save more than a millisecond or two a step: below, compiling them, which takes some
# ten seconds once on a machine, would never pay.
_LEAST = {"triton": 1, "numba": 2**20}


def choose_back_end(device: str, dtype: torch.dtype, size: int) -> BackEnd:
    """Triton's kernels on CUDA, but for float64; Numba's on the CPU, for large batches; torch operations for all else.

    Where Triton or Numba is not installed, torch operations stand in. An empty batch is theirs, too.

    Args:
        device: the type of the logits' device.
        dtype: of the logits.
        size: the number of logits.

    Raises:
        ValueError: the variable LIGHTNING_SEG_BACKEND names no back end, or one that does not compute such logits.
        ImportError: it names one that is not installed.
    """
    forced = os.environ.get(VARIABLE)
    if forced and forced not in (*_KERNELS, "torch"):
        raise ValueError(f"{VARIABLE}={forced} is none of torch, triton, numba; choose one, or unset it.")
    if size == 0 or forced == "torch":
        return torch_backend.BACK_END
    fitting = [name for name, (kind, dtypes) in _KERNELS.items() if kind == device and dtype in dtypes]
    if forced and forced not in fitting:
        raise ValueError(f"{VARIABLE}={forced} does not compute {dtype} on {device}; choose torch, or unset it.")
    if forced:
        return _required(forced)
    large = [name for name in fitting if size >= _LEAST[name]]
    return _installed(large[0]) if large else torch_backend.BACK_END


@cache
def _installed(name: str) -> BackEnd:
    """A back end, imported when it is first used; torch's where it cannot be."""
    try:
        return _required(name)
    except ModuleNotFoundError:
        pass
    except ImportError as error:  # installed, but not for this Python or NumPy
        warnings.warn(f"{name} cannot be imported ({error}): losses are computed by torch operations.", stacklevel=2)
    return torch_backend.BACK_END


def _required(name: str) -> BackEnd:
    if name == "triton":
        from lightning_seg.losses.engine import triton_backend

        return triton_backend.BACK_END
    from lightning_seg.losses.engine import numba_backend

    return numba_backend.BACK_END
