"""The networks of MONAI, for images of any size."""

import inspect
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from lightning_seg.backbones.extras import required
from lightning_seg.backbones.stride import PadToStride

# Those that segment, and load no weights as they are made: what a checkpoint may name.
FROM_VALUES = frozenset(
    {
        *("AttentionUnet", "BasicUNet", "BasicUNetPlusPlus", "BasicUnet", "BasicUnetPlusPlus", "DynUNet"),
        *("DynUnet", "FlexibleUNet", "MedNeXt", "SegResNet", "SegResNetDS", "SegResNetVAE", "SwinUNETR", "UNETR"),
        *("UNet", "Unet", "VNet"),
    }
)
_STRIDES = {"BasicUNet": 16, "BasicUNetPlusPlus": 16, "VNet": 16, "SwinUNETR": 32, "FlexibleUNet": 32}
_USUAL = 32  # a multiple of the strides of nearly all others


def monai_model(
    architecture: str,
    *,
    spatial_dims: int = 2,
    in_channels: int = 3,
    classes: int,
    stride: int | None = None,
    **options: Any,
) -> PadToStride:
    """A network of `monai.networks.nets` for images of any size.

    Args:
        architecture: for example `UNet`, `SegResNet`, `DynUNet` (with `deep_supervision`, whose further outputs are
            auxiliary logits), `SwinUNETR`.
        spatial_dims: of the image.
        in_channels: channels of the image.
        classes: channels of the logits.
        stride: the sides of what the network gets are multiples of it. Default: as its arguments say, the product of
            `strides` for example.
        **options: passed to the network.

    Raises:
        ImportError: MONAI is not installed.
        ValueError: there is no such network, or it takes other arguments.
    """
    networks = required("monai.networks.nets")
    build = getattr(networks, architecture, None)
    if build is None or architecture not in FROM_VALUES:
        raise ValueError(
            f"{architecture=} is not one of {', '.join(sorted(FROM_VALUES))}; another network of MONAI is built by "
            f"backbone=custom backbone._target_=monai.networks.nets.{architecture}."
        )
    takes = {
        name: one for name, one in inspect.signature(build).parameters.items() if one.kind is not one.VAR_POSITIONAL
    }
    is_open = any(one.kind is one.VAR_KEYWORD for one in takes.values())
    unknown = [name for name in options if name not in takes and not is_open]
    if unknown:
        raise ValueError(
            f"{architecture} has no {', '.join(unknown)}, keys of another network: take them out, "
            f"{' '.join(f'~backbone.{name}' for name in unknown)}, and give what it has: {', '.join(takes)}."
        )
    lacking = [
        name
        for name, one in takes.items()
        if one.default is one.empty
        and one.kind is not one.VAR_KEYWORD
        and name not in {*options, "spatial_dims", "in_channels", "out_channels"}
    ]
    if lacking:
        raise ValueError(f"{architecture} needs {' and '.join(f'backbone.{name}=VALUE' for name in lacking)}.")
    network = build(spatial_dims=spatial_dims, in_channels=in_channels, out_channels=classes, **options)
    return PadToStride(network, stride=stride or _stride(architecture, options))


def _stride(architecture: str, options: Mapping[str, Any]) -> int:
    strides = options.get("strides")
    if isinstance(strides, Sequence):
        return prod(max(map(int, one)) if isinstance(one, Sequence) else int(one) for one in strides)
    if isinstance(options.get("blocks_down"), Sequence):
        return int(2 ** (len(options["blocks_down"]) - 1))
    return _STRIDES.get(architecture, _USUAL)
