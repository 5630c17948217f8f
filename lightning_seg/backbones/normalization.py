"""The normalization of images that pretrained weights were made with."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import nn

_WEIGHTS = ("encoder_weights", "weights", "weights_backbone", "pretrained")  # arguments that ask for them


class Normalization(NamedTuple):
    """Per channel, in units of images in [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def agrees(self, other: "Normalization") -> bool:
        """Whether no pixel differs by more than rounding."""
        pairs = zip((*self.mean, *self.std), (*other.mean, *other.std), strict=False)
        return len(self.mean) == len(other.mean) and all(abs(one - its) < 1e-3 for one, its in pairs)

    def __str__(self) -> str:
        return f"mean {_listed(self.mean)} and std {_listed(self.std)}"


IMAGENET = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def declared_normalization(network: nn.Module, config: Mapping[str, Any]) -> Normalization | None:
    """What the pretrained weights of a network were trained with, as its library declares it.

    Args:
        network: as it was built.
        config: what it was built of, with `_target_`.

    Returns:
        That of segmentation-models-pytorch, timm or torchvision; None without pretrained weights, or where it is not
        declared.

    Raises:
        OSError: segmentation-models-pytorch declares it in a file that cannot be had, as without a connection.
    """
    if not any(weights_asked_for(config).values()):
        return None
    target = str(config.get("_target_"))
    if config.get("encoder_weights") and config.get("encoder_name") and "segmentation_model" in target:
        return _of_smp(str(config["encoder_name"]), str(config["encoder_weights"]))
    for part in network.modules():
        declared = getattr(part, "pretrained_cfg", None)
        if isinstance(declared, Mapping) and declared.get("mean") and declared.get("std"):
            return Normalization(tuple(declared["mean"]), tuple(declared["std"]))
    return IMAGENET if target.startswith("torchvision.") else None


def weights_asked_for(config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a network that ask for pretrained weights, with what they are; none if it has no such one."""
    return {name: config[name] for name in _WEIGHTS if name in config}


def _of_smp(encoder: str, weights: str) -> Normalization | None:
    from segmentation_models_pytorch.encoders import get_preprocessing_params  # it takes seconds

    try:
        found = get_preprocessing_params(encoder, weights)
    except Exception as error:  # of the connection, of the hub's client, of weights that declare nothing
        raise OSError(next(iter(str(error).splitlines()), "") or type(error).__name__) from error
    highest = max(found["input_range"])
    if found["input_space"] != "RGB":
        return None
    return Normalization(*(tuple(value / highest for value in found[name]) for name in ("mean", "std")))


def _listed(values: tuple[float, ...]) -> str:
    return f"[{', '.join(f'{value:.4g}' for value in values)}]"
