"""How a network is executed: the same results and the same names of weights, in another time or memory."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

_FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def compile_network(network: nn.Module, **options: Any) -> None:
    """Compiles a network in place by `torch.compile`, when it is called first.

    Args:
        network: its weights keep their names, unlike those of what `torch.compile(network)` returns.
        options: see `torch.compile`.
    """
    network.compile(**options)


def use_channels_last(network: nn.Module) -> None:
    """Lays out a network's weights, and the images that it is called with, with the channels last in memory.

    Convolutions pass this on, so that no tensor between them is laid out anew. It is for images and volumes.
    """
    for parameter in network.parameters():
        if memory_format := _FORMATS.get(parameter.ndim):
            parameter.data = parameter.data.contiguous(memory_format=memory_format)
    network.register_forward_pre_hook(_channels_last)


def checkpoint_activations(network: nn.Module) -> int:
    """Keeps of each block of a network only what it was called with, and computes the rest again in the backward pass.

    A block is one of several of its class in a row, such as those of a ResNet, of a transformer or of a decoder; of
    blocks within others these are the inner ones. Random numbers are those of the first pass, and running statistics
    of norms are updated once.

    Returns:
        How many blocks there are.

    Raises:
        ValueError: there are none.
    """
    blocks = _blocks(network)
    if not blocks:
        raise ValueError(
            f"gradient_checkpointing found no blocks in {type(network).__name__}, that is, several parts of one class "
            "of its own in an nn.Sequential, nn.ModuleList or nn.ModuleDict: write it into the network, by "
            "torch.utils.checkpoint."
        )
    for block in blocks:
        block.forward = partial(_checkpointed, block, block.forward)
    return len(blocks)


def _channels_last(network: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(
        one.contiguous(memory_format=_FORMATS[one.ndim]) if isinstance(one, Tensor) and one.ndim in _FORMATS else one
        for one in arguments
    )


def _blocks(network: nn.Module) -> list[nn.Module]:
    found: dict[str, nn.Module] = {}
    for name, part in network.named_modules():
        if isinstance(part, _CONTAINERS):
            kinds = Counter(type(child) for child in part.children())
            for child_name, child in part.named_children():
                has_parts = any(True for _ in child.children())
                if kinds[type(child)] > 1 and has_parts and not isinstance(child, _CONTAINERS):
                    found[f"{name}.{child_name}" if name else child_name] = child
    return [block for name, block in found.items() if not any(one.startswith(f"{name}.") for one in found)]


def _checkpointed(block: nn.Module, forward: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    if not (block.training and torch.is_grad_enabled()):
        return forward(*arguments, **named)

    if torch.compiler.is_compiling():  # which changes buffers once, whatever it computes again
        return checkpoint(forward, *arguments, use_reentrant=False, **named)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _unchanged_buffers(block)

    return checkpoint(forward, *arguments, use_reentrant=False, context_fn=contexts, **named)


@contextmanager
def _unchanged_buffers(block: nn.Module) -> Iterator[None]:
    """Buffers, such as the running statistics of norms, are afterwards what they were."""
    before = [(buffer, buffer.clone()) for buffer in block.buffers()]
    try:
        yield
    finally:
        for buffer, value in before:
            buffer.copy_(value)
