"""Parameters that outputs do not depend on are found without computing anything."""

import pytest
import torch
from torch import nn

from lightning_seg import SegmentationModule
from lightning_seg.backbones import torchvision_model
from lightning_seg.backbones.gradients import folded, parameters_without_gradient
from lightning_seg.commands.train import with_unused_parameters


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4))
        self.head, self.auxiliary, self.frozen = (nn.Conv2d(4, 2, 1) for _ in range(3))
        self.unused = nn.ModuleDict({"one": nn.Linear(2, 2), "two": nn.Linear(2, 2, bias=False)})
        self.scale, self.shift = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
        self.frozen.requires_grad_(False)

    def forward(self, image):
        features = self.encoder(image)
        return {"out": self.head(features) * self.scale, "aux": self.auxiliary(features)}


def test_those_of_outputs_that_are_not_trained_and_of_unused_parts_are_found():
    network = Network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    unused = ["shift", "unused.one.weight", "unused.one.bias", "unused.two.weight"]
    assert parameters_without_gradient(network, 3, auxiliary=True) == unused
    of_auxiliary = ["auxiliary.weight", "auxiliary.bias"]
    assert set(parameters_without_gradient(network, 3, auxiliary=False)) == {*unused, *of_auxiliary}
    assert folded(unused, network) == ["shift", "unused"]
    assert folded([*of_auxiliary, "unused.one.bias"], network) == ["auxiliary", "unused.one.bias"]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(one.grad is None and one.device.type == "cpu" for one in network.parameters())


def test_a_network_that_looks_at_values_is_not_known():
    class Looking(Network):
        def forward(self, image):
            return super().forward(image) if image.mean() > 0 else image

    assert parameters_without_gradient(Looking(), 3, auxiliary=True) is None


@pytest.mark.slow
@pytest.mark.parametrize(("weight", "strategy"), [(0.4, "ddp"), (0, "ddp_find_unused_parameters_true")])
def test_processes_look_for_untrained_parameters_where_an_auxiliary_head_of_torchvision_is_not_trained(
    weight: float, strategy: str
) -> None:
    network = torchvision_model("fcn_resnet50", classes=2, aux_loss=True)
    module = SegmentationModule(network, nn.CrossEntropyLoss(), num_classes=2, auxiliary_weight=weight)
    assert with_unused_parameters({"strategy": "ddp"}, module)["strategy"] == strategy
    untrained = module.parameters_without_gradient()
    assert untrained is not None
    assert folded(untrained, network) == ([] if weight else ["aux_classifier"])


def test_a_module_with_parameters_beside_its_network_cannot_tell_which_of_them_no_loss_trains() -> None:
    module = SegmentationModule(nn.Conv2d(3, 2, 1), nn.CrossEntropyLoss(), num_classes=2)
    assert module.parameters_without_gradient() == []
    module.own = nn.Parameter(torch.zeros(1))
    assert module.parameters_without_gradient() is None
    module.own.requires_grad_(False)
    assert module.parameters_without_gradient() == []


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_the_network_is_tried_on_images_of_as_many_channels_as_mean_has(channels: int) -> None:
    network = nn.Conv2d(channels, 2, 1)
    numbers = None if channels == 3 else [0.5] * channels
    module = SegmentationModule(network, nn.CrossEntropyLoss(), num_classes=2, mean=numbers, std=numbers)
    assert module.parameters_without_gradient() == []


def test_parameters_of_a_network_for_volumes_are_found():
    network = nn.Sequential(nn.Conv3d(1, 2, 3, padding=1))
    assert parameters_without_gradient(network, 1, auxiliary=True) == []
