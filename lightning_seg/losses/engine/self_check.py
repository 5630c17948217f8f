"""Whether a back end computes what torch operations compute, on the device at hand.

Kernels that were compiled for a device which nobody has tried them on are compared on a small problem before they are
trusted with a training.
"""

import torch
from torch import Tensor

from lightning_seg.losses.engine import torch_backend
from lightning_seg.losses.engine.interface import (
    BackEnd,
    Gradients,
    Outputs,
    Requirements,
    empty_sigmoid_outputs,
    empty_softmax_outputs,
)

_VOID = 255
_SHAPE = (2, 5, 2000)
_REQUIREMENTS = (
    Requirements(gammas=(0.5, 2.0), squares=True, uniform=True, label_map=True, errors="probability"),
    Requirements(),
)
# Far more than float32 rounds off sums of some thousand numbers, far less than a lost pixel changes.
_TOLERANCE = 1e-3


def find_difference(back_end: BackEnd, device: torch.device) -> str | None:
    """What is wrong with a back end: the first number that differs, or the error that it raises; None if nothing is.

    Softmax and sigmoid, with void pixels, forward and backward, with and without all that can be read, and confusion
    counts, in float32.

    Args:
        back_end: what is checked.
        device: where it computes.
    """
    try:
        for softmax in (True, False):
            for requires in _REQUIREMENTS:
                expected = _computed(torch_backend.BACK_END, device, softmax, requires)
                for name, values in _computed(back_end, device, softmax, requires).items():
                    if not torch.allclose(values, expected[name], rtol=_TOLERANCE, atol=_TOLERANCE):
                        return f"{name} of {'softmax' if softmax else 'sigmoid'} differs"
            if not torch.equal(_counted(back_end, device, softmax), _counted(torch_backend.BACK_END, device, softmax)):
                return f"confusion counts of {'softmax' if softmax else 'sigmoid'} differ"
    except Exception as error:  # whatever a compiler or a driver says
        return f"{type(error).__name__}: {str(error).strip() or 'no message'}".splitlines()[0]
    return None


def _computed(back_end: BackEnd, device: torch.device, softmax: bool, requires: Requirements) -> dict[str, Tensor]:
    """The sums of a problem and the gradient of a weighting of them."""
    logits, target, weights = _problem(softmax)
    logits, target = logits.to(device), target.to(device)
    empty = empty_softmax_outputs if softmax else empty_sigmoid_outputs
    outputs = empty(logits, requires)
    forward = back_end.softmax_forward if softmax else back_end.sigmoid_forward
    forward(logits, target, _VOID, requires, outputs)
    backward = back_end.softmax_backward if softmax else back_end.sigmoid_backward
    gradients = Gradients(*(_weighting(sums, weights) for sums in outputs[:4]))
    gradient = backward(gradients, logits, target, outputs.normalizer, _VOID, requires)
    return _comparable(outputs) | {"the gradient": gradient}


def _counted(back_end: BackEnd, device: torch.device, softmax: bool) -> Tensor:
    """The confusion counts of a problem."""
    logits, target, _ = _problem(softmax)
    counts = torch.zeros(_SHAPE[1], _SHAPE[1] if softmax else 4, dtype=torch.int64, device=device)
    counts = counts if softmax else counts.view(-1, 2, 2)
    back_end.add_confusion(logits.to(device), target.to(device), _VOID, softmax, counts)
    return counts


def _problem(softmax: bool) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images, classes, pixels = _SHAPE
    logits = 3 * torch.randn(_SHAPE, generator=generator)
    labels = (images, pixels) if softmax else _SHAPE
    target = torch.randint(0, classes if softmax else 2, labels, generator=generator)
    target = target.masked_fill(torch.rand(labels, generator=generator) < 0.2, _VOID)
    return logits, target, torch.rand(64, generator=generator)


def _weighting(sums: Tensor, weights: Tensor) -> Tensor | None:
    """Some gradient of the sums."""
    if sums.numel() == 0:
        return None
    index = torch.arange(sums.numel()) // max(1, sums.shape[-1] // len(weights)) % len(weights)
    return weights[index].reshape(sums.shape).to(sums.device, sums.dtype)


def _comparable(outputs: Outputs) -> dict[str, Tensor]:
    """Sums, those of errors over all bins: which of two bins an error at their edge is in may differ."""
    return {
        "sums by label": outputs.by_label,
        "sums by channel": outputs.by_channel,
        "the map of log-probabilities": outputs.label_map,
        "the histogram": torch.stack([outputs.error_sums.sum(-1), outputs.error_counts.sum(-1)]),
    }
