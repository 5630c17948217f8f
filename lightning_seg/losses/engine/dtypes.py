"""What is computed in which floating-point type."""

import torch
from torch import Tensor


def sum_dtype(like: Tensor) -> torch.dtype:
    """float64, since float32 sums of ones stop at 2²⁴; float32 on a device that has no float64."""
    return torch.float32 if like.device.type == "mps" else torch.float64


def wide_dtype(logits: Tensor) -> torch.dtype:
    """What logits are computed in: half precision in float32."""
    return torch.float64 if logits.dtype == torch.float64 else torch.float32
