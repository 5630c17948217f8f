"""What a training step takes, measured by doing one."""

from collections.abc import Callable
from time import perf_counter
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_seg.callbacks.resource_usage import peak_memory, reset_peak_memory
from lightning_seg.memory import available_memory

_SMALL = 64  # pixels a side


class StepUsage(NamedTuple):
    """Bytes that any step takes, bytes of each image in it, and seconds of each image."""

    fixed: int
    per_image: int
    seconds_per_image: float


def step_usage(
    network: Callable[[Tensor], Tensor], loss: Callable[[Tensor, Tensor], Any], image: Tensor, target: Tensor
) -> StepUsage:
    """What a training step takes on the device of its tensors, from one with two images and one with four.

    Args:
        network: from images to logits.
        loss: called with logits and target.
        image: one image `(channels, H, W)`.
        target: its mask.
    """
    before = _peak_after(image.device, lambda: None)
    corner = (..., slice(_SMALL), slice(_SMALL))
    _step(network, loss, image[corner], target[corner], 2)  # what is set up in the first step
    kept: list[int] = []
    # Above what was there before all: of what a step has freed, some stays with the process and is used by the next.
    two = _peak_after(image.device, lambda: kept.append(_step(network, loss, image, target, 2))) - before
    start = perf_counter()
    four = _peak_after(image.device, lambda: kept.append(_step(network, loss, image, target, 4))) - before
    seconds = perf_counter() - start
    # The peak of a process does not rise where it had memory to spare; what is kept for the gradient is the least.
    per_image = max(1, (four - two) // 2, (kept[1] - kept[0]) // 2)
    return StepUsage(max(0, two - 2 * per_image), per_image, seconds / 4)


def free_memory(device: torch.device) -> int | None:
    """Bytes for a training; None where nobody says."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else available_memory()


def _peak_after(device: torch.device, action: Callable[[], object]) -> int:
    """Bytes at the peak of an action."""
    reset_peak_memory(device)
    action()
    return peak_memory(device)


def _step(
    network: Callable[[Tensor], Tensor],
    loss: Callable[[Tensor, Tensor], Any],
    image: Tensor,
    target: Tensor,
    count: int,
) -> int:
    """Bytes that are kept for the gradient."""
    images, targets = image.expand(count, *image.shape).clone(), target.expand(count, *target.shape).clone()
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        value = loss(network(images), targets)
    value.backward()
    if image.device.type == "cuda":
        torch.cuda.synchronize(image.device)
    return sum(kept.values())
