"""Reading checkpoints: modules from files, without running anything that a file brings along."""

import inspect
import pickle
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate

from lightning_seg.module import SegmentationModule

CONFIG_KEY = "lightning_seg"

# What a stored configuration may build. Narrow on purpose: torch.hub, for example, would fetch and run code.
TRUSTED = (
    "lightning_seg.backbones",
    "lightning_seg.consistency",
    "lightning_seg.data",
    "lightning_seg.losses",
    "lightning_seg.module",
    "lightning.pytorch.strategies",
    "lightning.pytorch.trainer",
    "segmentation_models_pytorch.decoders",
    "torch.distributed.fsdp.wrap",
    "torch.nn.modules",
    "torchvision.models",
    "torchvision.transforms.v2",
)

# Arguments that download weights; a checkpoint has its own.
_PRETRAINED = ("encoder_weights", "weights", "weights_backbone", "pretrained")


def load_module(
    path: str | Path, *, trusted: Sequence[str] = (), map_location: str | torch.device = "cpu"
) -> SegmentationModule:
    """The trained module of a checkpoint of `lightning-seg-train`, in evaluation mode.

    Nothing in the file is executed: the weights are read with `weights_only=True`, and the configuration may only build
    classes and functions defined in trusted packages.

    Args:
        path: the checkpoint.
        trusted: packages of your own that the configuration may also build from, for example `["my_research"]`.
        map_location: the device to load to.

    Returns:
        A module whose call takes images `(N, channels, H, W)` of float in [0, 1] and gives logits `(N, classes, H, W)`.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is not a checkpoint of `lightning-seg-train`, or names a target that is not trusted.
    """
    checkpoint = read_checkpoint(path, map_location=map_location)
    module = build_trusted(module_config(checkpoint["config"]), trusted=trusted, source=str(path))
    if not isinstance(module, SegmentationModule):
        raise ValueError(f"{path} describes a {type(module).__name__}, which is not a SegmentationModule.")
    module.load_state_dict(checkpoint["state_dict"])
    module.set_epoch(checkpoint["epoch"])
    return module.to(map_location).eval()


def read_checkpoint(path: str | Path, *, map_location: str | torch.device = "cpu") -> dict[str, Any]:
    """The `config` (resolved, plain containers), the `state_dict` and the `epoch`, counted from 0, of a checkpoint.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is not a checkpoint of `lightning-seg-train`.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"checkpoint={path} does not exist; a run keeps its own in RUN/checkpoints/best.ckpt.")
    try:
        content = torch.load(path, map_location=map_location, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} cannot be read as a checkpoint without running code from it: {reason}") from error
    if not isinstance(content, dict) or CONFIG_KEY not in content or "state_dict" not in content:
        raise ValueError(
            f"{path} holds no configuration, so it was not written by lightning-seg-train: "
            "build the module yourself and give it the file's state_dict."
        )
    return {
        "config": content[CONFIG_KEY]["config"],
        "state_dict": content["state_dict"],
        "epoch": content.get("epoch", 0),
    }


def module_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """What builds the module of a stored configuration for use: no optimizer, and no download of weights."""
    config = {name: value for name, value in config["module"].items() if name not in ("optimizer", "scheduler")}
    config["backbone"] = _without_downloads(config["backbone"])
    return config


def _without_downloads(node: Any) -> Any:
    """A backbone's configuration, and those of the networks inside it, without pretrained weights."""
    if isinstance(node, Mapping):
        return {
            name: (False if name == "pretrained" else None) if name in _PRETRAINED else _without_downloads(value)
            for name, value in node.items()
        }
    return [_without_downloads(value) for value in node] if isinstance(node, list | tuple) else node


def build_trusted(config: Mapping[str, Any], *, trusted: Sequence[str] = (), source: str) -> Any:
    """What a stored configuration describes, if each of its targets is defined in a trusted package.

    Args:
        config: plain containers with `_target_`, as Hydra's `instantiate` takes them.
        trusted: packages besides the built-in ones.
        source: where the configuration comes from, for the message.

    Raises:
        ValueError: a target is not trusted, or a value is computed; nothing was built.
    """
    for key, value in _leaves(config):
        if isinstance(value, str) and "${" in value:
            # A stored configuration is resolved. OmegaConf would compute this, and could make a new target of it.
            raise ValueError(
                f"{source} holds {key}={value!r}, a computed value, which a stored configuration never has."
            )
        if key == "_target_" and not _is_trusted(value, (*TRUSTED, *trusted)):
            raise ValueError(
                f"{source} asks to build {value!r}, which no trusted package defines: if you trust the file, name the "
                f"package that defines it, for example trusted=[{str(value).split('.')[0]}]."
            )
    return instantiate(config)


def _leaves(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a configuration that is not a container, with its key."""
    if isinstance(node, Mapping):
        for name, value in node.items():
            yield from _leaves(value, name)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _leaves(value, key)
    else:
        yield key, node


def _is_trusted(target: Any, packages: Sequence[str]) -> bool:
    """Whether a dotted name is that of a class or function defined in one of the packages.

    Where it is defined counts, not how it is reached: a trusted package's modules hold `os` too.
    """
    if not isinstance(target, str) or target.split(".")[0] not in {package.split(".")[0] for package in packages}:
        return False
    found = _locate(target)
    is_plain = inspect.isclass(found) or (inspect.isfunction(found) and found.__name__ == found.__qualname__)
    return is_plain and any(f"{found.__module__}.".startswith(f"{package}.") for package in packages)


def _locate(target: str) -> Any:
    """The object of a dotted name, or None."""
    names = target.split(".")
    try:
        found: Any = import_module(names[0])
        for count, name in enumerate(names[1:], start=2):
            if not hasattr(found, name):
                import_module(".".join(names[:count]))
            found = getattr(found, name)
    except (ImportError, AttributeError):
        return None
    return found
