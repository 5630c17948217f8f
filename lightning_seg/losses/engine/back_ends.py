"""Which back end computes the sums."""

import os
import warnings
from functools import cache

import torch
from torch import distributed

from lightning_seg.losses.engine import self_check, torch_backend
from lightning_seg.losses.engine.interface import BackEnd

#: The variable that forces a back end: torch, triton or numba.
VARIABLE = "LIGHTNING_SEG_BACKEND"

_HALF = (torch.bfloat16, torch.float16)
# The device and the dtypes that a back end computes; torch computes all.
_KERNELS = {"triton": ("cuda", (torch.float32, *_HALF)), "numba": ("cpu", (torch.float64, torch.float32, *_HALF))}
# Logits from which Numba's kernels save more than a millisecond or two a step: below, compiling them, which takes some
# five seconds once on a machine, would never pay.
_LEAST = {"triton": 1, "numba": 2**20}
# Compiled for devices that nobody has tried them on: compared with torch operations before they are used.
_TO_PROVE = ("triton",)
# Whether such a back end may be used on a device.
_verdicts: dict[tuple[str, torch.device], bool] = {}


def choose_back_end(device: torch.device | str, dtype: torch.dtype, size: int) -> BackEnd:
    """Triton's kernels on CUDA, but for float64; Numba's on the CPU, for large batches; torch operations for all else.

    Where Triton or Numba is not installed, torch operations stand in, and so do they where Triton's kernels fail a
    comparison when they are first used on a device. An empty batch is theirs, too.

    Args:
        device: of the logits.
        dtype: of the logits.
        size: the number of logits.

    Raises:
        ValueError: the variable LIGHTNING_SEG_BACKEND names no back end, or one that does not compute such logits.
        ImportError: it names one that is not installed.
    """
    device = torch.device(device)
    forced = os.environ.get(VARIABLE)
    if forced and forced not in (*_KERNELS, "torch"):
        raise ValueError(f"{VARIABLE}={forced} is none of torch, triton, numba; choose one, or unset it.")
    if size == 0 or forced == "torch":
        return torch_backend.BACK_END
    fitting = [name for name, (kind, dtypes) in _KERNELS.items() if kind == device.type and dtype in dtypes]
    if forced and forced not in fitting:
        raise ValueError(f"{VARIABLE}={forced} does not compute {dtype} on {device}; choose torch, or unset it.")
    if forced:
        return _required(forced)
    for name in fitting:
        if size >= _LEAST[name] and _may_use(name, device):
            return _installed(name)
    return torch_backend.BACK_END


def agree_on_back_ends(device: torch.device) -> None:
    """Uses kernels that must be compared first if they are right on all processes; each of them calls this.

    A loss that is computed without compares on its own process alone, where it cannot wait for the others.

    Args:
        device: where this process computes losses.
    """
    several = distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
    for name in _TO_PROVE:
        if _KERNELS[name][0] != device.type or os.environ.get(VARIABLE):
            continue
        right = _may_use(name, device)
        if several:
            verdict = torch.tensor(int(right), device=device)
            distributed.all_reduce(verdict, distributed.ReduceOp.MIN)
            if right and not verdict:
                _verdicts[name, device] = False
                _warn(name, device, "they fail on another process")


def _may_use(name: str, device: torch.device) -> bool:
    """Whether a back end needs no proof on a device, or has passed it."""
    if name not in _TO_PROVE or _installed(name) is torch_backend.BACK_END:
        return True
    if (name, device) not in _verdicts:
        if device.type == "cuda" and torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
            return False  # a graph is recorded, in which nothing can be looked at
        wrong = self_check.find_difference(_installed(name), device)
        _verdicts[name, device] = wrong is None
        if wrong is not None:
            _warn(name, device, wrong)
    return _verdicts[name, device]


def _warn(name: str, device: torch.device, reason: str) -> None:
    warnings.warn(
        f"{name}'s kernels do not compute what torch operations do on {device} ({reason}): losses are computed by "
        f"torch operations there; {VARIABLE}={name} forces the kernels.",
        stacklevel=2,
    )


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
