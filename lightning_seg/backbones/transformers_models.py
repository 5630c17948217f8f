"""The segmentation networks of transformers, built from plain values, so that a checkpoint builds them again."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn

from lightning_seg.backbones.extras import required
from lightning_seg.backbones.mask_classification import MaskClassification
from lightning_seg.backbones.outputs import network_output
from lightning_seg.backbones.stride import PadToStride

# What a stored configuration is not built from: names of repositories, of classes in them, and of labels.
_LEFT_OUT = ("architectures", "auto_map", "dtype", "torch_dtype", "transformers_version", "id2label", "label2id")
# What a checkpoint may name.
SEGMENTS = frozenset(
    {
        *(f"{name}ForSemanticSegmentation" for name in ("Beit", "DPT", "Data2VecVision", "MobileNetV2", "MobileViT")),
        *(f"{name}ForSemanticSegmentation" for name in ("MobileViTV2", "Segformer", "UperNet")),
        *(f"{name}ForUniversalSegmentation" for name in ("Eomt", "EomtDinov3", "Mask2Former")),
        "MaskFormerForInstanceSegmentation",
    }
)
_BY_QUERIES = ("ForUniversalSegmentation", "ForInstanceSegmentation")


def transformers_model(
    architecture: str, *, config: Mapping[str, Any] | None = None, pretrained: str | None = None
) -> nn.Module:
    """A segmentation network of transformers.

    Those of queries (MaskFormer, Mask2Former, EoMT) give logits by `MaskClassification`. An auxiliary head (UperNet,
    BEiT, DPT) gives auxiliary logits. Where the network cuts images into patches, they are padded to whole ones.

    Args:
        architecture: the class, for example `SegformerForSemanticSegmentation`.
        config: arguments of its configuration, for example `num_labels`, the channels of the logits, and `num_channels`
            of the image. Default: as the library, or the pretrained network, has them.
        pretrained: a repository of the hub, or a folder. Weights that do not fit, as of other classes, are left out.

    Raises:
        ImportError: transformers is not installed.
        ValueError: there is no such network, or its configuration would have to be downloaded.
    """
    network_class = _network_class(architecture)
    settings = _settings(network_class, config or {}, pretrained)
    if pretrained:
        network = network_class.from_pretrained(
            pretrained, config=settings, ignore_mismatched_sizes=True, dtype=torch.float32
        )
    else:
        network = network_class(settings)
    by_queries = architecture.endswith(_BY_QUERIES)
    wrapped = MaskClassification(network) if by_queries else WithAuxiliaryHead(network)
    patch = getattr(settings, "patch_size", None)
    return PadToStride(wrapped, patch) if isinstance(patch, int) and patch >= 8 else wrapped


def config_to_store(
    architecture: str, config: Mapping[str, Any] | None = None, pretrained: str | None = None
) -> dict[str, Any]:
    """The whole configuration of a network as plain values, by which `transformers_model` builds it with no download.

    Args:
        architecture: as of `transformers_model`, and so all others.
        config: likewise.
        pretrained: likewise.
    """
    return _stored(_settings(_network_class(architecture), config or {}, pretrained))


def check_config(architecture: str, config: Mapping[str, Any] | None) -> None:
    """Refuses a configuration with a name that the network does not know, and would keep and not use.

    Raises:
        ValueError: it has one, or there is no such network.
    """
    _check_names(_network_class(architecture).config_class, config or {}, "backbone.config")


class WithAuxiliaryHead(nn.Module):
    """A network of transformers, which keeps the logits of its auxiliary head for a loss of its own, with them.

    Args:
        backbone: a network whose output has `logits`, and which perhaps has an `auxiliary_head`.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Logits `(N, classes, H', W')` of images `(N, channels, H, W)`; those of the auxiliary head follow, if any."""
        head = getattr(self.backbone, "auxiliary_head", None)
        if not isinstance(head, nn.Module) or not self.training:
            return network_output(self.backbone(image), image.ndim - 2).logits
        kept: list[Tensor] = []
        hook = head.register_forward_hook(lambda module, inputs, output: kept.append(output))
        try:
            output = self.backbone(image)
        finally:
            hook.remove()
        return (network_output(output, image.ndim - 2).logits, *kept)


def _network_class(architecture: str) -> Any:
    found = getattr(required("transformers"), architecture, None)
    if found is None or architecture not in SEGMENTS:
        raise ValueError(
            f"{architecture=} is not one of {', '.join(sorted(SEGMENTS))}; another network of transformers is built by "
            "a function of your own, backbone=custom backbone._target_=my_package.network."
        )
    return found


def _settings(network_class: Any, config: Mapping[str, Any], pretrained: str | None) -> Any:
    if isinstance(config.get("backbone"), str):
        raise ValueError(
            f"config.backbone={config['backbone']} names what would be downloaded whenever a checkpoint is loaded: "
            "describe it in config.backbone_config, {model_type: convnext, depths: [...], ...}."
        )
    kind = network_class.config_class
    below = _stored(kind.from_pretrained(pretrained)) if pretrained else {}
    return kind(**_merged(below, config))


def _check_names(kind: Any, config: Mapping[str, Any], place: str) -> None:
    known = kind()
    for name, value in config.items():
        if not hasattr(known, str(name)) and _is_only_kept(kind, str(name), value):
            near = get_close_matches(str(name), [one for one in vars(known) if not one.startswith("_")], n=1)
            hint = f": did you mean {place}.{near[0]}?" if near else "; its documentation lists what it has."
            raise ValueError(f"{kind.__name__} has no {place}.{name}{hint}")
        if isinstance(value, Mapping) and isinstance(value.get("model_type"), str):
            kinds = required("transformers").CONFIG_MAPPING
            if value["model_type"] in kinds:
                _check_names(kinds[value["model_type"]], value, f"{place}.{name}")


def _is_only_kept(kind: Any, name: str, value: Any) -> bool:
    """Whether a configuration takes a name that it does not know, and does nothing but keep it."""
    if name == "backbone":
        return False  # it may be looked up, and is refused for that
    try:
        return hasattr(kind(**{name: value}), name)
    except Exception:  # it reads the value, and building it says what is wrong
        return False


def _stored(settings: Any) -> dict[str, Any]:
    stored = _plain(settings.to_diff_dict())
    stored.pop("model_type", None)
    return {**stored, "num_labels": settings.num_labels}


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """One mapping over another, key by key."""
    both = [
        name for name, value in above.items() if isinstance(value, Mapping) and isinstance(below.get(name), Mapping)
    ]
    return {**below, **above, **{name: _merged(below[name], above[name]) for name in both}}


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in config.items() if name not in _LEFT_OUT and not name.startswith("_")}
    return {name: _plain(value) if isinstance(value, Mapping) else value for name, value in kept.items()}
