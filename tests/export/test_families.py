"""One network of each family, as ONNX with dynamic sizes; what cannot be is in the room's README.

They have few layers, of which each costs the exporter a second of reasoning about sizes.
"""

import logging
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from segmentation_models_pytorch.encoders import encoders
from torchvision.models import mobilenetv3

from lightning_seg.backbones import PadToStride, segmentation_model
from lightning_seg.export import write_onnx
from lightning_seg.losses import CrossEntropyLoss
from lightning_seg.module import SegmentationModule
from lightning_seg.trust import build_trusted
from tests import small_encoder
from tests.readmes import ROOT

pytestmark = pytest.mark.usefixtures("quick_exports")


def of_smp(architecture, encoder_name="resnet18", **options):
    return segmentation_model(
        architecture, encoder_name=encoder_name, encoder_weights=None, in_channels=3, classes=3, **options
    )


def of_conf(name):
    node = OmegaConf.load(ROOT / "conf" / "backbone" / f"{name}.yaml")
    whole = OmegaConf.create({"backbone": node, "module": {"num_classes": 3}})
    return build_trusted(OmegaConf.to_container(whole.backbone, resolve=True), "network", source=name)


def of_transformers():
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    sizes = {"hidden_sizes": [8], "depths": [1], "num_attention_heads": [2], "decoder_hidden_size": 16}
    config = SegformerConfig(num_labels=3, num_encoder_blocks=1, **sizes)
    return PadToStride(SegformerForSemanticSegmentation(config), 32)


def of_monai():
    from monai.networks.nets import UNet

    return PadToStride(UNet(spatial_dims=2, in_channels=3, out_channels=3, channels=(8, 16), strides=(2,)), 2)


def of_torchvision_fcn():
    from torchvision.models._utils import IntermediateLayerGetter
    from torchvision.models.resnet import BasicBlock, ResNet
    from torchvision.models.segmentation.fcn import FCN, FCNHead

    encoder = IntermediateLayerGetter(ResNet(BasicBlock, [1, 1, 1, 1]), {"layer2": "out"})
    return PadToStride(FCN(encoder, FCNHead(128, 3)), 8)


def of_mobilenet(*arguments: Any, settings=mobilenetv3._mobilenet_v3_conf, **options: Any):
    """A MobileNetV3 of two blocks: the first that halves the size, and the first that is dilated in its place."""
    blocks, last_channel = settings(*arguments, **options)
    halved = next(block for block in blocks if block.stride == 2)
    dilated = next(block for block in blocks if block.dilation == 2)
    dilated.input_channels = halved.out_channels
    return [halved, dilated], last_channel


SMALL_TRANSFORMER = {
    **{"embed_dims": [8] * 4, "out_channels": [3, 0, *[8] * 4], "num_heads": [1, 2, 2, 2]},
    **{"depths": [1] * 4, "sr_ratios": [2, 1, 1, 1]},
}
FAMILIES = {
    "smp.Unet": lambda: of_smp("Unet", encoder_depth=2, decoder_channels=(16, 8)),
    "smp.FPN": lambda: of_smp("FPN", "resnet34", encoder_depth=3, decoder_pyramid_channels=16),
    "smp.DeepLabV3Plus": lambda: of_smp("DeepLabV3Plus", "resnet34", encoder_depth=3, decoder_channels=16),
    "smp.PSPNet": lambda: of_smp("PSPNet", "resnet34", encoder_depth=2, psp_out_channels=16),
    "smp.UPerNet": lambda: of_smp("UPerNet", "resnet34", encoder_depth=3, decoder_channels=16),
    "smp.Segformer": lambda: of_smp("Segformer", "mit_b0", encoder_depth=3, decoder_segmentation_channels=16),
    "timm": lambda: of_smp("Unet", "tu-resnet10t", encoder_depth=2, decoder_channels=(16, 8)),
    "torchvision.fcn": of_torchvision_fcn,
    "torchvision.deeplabv3": lambda: of_conf("deeplabv3_mobilenet_v3_large"),
    "torchvision.lraspp": lambda: of_conf("lraspp_mobilenet_v3_large"),
    "transformers.Segformer": of_transformers,
    "monai.UNet": of_monai,
}


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_network_of_each_family_agrees_at_sizes_that_the_export_has_not_seen(family, tmp_path, monkeypatch):
    small_encoder.replace(monkeypatch, "resnet34")  # the others have their own
    for name, values in SMALL_TRANSFORMER.items():
        monkeypatch.setitem(encoders["mit_b0"]["params"], name, values)
    monkeypatch.setattr(mobilenetv3, "_mobilenet_v3_conf", of_mobilenet)
    torch.manual_seed(0)
    module = SegmentationModule(FAMILIES[family](), CrossEntropyLoss(), num_classes=3).eval()
    agreement = write_onnx(module, tmp_path / "model.onnx")
    assert len(agreement.sizes) >= 3
    assert agreement.equal > 0.999


REFUSED = {
    "smp.PAN": (lambda: of_smp("PAN", "resnet34", decoder_channels=8), "the network cannot be exported"),
}


@pytest.mark.slow
@pytest.mark.parametrize("family", REFUSED)
def test_what_the_readme_lists_as_not_exported_is_one_line_and_leaves_no_file(family, tmp_path, monkeypatch):
    small_encoder.replace(monkeypatch, "resnet34")
    logged: list[logging.LogRecord] = []
    monkeypatch.setattr(logging.Logger, "callHandlers", lambda _, record: logged.append(record))
    make, message = REFUSED[family]
    module = SegmentationModule(make(), CrossEntropyLoss(), num_classes=3).eval()
    with pytest.raises(ValueError, match=message) as raised:
        write_onnx(module, tmp_path / "model.onnx")
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())
    assert [record.getMessage() for record in logged if record.levelno >= logging.WARNING] == []
