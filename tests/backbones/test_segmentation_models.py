"""Networks of segmentation-models-pytorch."""

import pytest
import segmentation_models_pytorch as smp
import torch

from lightning_seg.backbones import segmentation_model


def build(architecture="Unet", encoder_name="mobilenet_v2", **options):
    return segmentation_model(
        architecture, encoder_name=encoder_name, encoder_weights=None, in_channels=3, classes=4, **options
    ).eval()


@pytest.mark.parametrize("architecture", ["Unet", "FPN", "DeepLabV3Plus", "Segformer"])
def test_every_architecture_takes_odd_sizes(architecture):
    with torch.no_grad():
        assert build(architecture)(torch.rand(1, 3, 45, 67)).shape == (1, 4, 45, 67)


def test_at_multiples_of_the_stride_it_is_the_plain_network():
    network = build()
    image = torch.rand(1, 3, 64, 32)
    assert isinstance(network.backbone, smp.Unet)
    with torch.no_grad():
        assert torch.equal(network(image), network.backbone(image))


def test_a_shallow_encoder_pads_less():
    network = build(encoder_depth=3, decoder_channels=(16, 8, 8))
    assert network.stride == 8
    with torch.no_grad():
        assert network(torch.rand(1, 3, 9, 15)).shape == (1, 4, 9, 15)


@pytest.mark.parametrize(
    ("architecture", "encoder_name", "stride"),
    [("DeepLabV3Plus", "mobilenet_v2", 16), ("PSPNet", "mobilenet_v2", 8), ("DPT", "tu-vit_tiny_patch16_224", 32)],
)
def test_it_pads_to_the_stride_that_the_network_declares(architecture, encoder_name, stride):
    options = {"decoder_fusion_channels": 8, "decoder_intermediate_channels": (8,) * 4} if architecture == "DPT" else {}
    network = build(architecture, encoder_name, **options)
    assert network.stride == stride
    with torch.no_grad():
        assert network(torch.rand(1, 3, stride + 1, 3 * stride)).shape == (1, 4, stride + 1, 3 * stride)


def test_an_unknown_architecture_lists_those_that_exist():
    with pytest.raises(ValueError, match=r"architecture='UNet' does not exist; there are .*DeepLabV3Plus.*Unet"):
        build("UNet")


def test_an_unknown_encoder_lists_those_that_exist():
    with pytest.raises(
        ValueError, match=r"'resnet35' does not exist; did you mean resnet.*\? there are .*resnet18.*tu-<name>"
    ):
        build(encoder_name="resnet35")
