"""Compiled, with channels last, or with blocks that are computed twice, a network does what it did."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_seg.backbones import segmentation_model
from lightning_seg.backbones.execution import checkpoint_activations, compile_network, use_channels_last

State = dict[str, Tensor]


def unet() -> nn.Module:
    torch.manual_seed(0)
    return segmentation_model(
        "Unet", encoder_name="resnet18", encoder_weights=None, in_channels=3, classes=3, decoder_channels=[8] * 5
    )


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(0.5)

    def forward(self, image: Tensor) -> Tensor:
        return image + self.drop(self.norm(self.conv(image))).relu()


def blocks() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(Block(), Block(), Block()), nn.Conv2d(4, 3, 1))


def trained(network: nn.Module) -> tuple[State, State]:
    """Gradients and state after one pass."""
    torch.manual_seed(1)
    network.double()(torch.rand(2, 3, 32, 32).double()).square().mean().backward()
    return {name: one.grad for name, one in network.named_parameters() if one.grad is not None}, network.state_dict()


@pytest.mark.parametrize(
    ("build", "change"),
    # Dropout draws in the order of memory, so that channels last leave out others.
    [(unet, checkpoint_activations), (blocks, checkpoint_activations), (unet, use_channels_last)],
)
def test_gradients_statistics_and_names_are_what_they_were(
    build: Callable[[], nn.Module], change: Callable[[nn.Module], Any]
) -> None:
    plain, changed = build(), build()
    change(changed)
    for one, other in zip(trained(plain), trained(copy.deepcopy(changed)), strict=True):
        assert one.keys() == other.keys()
        for name in one:
            torch.testing.assert_close(other[name], one[name], msg=lambda text, name=name: f"{name}: {text}")


def test_a_compiled_network_is_compiled_and_keeps_its_names() -> None:
    compiled, seen = blocks(), []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        seen.append(graph)
        return graph.forward

    compile_network(compiled, backend=backend)
    names, plain = list(blocks().state_dict()), blocks()
    for one, other in zip(trained(plain), trained(compiled), strict=True):
        for name in one:
            torch.testing.assert_close(other[name], one[name], msg=name)
    assert seen
    assert list(compiled.state_dict()) == names


@pytest.mark.slow
def test_compiled_and_checkpointed_it_still_is_what_it_was() -> None:
    plain, changed = blocks(), blocks()
    checkpoint_activations(changed)
    compile_network(changed, backend="aot_eager")
    for one, other in zip(trained(plain), trained(changed), strict=True):
        for name in one:
            torch.testing.assert_close(other[name], one[name], msg=name)


def test_between_the_convolutions_channels_are_last() -> None:
    network, seen = blocks(), []
    network[1][1].register_forward_pre_hook(lambda part, images: seen.append(images[0]))  # type: ignore[index]
    use_channels_last(network)
    network(torch.rand(2, 3, 8, 8))
    assert seen[0].is_contiguous(memory_format=torch.channels_last)


def test_volumes_have_their_channels_last_too() -> None:
    network, seen = nn.Sequential(nn.Identity(), nn.Conv3d(2, 4, 3)), []
    network[1].register_forward_pre_hook(lambda part, images: seen.append(images[0]))
    use_channels_last(network)
    network(torch.rand(1, 2, 5, 5, 5))
    for tensor in (seen[0], network[1].weight):
        assert tensor.is_contiguous(memory_format=torch.channels_last_3d)


def kept(network: nn.Module) -> int:
    """Bytes that autograd keeps for the backward pass."""
    sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        network(torch.rand(2, 3, 64, 64))
    return sum(sizes.values())


def test_less_is_kept_for_the_backward_pass() -> None:
    plain, changed = unet(), unet()
    assert checkpoint_activations(changed) == 8 + 5  # of the encoder and the decoder
    weights = sum(parameter.nbytes for parameter in plain.parameters())
    assert kept(changed) - weights < 0.5 * (kept(plain) - weights)


def test_a_network_without_blocks_is_refused() -> None:
    with pytest.raises(ValueError, match="gradient_checkpointing found no blocks in Conv2d"):
        checkpoint_activations(nn.Conv2d(3, 3, 1))
