"""Each family of networks trains, offline, on images of any size, and is loaded from a checkpoint."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_seg import SegmentationModule, load_module
from lightning_seg.backbones.extras import required
from lightning_seg.backbones.gradients import folded
from lightning_seg.checkpoint import check_loadable
from lightning_seg.launch.building import build

CLASSES = 4
STEPS = 20
ANY = ((50, 70), (33, 41))
SQUARE = ((32, 32),)
SWIN = {
    **{"model_type": "swin", "embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "window_size": 4},
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}
VIT = {
    **{"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 32},
    **{"image_size": 32, "patch_size": 16},
}
QUERIES = {"backbone_config": SWIN, "mask_feature_size": 32}


@dataclass
class Family:
    """A network, with the parameters that its library never uses, and the sizes of images that it takes."""

    target: str
    options: dict[str, Any]
    auxiliary: bool = False
    unused: list[str] = field(default_factory=list)
    sizes: tuple[tuple[int, int], ...] = ANY

    @property
    def config(self) -> dict[str, Any]:
        backbone = {"_target_": f"lightning_seg.backbones.{self.target}", **self.options}
        loss = {"_target_": "lightning_seg.losses.CrossEntropyDiceLoss", "ignore_index": 255}
        module = {"_target_": "lightning_seg.SegmentationModule", "backbone": backbone, "loss": loss}
        return {"module": {**module, "num_classes": CLASSES, "ignore_index": 255}}


def smp(architecture: str, encoder: str, **options: Any) -> dict[str, Any]:
    kind = {"architecture": architecture, "encoder_name": encoder, "encoder_weights": None}
    return {**kind, "in_channels": 3, "classes": CLASSES, **options}


def of(architecture: str, **options: Any) -> dict[str, Any]:
    return {"architecture": architecture, "classes": CLASSES, **options}


def transformers(architecture: str, **config: Any) -> dict[str, Any]:
    return {"architecture": architecture, "config": {"num_labels": CLASSES, **config}}


FAMILIES = {
    "smp": Family("segmentation_model", smp("Unet", "tu-test_resnet", decoder_channels=[32, 32, 16, 16, 16])),
    "smp with a transformer of timm": Family(
        "segmentation_model",
        smp("DPT", "tu-test_vit", decoder_fusion_channels=16, decoder_intermediate_channels=[16] * 4),
        unused=["backbone.encoder.model.head", "backbone.encoder.model.norm"],
    ),
    "timm: ConvNeXt": Family("timm_model", of("test_convnext", width=16)),
    "timm: DINOv2": Family("timm_model", of("vit_small_patch14_dinov2", width=16, embed_dim=32, depth=3, num_heads=2)),
    "timm: DINOv3": Family("timm_model", of("vit_small_patch16_dinov3", width=16, embed_dim=48, depth=3, num_heads=2)),
    "timm: Swin": Family(
        "timm_model",
        of("swin_tiny_patch4_window7_224", width=16, embed_dim=16, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2]),
    ),
    "torchvision": Family("torchvision_model", of("lraspp_mobilenet_v3_large")),
    "torchvision with an auxiliary head": Family(
        "torchvision_model", of("deeplabv3_mobilenet_v3_large", aux_loss=True), auxiliary=True
    ),
    "transformers: SegFormer": Family(
        "transformers_model",
        transformers(
            "SegformerForSemanticSegmentation",
            **{"hidden_sizes": [8, 16, 16, 16], "depths": [1, 1, 1, 1], "decoder_hidden_size": 16},
        ),
    ),
    "transformers: UperNet": Family(
        "transformers_model",
        transformers(
            "UperNetForSemanticSegmentation",
            **{"backbone_config": SWIN, "hidden_size": 16, "auxiliary_in_channels": 32, "auxiliary_channels": 8},
        ),
        auxiliary=True,
        unused=["backbone.backbone.swin.layernorm"],
    ),
    "transformers: BEiT": Family(
        "transformers_model",
        transformers("BeitForSemanticSegmentation", out_indices=[0, 1, 2, 3], use_mask_token=False, **VIT),
        auxiliary=True,
    ),
    "transformers: DPT": Family(
        "transformers_model",
        transformers(
            "DPTForSemanticSegmentation",
            **{"backbone_out_indices": [0, 1, 2, 3], "neck_hidden_sizes": [8, 8, 16, 16], "fusion_hidden_size": 16},
            **VIT,
        ),
        auxiliary=True,
        unused=["backbone.backbone.dpt.layernorm", "backbone.backbone.neck.fusion_stage.layers.0.residual_layer1"],
        sizes=SQUARE,
    ),
    "transformers: MobileViT": Family(
        "transformers_model",
        transformers(
            "MobileViTForSemanticSegmentation",
            **{"hidden_sizes": [16, 20, 24], "neck_hidden_sizes": [8, 8, 16, 16, 24, 24, 32]},
            **{"num_attention_heads": 2, "aspp_out_channels": 16, "atrous_rates": [1, 2, 3]},
        ),
    ),
    "transformers: Mask2Former": Family(
        "transformers_model",
        transformers(
            "Mask2FormerForUniversalSegmentation",
            **{"hidden_dim": 32, "feature_size": 32, "num_queries": 8, "num_attention_heads": 2, "encoder_layers": 1},
            **{"decoder_layers": 2, "dim_feedforward": 16, "encoder_feedforward_dim": 16},
            **QUERIES,
        ),
        unused=["backbone.model.pixel_level_module.encoder.swin.layernorm"],
    ),
    "transformers: EoMT": Family(
        "transformers_model",
        transformers("EomtForUniversalSegmentation", num_queries=8, num_blocks=1, num_upscale_blocks=1, **VIT),
        sizes=SQUARE,
    ),
    "monai": Family("monai_model", of("UNet", channels=[4, 8, 16], strides=[2, 2])),
    "monai: a stack of deep supervision": Family(
        "monai_model",
        of(
            "DynUNet",
            **{"kernel_size": [3, 3, 3, 3], "strides": [1, 2, 2, 2], "upsample_kernel_size": [2, 2, 2]},
            **{"filters": [4, 8, 8, 8], "deep_supervision": True, "deep_supr_num": 2},
        ),
        auxiliary=True,
    ),
    "monai: a list of deep supervision": Family(
        "monai_model", of("SegResNetDS", init_filters=8, blocks_down=[1, 2, 2], dsdepth=2), auxiliary=True
    ),
}


def batch(side: int) -> tuple[Tensor, Tensor]:
    """Two images with a square of each class, whose color tells it, and some void pixels."""
    mask = torch.zeros(2, side, side, dtype=torch.long)
    mask[0, : side // 2, : side // 2], mask[1, side // 2 :], mask[1, : side // 4] = 1, 2, 3
    image = torch.stack([mask == 1, mask == 2, mask == 3], 1) + 0.1 * torch.rand(2, 3, side, side)
    mask[:, -2:] = 255
    return image, mask


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("family", FAMILIES.values(), ids=list(FAMILIES))
def test_it_trains_with_a_gradient_in_every_parameter_and_is_loaded_from_a_checkpoint(
    family: Family, tmp_path: Path
) -> None:
    pytest.importorskip({"transformers_model": "transformers", "monai_model": "monai"}.get(family.target, "torch"))
    torch.manual_seed(0)
    module: SegmentationModule = build(family.config["module"])
    check_loadable(family.config, module)
    image, mask = batch(32)
    optimizer = torch.optim.AdamW(module.parameters(), lr=3e-3)
    losses: list[float] = []
    for _ in range(STEPS):
        loss = module.training_step((image, mask), 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
        if losses[-1] < 0.8 * losses[0]:
            break
    assert losses[-1] < losses[0]
    assert ("auxiliary" in module.loss_terms) == family.auxiliary
    without = [name for name, one in module.named_parameters() if one.grad is None]
    assert [name.removeprefix("backbone.") for name in folded(without, module)] == family.unused

    path = tmp_path / "one.ckpt"
    torch.save({"state_dict": module.state_dict(), "lightning_seg": {"config": family.config}, "epoch": 0}, path)
    loaded, module = load_module(path), module.eval()
    with torch.inference_mode():
        for size in family.sizes:
            odd = torch.rand(1, 3, *size)
            assert module(odd).shape == (1, CLASSES, *size)
            torch.testing.assert_close(loaded(odd), module(odd))


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        (
            "timm_model",
            of("convnext_tiniest"),
            "architecture='convnext_tiniest' is not a model of timm: did you mean conv",
        ),
        (
            "torchvision_model",
            of("unet"),
            "architecture='unet' does not exist; there are deeplabv3_mobilenet_v3_large, ",
        ),
        (
            "torchvision_model",
            of("lraspp_mobilenet_v3_large", weights_backbone="imagenet"),
            "backbone.weights_backbone=imagenet does not exist: use IMAGENET1K_V1",
        ),
        (
            "torchvision_model",
            of("lraspp_mobilenet_v3_large", in_channels=4),
            r"has no backbone\.in_channels: its networks",
        ),
        ("segmentation_model", smp("Unet", "resnet18", activation="softmax"), "would change the logits"),
        ("torchvision_model", of("lraspp_mobilenet_v3_large", width=4), r"has no backbone\.width\."),
        ("torchvision_model", of("lraspp_mobilenet_v3_large", aux_loss=True), "has no auxiliary head: use aux_loss=f"),
        ("transformers_model", transformers("AutoModel"), "architecture='AutoModel' is not one of BeitFor"),
        (
            "transformers_model",
            transformers("UperNetForSemanticSegmentation", backbone="org/name"),
            "config.backbone=org/name names what would be downloaded whenever a checkpoint is loaded",
        ),
        ("monai_model", of("Transchex"), "architecture='Transchex' is not one of Attent"),
    ],
)
def test_what_does_not_exist_is_said(target: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message):  # as Hydra wraps it
        build({"_target_": f"lightning_seg.backbones.{target}", **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"architecture": "SegResNet", "kernel_size": [3], "strides": [1]},
         r"SegResNet has no kernel_size, strides, .* ~backbone\.kernel_size ~backbone\.strides, and .*blocks_down"),
        ({"architecture": "UNet"}, r"UNet needs backbone\.channels=VALUE and backbone\.strides=VALUE"),
    ],
)  # fmt: skip
def test_keys_of_another_network_of_monai_are_named(options: dict[str, Any], message: str) -> None:
    from lightning_seg.backbones import monai_model

    with pytest.raises(ValueError, match=message):
        monai_model(classes=CLASSES, **options)


@pytest.mark.parametrize(
    ("architecture", "config", "message"),
    [
        ("SegformerForSemanticSegmentation", {"hidden_sizess": [8]},
         r"SegformerConfig has no backbone\.config\.hidden_sizess: did you mean backbone\.config\.hidden_sizes\?"),
        ("UperNetForSemanticSegmentation", {"backbone_config": {"model_type": "swin", "embed_dimm": 8}},
         r"SwinConfig has no backbone\.config\.backbone_config\.embed_dimm: did you mean .*embed_dim\?"),
    ],
)  # fmt: skip
def test_a_configuration_that_transformers_would_not_use_is_refused(
    architecture: str, config: dict[str, Any], message: str
) -> None:
    from lightning_seg.launch.derived import insert_network_configs

    target = "lightning_seg.backbones.transformers_model"
    with pytest.raises(ValueError, match=message):
        insert_network_configs({"backbone": {"_target_": target, "architecture": architecture, "config": config}})


@pytest.mark.parametrize(
    ("architecture", "config"),
    [
        ("BeitForSemanticSegmentation", {"attn_implementation": "eager", "hidden_size": 8}),
        ("UperNetForSemanticSegmentation", {"use_timm_backbone": False}),
        ("UperNetForSemanticSegmentation", {"backbone": "org/name"}),  # for which it is refused when it is built
    ],
)
def test_names_that_transformers_reads_and_does_not_keep_are_taken(architecture: str, config: dict[str, Any]) -> None:
    from lightning_seg.backbones.transformers_models import check_config

    check_config(architecture, config)


@pytest.mark.parametrize(("module", "extra"), [("monai.networks.nets", "monai"), ("transformers", "transformers")])
def test_a_library_that_is_missing_is_named_with_its_extra(
    module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf'this backbone needs {extra}: pip install "lightning-seg\[{extra}\]"'):
        required(module)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_network_of_a_hub_is_stored_so_that_it_is_built_without_it(tmp_path: Path) -> None:
    from lightning_seg.backbones.transformers_models import config_to_store, transformers_model
    from lightning_seg.launch.derived import insert_network_configs

    options = FAMILIES["transformers: UperNet"].options
    small = {**options["config"], "num_labels": 7, "id2label": {index: f"a; b/{index}" for index in range(7)}}
    hub = transformers_model(options["architecture"], config=small)
    hub.backbone.save_pretrained(tmp_path / "hub")
    config = FAMILIES["transformers: UperNet"].config
    own = {"num_labels": CLASSES}
    config["module"]["backbone"] |= {"config": own, "pretrained": str(tmp_path / "hub")}
    insert_network_configs(config["module"])
    assert config["module"]["backbone"]["config"] == config_to_store(
        options["architecture"], own, str(tmp_path / "hub")
    )
    module = build(config["module"])
    weights = [one.backbone.backbone.state_dict() for one in (module.backbone, hub)]
    assert all(torch.equal(weights[0][name], value) for name, value in weights[1].items())
    (tmp_path / "hub").rename(tmp_path / "gone")
    check_loadable(config, module)
    torch.save({"state_dict": module.state_dict(), "lightning_seg": {"config": config}}, tmp_path / "one.ckpt")
    image = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(load_module(tmp_path / "one.ckpt")(image), module.eval()(image))
