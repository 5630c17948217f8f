"""What networks return: logits, and those of auxiliary heads."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor
from torch.nn import functional as F

_INTERPOLATION = {1: "linear", 2: "bilinear", 3: "trilinear"}
_FORMS = (
    "a tensor (N, C, *spatial), a mapping with 'out' or 'logits' (and 'aux'), an object with .logits, a tuple or list "
    "from fine to coarse, or a stack (N, outputs, C, *spatial)"
)


class NetworkOutput(NamedTuple):
    """Logits of a network, each `(N, C, *spatial)` at a spatial size of its own."""

    logits: Tensor
    """Those that are scored."""
    auxiliary: tuple[Tensor, ...] = ()
    """Those of further heads, which only help the training."""


def network_output(output: Any, dimensions: int) -> NetworkOutput:
    """Logits and auxiliary logits from a network's output.

    Args:
        output: a tensor `(N, C, *spatial)`; a mapping that holds it under `out` or `logits`, and those of auxiliary
            heads under `aux` (torchvision), `aux_out` or `auxiliary_logits`; an object with the attribute `logits` or
            `out`, and perhaps one of these others (transformers); a tuple or list from fine to coarse (deep
            supervision); or a tensor `(N, outputs, C, *spatial)` that is a stack of those (MONAI's `DynUNet`).
        dimensions: spatial dimensions of the image.

    Raises:
        TypeError: the output is none of these.
        ValueError: a tensor in it does not have `dimensions` spatial dimensions.
    """
    if isinstance(output, Tensor):
        found = output.unbind(1) if output.ndim == dimensions + 3 and output.shape[1] else (output,)
    elif isinstance(output, tuple | list) and not hasattr(output, "logits"):
        found = tuple(output)
    else:
        found = _named(output)
    if not found or not all(isinstance(part, Tensor) for part in found):
        raise TypeError(
            f"the backbone returned {_described(output)}, from which no logits can be taken: return {_FORMS}, "
            "or override SegmentationModule.forward."
        )
    for part in found:
        if part.ndim != dimensions + 2:
            raise ValueError(
                f"the backbone gave logits of shape {tuple(part.shape)}, but images of {dimensions} spatial dimensions "
                "need logits (N, C, *spatial): make the backbone return one score per class and pixel, and leave out "
                "heads that classify whole images."
            )
    return NetworkOutput(found[0], found[1:])


def logits_at_size(output: Any, size: Sequence[int]) -> Tensor:
    """Logits `(N, C, *size)` from a network's output, without those of its auxiliary heads.

    Args:
        output: as `network_output` takes it.
        size: the spatial size wanted. Logits of another size are interpolated linearly, with `align_corners=False`.

    Raises:
        TypeError: there are no logits in the output.
        ValueError: the logits do not have one spatial dimension for each entry of `size`.
    """
    return resized(network_output(output, len(size)).logits, size)


def resized(logits: Tensor, size: Sequence[int]) -> Tensor:
    """Logits `(N, C, *spatial)` interpolated linearly to `(N, C, *size)`, with `align_corners=False`."""
    if tuple(logits.shape[2:]) == tuple(size):
        return logits
    return F.interpolate(logits, size=tuple(size), mode=_INTERPOLATION[len(size)], align_corners=False)


def _named(output: Any) -> tuple[Any, ...]:
    """What the names of a mapping or the attributes of an object say: the logits, and then the auxiliary ones."""

    def first(*names: str) -> Any:
        parts = (output.get(name) if isinstance(output, Mapping) else getattr(output, name, None) for name in names)
        return next((part for part in parts if part is not None), None)

    logits, auxiliary = first("out", "logits"), first("aux", "aux_out", "auxiliary_logits")
    if logits is None:
        return ()
    if auxiliary is None:
        return (logits,)
    return (logits, *(auxiliary if isinstance(auxiliary, tuple | list) else (auxiliary,)))


def _described(output: Any) -> str:
    if isinstance(output, Mapping):
        return f"the keys {sorted(map(str, output))}"
    if isinstance(output, tuple | list):
        return f"a {type(output).__name__} of {', '.join(type(part).__name__ for part in output) or 'nothing'}"
    return f"a {type(output).__name__}"
