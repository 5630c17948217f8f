"""Which parameters of a network are trained by its outputs."""

from collections.abc import Collection
from copy import deepcopy

import torch
from torch import nn

from lightning_seg.backbones.outputs import network_output

# Of a pretended image; networks with fixed sizes often take the second, and networks for volumes the last.
_SIZES = ((64, 64), (224, 224), (32, 32, 32))


def parameters_without_gradient(network: nn.Module, channels: int, *, auxiliary: bool) -> list[str] | None:
    """The trainable parameters that the outputs of a network do not depend on.

    Nothing is computed: shapes alone go through a copy of it, which has no memory for weights.

    Args:
        network: takes images of two dimensions, or of three.
        channels: of the images.
        auxiliary: whether auxiliary logits are trained.

    Returns:
        Their names; None if that cannot be told, since the network does not take such an image, or looks at values.
    """
    for size in _SIZES:
        try:
            copy = _without_values(network).train()
            output = network_output(copy(torch.empty(2, channels, *size, device="meta")), len(size))
            trained = (output.logits, *output.auxiliary) if auxiliary else (output.logits,)
            parameters = {name: one for name, one in copy.named_parameters() if one.requires_grad}
            total = torch.stack([logits.float().sum() for logits in trained]).sum()
            gradients = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
        except Exception:  # whatever a network makes of an image without values
            continue
        return [name for name, gradient in zip(parameters, gradients, strict=True) if gradient is None]
    return None


def _without_values(network: nn.Module) -> nn.Module:
    """A copy on the meta device."""
    parameters = {id(one): nn.Parameter(one.to("meta"), one.requires_grad) for one in network.parameters()}
    return deepcopy(network, {**parameters, **{id(one): one.to("meta") for one in network.buffers()}})


def folded(names: Collection[str], network: nn.Module) -> list[str]:
    """Parameters by name, and parts of the network in place of all of theirs.

    Args:
        names: of trainable parameters.
        network: that has them.
    """
    found = set(names)
    whole = {
        name
        for name, part in network.named_modules()
        if name and (trainable := _trainable(name, part)) and trainable <= found
    }
    return sorted({min((part for part in whole if one.startswith(f"{part}.")), key=len, default=one) for one in names})


def _trainable(prefix: str, part: nn.Module) -> set[str]:
    return {f"{prefix}.{name}" for name, one in part.named_parameters() if one.requires_grad}
