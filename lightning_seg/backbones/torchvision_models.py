"""The segmentation networks of torchvision."""

import inspect
from typing import Any

from torch import nn
from torchvision.models import get_model_builder, list_models, segmentation


def torchvision_model(
    architecture: str, *, weights_backbone: str | None = None, aux_loss: bool = False, classes: int, **options: Any
) -> nn.Module:
    """A segmentation network of torchvision, for images of any size.

    Args:
        architecture: for example `deeplabv3_resnet50`, `fcn_resnet50`, `lraspp_mobilenet_v3_large`.
        weights_backbone: the name of pretrained weights of its encoder, for example `IMAGENET1K_V1`, or None.
        aux_loss: whether it has an auxiliary head.
        classes: channels of the logits.
        **options: passed to the network.

    Raises:
        ValueError: there is no such network, there are no such weights, it has no auxiliary head, or no such option.
    """
    architectures = list_models(module=segmentation)
    if architecture not in architectures:
        raise ValueError(f"architecture={architecture!r} does not exist; there are {', '.join(architectures)}.")
    if aux_loss and architecture.startswith("lraspp"):
        raise ValueError(f"aux_loss=true, but {architecture} has no auxiliary head: use aux_loss=false.")
    builder = get_model_builder(architecture)
    unknown = [name for name in options if name not in inspect.signature(builder).parameters]
    if unknown:  # which torchvision takes and does not use
        ways = ": its networks take 3 channels; others take any, backbone=unet, timm or monai" * (
            "in_channels" in unknown
        )
        raise ValueError(f"{architecture} has no backbone.{unknown[0]}{ways}.")
    given = {} if architecture.startswith("lraspp") else {"aux_loss": aux_loss}
    try:
        network: nn.Module = builder(
            weights=None, weights_backbone=weights_backbone, num_classes=classes, **given, **options
        )
    except KeyError as error:  # of its enumeration of weights
        raise ValueError(f"backbone.weights_backbone={error.args[0]} does not exist: use IMAGENET1K_V1.") from None
    return network
