"""Images are normalized as the pretrained weights were trained."""

import copy
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import nn

from lightning_seg.backbones import PadToStride
from lightning_seg.backbones.normalization import IMAGENET, Normalization, declared_normalization
from lightning_seg.launch.derived import follow_normalization
from tests.small_module import build

HALVES = Normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
SMP = {"_target_": "lightning_seg.backbones.segmentation_model", "encoder_weights": "imagenet"}
VIT = {**SMP, "encoder_name": "tu-vit_base_patch16_224"}  # of timm, which declares it without a download


class Timm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pretrained_cfg = HALVES._asdict()


@pytest.mark.parametrize(
    ("network", "config", "expected"),
    [
        (nn.Identity(), VIT, HALVES),
        (nn.Identity(), {**SMP, "encoder_name": "tu-resnet18"}, IMAGENET),
        (nn.Identity(), {**VIT, "encoder_weights": None}, None),
        (PadToStride(nn.Sequential(Timm()), 8), {"_target_": "mine.network", "pretrained": True}, HALVES),
        (PadToStride(nn.Sequential(Timm()), 8), {"_target_": "mine.network", "pretrained": False}, None),
        (nn.Identity(), {"_target_": "torchvision.models.fcn", "weights_backbone": "IMAGENET1K_V1"}, IMAGENET),
        (nn.Identity(), {"_target_": "mine.network", "weights": "best"}, None),
    ],
)
def test_what_a_library_declares_counts_where_weights_are_pretrained(
    network: nn.Module, config: dict[str, Any], expected: Normalization | None
) -> None:
    assert declared_normalization(network, config) == expected


@pytest.mark.parametrize(("space", "expected"), [("RGB", HALVES), ("BGR", None)])
def test_other_units_are_brought_to_those_of_images(
    monkeypatch: pytest.MonkeyPatch, space: str, expected: Normalization | None
) -> None:
    declared = {"input_space": space, "input_range": [0, 255], "mean": [127.5] * 3, "std": [127.5] * 3}
    monkeypatch.setattr(smp.encoders, "get_preprocessing_params", lambda name, weights: declared)
    assert declared_normalization(nn.Identity(), {**SMP, "encoder_name": "resnet34"}) == expected


def followed(backbone: dict[str, Any], normalization: str = "encoder", **given: Any) -> tuple[Any, dict[str, Any], str]:
    numbers = {"mean": list(IMAGENET.mean), "std": list(IMAGENET.std), **given}
    module = build(**copy.deepcopy(numbers))
    config: dict[str, Any] = {
        "normalization": normalization,
        "data": dict(numbers),
        "module": {"backbone": backbone, **numbers},
    }
    return module, config, follow_normalization(module, config)


def test_the_default_gives_way_in_the_module_and_in_what_is_stored_and_it_is_said() -> None:
    module, config, line = followed(VIT)
    assert torch.equal(module.mean, torch.tensor([0.5] * 3))
    assert torch.equal(module.std, torch.tensor([0.5] * 3))
    assert config["module"]["mean"] == config["data"]["std"] == [0.5] * 3
    assert line.startswith(
        "images are normalized by mean [0.5, 0.5, 0.5] and std [0.5, 0.5, 0.5], as for the pretrained"
    )


@pytest.mark.parametrize(
    ("options", "by"),
    [
        ({"normalization": "data"}, "mean [0.485, 0.456, 0.406] and std [0.229, 0.224, 0.225]."),
        ({"mean": [0.1, 0.2, 0.3]}, "mean [0.1, 0.2, 0.3] and std [0.229, 0.224, 0.225]."),
        ({"mean": None, "std": None}, "nothing."),
    ],
)
def test_other_numbers_stay_and_the_disagreement_is_said(options: dict[str, Any], by: str) -> None:
    _, config, line = followed(VIT, **options)
    assert config["module"]["mean"] == options.get("mean", list(IMAGENET.mean))
    assert line.startswith("the pretrained weights were trained with mean [0.5, 0.5, 0.5]")
    assert line.endswith(f"images are normalized by {by}")


@pytest.mark.parametrize("backbone", [{**VIT, "encoder_weights": None}, {**SMP, "encoder_name": "tu-resnet18"}])
def test_nothing_is_said_where_they_agree_or_nothing_is_declared(backbone: dict[str, Any]) -> None:
    _, config, line = followed(backbone)
    assert line == ""
    assert config["module"]["mean"] == list(IMAGENET.mean)


def test_what_cannot_be_looked_up_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(name: str, weights: str) -> Any:
        raise RuntimeError("no connection")

    monkeypatch.setattr(smp.encoders, "get_preprocessing_params", offline)
    assert "cannot be looked up (no connection)" in followed({**SMP, "encoder_name": "resnet34"})[2]
