"""Which part of a network is the pretrained one."""

from collections.abc import Callable

import pytest
from torch import nn

from lightning_seg.backbones import MaskClassification, PadToStride, encoder_names, find_encoder, segmentation_model
from lightning_seg.backbones.encoder import described_encoder


def network(**parts: nn.Module) -> nn.Module:
    return nn.ModuleDict(parts)


def part() -> nn.Module:
    return nn.Conv2d(3, 4, 1)


def smp(architecture: str = "Unet", encoder: str = "resnet18") -> nn.Module:
    return segmentation_model(architecture, encoder_name=encoder, encoder_weights=None, in_channels=3, classes=3)


def torchvision() -> nn.Module:
    from torchvision.models.segmentation import lraspp_mobilenet_v3_large

    return lraspp_mobilenet_v3_large(weights_backbone=None)


def transformers(name: str, **options: object) -> nn.Module:
    library = pytest.importorskip("transformers")
    small = {
        "hidden_size": 8,
        "num_hidden_layers": 12,
        "num_attention_heads": 2,
        "intermediate_size": 8,
        "num_labels": 3,
    }
    network: nn.Module = getattr(library, f"{name}ForSemanticSegmentation")(
        getattr(library, f"{name}Config")(**{**small, **options})
    )
    return network


def upernet() -> nn.Module:
    library = pytest.importorskip("transformers")
    body = library.ConvNextConfig(
        hidden_sizes=[4, 4, 4, 4], depths=[1] * 4, out_features=["stage1", "stage2", "stage3", "stage4"]
    )
    network: nn.Module = library.UperNetForSemanticSegmentation(
        library.UperNetConfig(backbone_config=body, hidden_size=8, auxiliary_channels=8)
    )
    return network


def monai(name: str, **options: object) -> nn.Module:
    networks = pytest.importorskip("monai.networks.nets")
    network: nn.Module = getattr(networks, name)(spatial_dims=2, in_channels=3, out_channels=3, **options)
    return network


@pytest.mark.parametrize(
    ("build", "names"),
    [
        (lambda: network(encoder=part(), head=part()), ["encoder"]),
        (lambda: network(backbone=part(), head=part()), ["backbone"]),
        (lambda: network(encoder=network(encoder=part(), stem=part())), ["encoder"]),
        (lambda: network(backbone=network(backbone=part(), head=part())), ["backbone.backbone"]),
        (lambda: network(backbone=network(stem=part(), encoder=part()), head=part()), ["backbone"]),
        (lambda: network(pixels=network(encoder=part(), decoder=network(encoder=part()))), ["pixels.encoder"]),
        (lambda: MaskClassification(network(encoder=part(), head=part())), ["backbone.encoder"]),
        (smp, ["backbone.encoder"]),
        (torchvision, ["backbone"]),
        (
            lambda: PadToStride(transformers("Segformer", num_hidden_layers=4, num_attention_heads=[1, 2, 5, 8]), 32),
            ["backbone.segformer"],
        ),
        (lambda: transformers("Beit", out_indices=[3, 5, 7, 11]), ["beit"]),
        (lambda: transformers("Data2VecVision"), ["data2vec_vision"]),
        (lambda: transformers("DPT", neck_hidden_sizes=[8] * 4, fusion_hidden_size=8), ["dpt"]),
        (lambda: transformers("MobileViT", neck_hidden_sizes=[8] * 7), ["mobilevit"]),
        (upernet, ["backbone"]),
        (lambda: monai("SwinUNETR", feature_size=12), ["swinViT"]),
        (lambda: monai("SegResNet"), ["convInit", "down_layers"]),
        (lambda: monai("BasicUNet"), ["conv_0", "down_1", "down_2", "down_3", "down_4"]),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, list) else "",
)
def test_the_pretrained_part_is_found(build: Callable[[], nn.Module], names: list[str]) -> None:
    assert encoder_names(build()) == names


def test_a_stem_belongs_to_it() -> None:
    network = upernet()
    assert isinstance(network.backbone, nn.Module)
    assert find_encoder(network) is network.backbone
    assert any("embeddings" in name for name, _ in find_encoder(network).named_parameters())


def test_it_is_described_by_its_names_and_how_much_of_the_network_it_is() -> None:
    assert described_encoder(network(encoder=part(), head=part())) == "encoder, 16 of 32 parameters"
    several = network(stem=part(), layers=part(), head=part())
    assert described_encoder(several, ["stem", "layers"]) == "stem and layers, 32 of 48 parameters"


@pytest.mark.parametrize("name", ["head.1", "backbone.head.1"])
def test_a_name_is_looked_up_within_wrappers_and_as_the_module_has_it(name: str) -> None:
    inner = network(head=nn.Sequential(part(), part()))
    assert find_encoder(PadToStride(inner, 4), name) is inner.head[1]


def test_several_names_are_one_encoder() -> None:
    inner = network(stem=part(), layers=part(), head=part())
    found = find_encoder(inner, ["stem", "layers"])
    assert {id(one) for one in found.parameters()} == {
        id(one) for one in (*inner.stem.parameters(), *inner.layers.parameters())
    }


@pytest.mark.parametrize(
    ("build", "encoder", "message"),
    [
        (part, "auto", r"Conv2d has no part called encoder or backbone: .* module.encoder=NAME.* has no parts\."),
        (lambda: network(body=part(), head=part()), "auto", r"it has body \(16 parameters\), head \(16 parameters\)\."),
        (
            lambda: network(rgb=network(encoder=part()), depth=network(encoder=part())),
            "auto",
            r"several parts .*module.encoder=\[depth.encoder,rgb.encoder\]",
        ),
        (
            lambda: PadToStride(network(encoder=part(), head=part()), 4),
            "encodr",
            "module.encoder=encodr is not a part of ModuleDict; did you mean encoder",
        ),
        (
            lambda: network(encoder=nn.Identity(), head=part()),
            "encoder",
            r"module.encoder=encoder \(Identity\) has no parameters",
        ),
    ],
)
def test_what_cannot_be_found_is_asked_for_by_what_is_there(
    build: Callable[[], nn.Module], encoder: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        find_encoder(build(), encoder)
