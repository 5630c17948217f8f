"""Which parameters are trained at which rate, and with weight decay."""

from collections import Counter
from functools import partial
from typing import Any

import pytest
import torch
from timm.models import create_model
from timm.optim import param_groups_layer_decay
from torch import nn

from lightning_seg.backbones import segmentation_model
from lightning_seg.parameter_groups import layers, parameter_groups
from tests.small_module import Network, build


def smp(encoder: str, architecture: str = "Unet") -> Any:
    return segmentation_model(architecture, encoder_name=encoder, encoder_weights=None, in_channels=3, classes=3)


def rates(module: nn.Module, **options: Any) -> dict[str, tuple[float, float]]:
    """The factor of the learning rate and the weight decay of each parameter, by its name."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    groups = parameter_groups(module, module, **options)
    found = [
        (names[id(parameter)], (group.get("learning_rate_factor", 1.0), group.get("weight_decay", 0.01)))
        for group in groups
        for parameter in group["params"]
    ]
    assert len(found) == len(names)
    return dict(found)


def test_with_nothing_asked_for_there_is_one_group_in_the_modules_own_order() -> None:
    module = Network()
    (group,) = parameter_groups(module, module)
    assert group.keys() == {"params"}
    assert list(map(id, group["params"])) == list(map(id, module.parameters()))


def test_norms_and_biases_can_be_left_without_weight_decay() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Linear(4, 4))
    decayed = {name for name, (_, decay) in rates(network, decay_norms_and_biases=False).items() if decay}
    assert decayed == {"0.weight", "2.weight"}
    assert {decay for _, decay in rates(network).values()} == {0.01}


def test_rates_and_decay_are_those_of_timm_for_a_model_of_timm() -> None:
    model = create_model("vit_tiny_patch16_224", depth=3, embed_dim=12, num_heads=2, num_classes=0)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    expected = {}
    for group in param_groups_layer_decay(
        model, weight_decay=0.01, layer_decay=0.5, no_weight_decay_list=model.no_weight_decay()
    ):
        # Without a head timm's last norm is the last layer, at the full rate; here a head follows.
        expected |= {names[id(one)]: (group["lr_scale"] / 2, group["weight_decay"]) for one in group["params"]}
    network = nn.ModuleDict({"encoder": model, "head": nn.Linear(12, 3)})
    found = rates(network, layer_decay=0.5, decay_norms_and_biases=False)
    assert {name.removeprefix("encoder."): value for name, value in found.items() if name[:4] != "head"} == expected
    assert (found["head.weight"], found["head.bias"]) == ((1.0, 0.01), (1.0, 0.0))


def test_a_layer_of_another_encoder_is_a_block_and_stems_and_last_norms_belong_to_one() -> None:
    found = layers(smp("resnet34").backbone.encoder)
    blocks = [
        "conv1",
        *(f"layer{stage}.{block}" for stage, count in enumerate((3, 4, 6, 3), 1) for block in range(count)),
    ]
    assert [found[next(name for name in found if name.startswith(f"{block}."))] for block in blocks] == list(range(17))
    assert found["bn1.weight"] == 0


@pytest.mark.parametrize(
    ("encoder", "count", "first", "last"),
    [
        ("mit_b0", 12, "patch_embed1.proj.weight", "norm4.weight"),
        ("mobilenet_v2", 19, "features.0.0.weight", "features.18.1.weight"),
        ("efficientnet-b0", 17, "_conv_stem.weight", "_bn1.weight"),
        ("tu-resnet18", 9, "model.conv1.weight", "model.layer4.1.conv2.weight"),
        ("tu-regnety_002", 14, "model.stem.conv.weight", "model.s4.b7.conv3.conv.weight"),
    ],
)
def test_layers_are_counted_from_the_image_on(encoder: str, count: int, first: str, last: str) -> None:
    found = layers(smp(encoder).backbone.encoder)
    assert sorted(set(found.values())) == list(range(count))
    deep = count - 1 if not last.startswith("norm4") else found["block4.0.norm1.weight"] - 1
    assert (found[first], found[last]) == (0, deep)


def test_the_encoders_factor_multiplies_that_of_its_layers() -> None:
    network = nn.ModuleDict({"encoder": nn.Sequential(*(nn.Linear(2, 2) for _ in range(3))), "head": nn.Linear(2, 2)})
    found = rates(network, layer_decay=0.5, encoder_learning_rate_factor=0.1)
    factors = {name: factor for name, (factor, _) in found.items() if name.endswith("weight")}
    assert factors == pytest.approx(
        {"encoder.0.weight": 0.0125, "encoder.1.weight": 0.025, "encoder.2.weight": 0.05, "head.weight": 1.0}
    )


def test_several_parts_are_layers_in_their_order() -> None:
    network = nn.ModuleDict(
        {"stem": nn.Linear(2, 2), "body": nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), "head": nn.Linear(2, 2)}
    )
    found = rates(network, encoder=["stem", "body"], layer_decay=0.5)
    assert [found[f"{name}.weight"][0] for name in ("stem", "body.0", "body.1", "head")] == [0.125, 0.25, 0.5, 1.0]


def test_the_optimizer_of_a_module_has_these_rates_and_this_decay() -> None:
    optimizer: Any = build(
        optimizer=partial(torch.optim.AdamW, lr=0.1, weight_decay=0.3),
        encoder="head",
        encoder_learning_rate_factor=0.5,
        decay_norms_and_biases=False,
    ).configure_optimizers()
    found = Counter((group["lr"], group["weight_decay"], len(group["params"])) for group in optimizer.param_groups)
    assert found == Counter([(0.05, 0.3, 1), (0.05, 0.0, 1), (0.1, 0.3, 1), (0.1, 0.0, 1)])


def test_a_part_that_the_network_lacks_is_refused_as_the_module_is_built() -> None:
    with pytest.raises(ValueError, match=r"module.encoder=haed is not a part of Network; did you mean head"):
        build(encoder="haed")
