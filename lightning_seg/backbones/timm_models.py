"""The models of timm as encoders, with a small head, for images of any size."""

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lightning_seg.backbones.outputs import resized
from lightning_seg.backbones.stride import PadToStride

_LEVELS = 4  # the coarsest ones of an encoder that has more


def timm_model(
    architecture: str,
    *,
    pretrained: bool = False,
    in_channels: int = 3,
    classes: int,
    width: int = 128,
    **options: Any,
) -> PadToStride:
    """Any model of timm that gives features, with a `FeatureHead`.

    Args:
        architecture: for example `convnext_tiny`, `vit_small_patch14_dinov2.lvd142m`, `vit_small_patch16_dinov3`.
        pretrained: whether to download the weights of that name.
        in_channels: channels of the image; pretrained weights are adapted to them.
        classes: channels of the logits.
        width: channels of the head.
        **options: passed to `timm.create_model`, for example `drop_path_rate`, or `out_indices`, the blocks whose
            features the head takes.

    Raises:
        ValueError: there is no such model.
    """
    import timm  # here: it takes seconds, and a network of one's own needs none of it

    if not timm.is_model(architecture):
        near = ", ".join(get_close_matches(architecture, timm.list_models(), n=3))
        raise ValueError(f"{architecture=} is not a model of timm{f': did you mean {near}?' if near else '.'}")
    build: Callable[..., Any] = partial(
        timm.create_model, architecture, pretrained=pretrained, features_only=True, in_chans=in_channels
    )
    try:
        encoder = build(**{"dynamic_img_size": True, **options})  # else a vision transformer takes one size
    except TypeError as error:
        if "dynamic_img_size" not in str(error):
            raise
        encoder = build(**options)
    return PadToStride(EncoderWithHead(encoder, classes, width), stride=max(encoder.feature_info.reduction()))


class EncoderWithHead(nn.Module):
    """An encoder of timm, and a head.

    Args:
        encoder: made with `features_only=True`.
        classes: channels of the logits.
        width: channels of the head.
    """

    def __init__(self, encoder: Any, classes: int, width: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.channels_come_last = str(getattr(encoder, "output_fmt", "")).endswith("NHWC")
        self.head = FeatureHead(encoder.feature_info.channels()[-_LEVELS:], classes, width)

    def forward(self, image: Tensor) -> Tensor:
        """Logits `(N, classes, H', W')` of images `(N, channels, H, W)`, at the size of the finest feature taken."""
        features = self.encoder(image)[-_LEVELS:]
        if self.channels_come_last:
            features = [feature.permute(0, 3, 1, 2) for feature in features]
        logits: Tensor = self.head(features)
        return logits


class FeatureHead(nn.Module):
    """Features, each brought to the same number of channels and the size of the finest, added up and classified.

    Args:
        channels: of each feature.
        classes: channels of the logits.
        width: channels in between.
    """

    def __init__(self, channels: Sequence[int], classes: int, width: int) -> None:
        super().__init__()
        self.projections = nn.ModuleList(nn.Conv2d(count, width, 1) for count in channels)
        self.classify = nn.Sequential(
            nn.GroupNorm(1, width),
            nn.Conv2d(width, width, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(width, classes, 1),
        )

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Logits of features `(N, channels, H', W')`, from fine to coarse."""
        size = features[0].shape[2:]
        projected = [project(feature) for project, feature in zip(self.projections, features, strict=True)]
        logits: Tensor = self.classify(torch.stack([resized(feature, size) for feature in projected]).sum(0))
        return logits
