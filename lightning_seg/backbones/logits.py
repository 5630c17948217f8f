"""Logits from whatever a network returns."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional as F

_INTERPOLATION = {1: "linear", 2: "bilinear", 3: "trilinear"}


def logits_at_size(output: Any, size: Sequence[int]) -> Tensor:
    """Logits `(N, C, *size)` from a network's output.

    Args:
        output: a tensor `(N, C, *spatial)`; a mapping that holds it under `out` (torchvision) or `logits`; or an
            object with the attribute `logits` (transformers).
        size: the spatial size wanted. Logits of another size are interpolated linearly, with `align_corners=False`.

    Raises:
        TypeError: the output is none of these.
        ValueError: the logits do not have one spatial dimension for each entry of `size`.
    """
    logits = _logits(output)
    if logits.ndim != len(size) + 2:
        raise ValueError(
            f"the backbone gave logits of shape {tuple(logits.shape)}, but images of {len(size)} spatial dimensions "
            f"need logits (N, C, *spatial): make the backbone return one score per class and pixel."
        )
    if tuple(logits.shape[2:]) == tuple(size):
        return logits
    return F.interpolate(logits, size=tuple(size), mode=_INTERPOLATION[len(size)], align_corners=False)


def _logits(output: Any) -> Tensor:
    if isinstance(output, Mapping):
        output = output.get("out", output.get("logits", output))
    elif not isinstance(output, Tensor):
        output = getattr(output, "logits", output)
    if not isinstance(output, Tensor):
        found = f"the keys {sorted(output)}" if isinstance(output, Mapping) else f"a {type(output).__name__}"
        raise TypeError(
            f"the backbone returned {found}, from which no logits can be taken: return a tensor (N, C, *spatial), "
            "a mapping with 'out' or 'logits', or an object with .logits, or override SegmentationModule.forward."
        )
    return output
