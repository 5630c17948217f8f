"""What a training derives from its data and its network, in place of what its configuration leaves open."""

from collections.abc import Callable
from typing import Any

import torch

from lightning_seg.backbones.normalization import IMAGENET, Normalization, declared_normalization
from lightning_seg.backbones.transformers_models import check_config, config_to_store
from lightning_seg.runs.kept import BESIDE

_OF_A_HUB = ".transformers_model"


def insert_class_weights(node: Any, estimate: Callable[[str], list[float]]) -> None:
    """Replaces the name of an estimate, wherever a configuration has one as `class_weights`, by its numbers."""
    for name, value in node.items() if isinstance(node, dict) else enumerate(node):
        if name in BESIDE:
            continue
        if name == "class_weights" and isinstance(value, str):
            node[name] = estimate(value)
        elif isinstance(value, dict | list):
            insert_class_weights(value, estimate)


def insert_names(config: dict[str, Any], datamodule: Any) -> None:
    """Keeps class names and palette of the data module, if it has any, where the configuration leaves them open.

    The palette is kept by itself too, for predictions: not every data module has a key for it.
    """
    for name in ("class_names", "palette"):
        for part in (config["data"], config["module"]):
            if name in part and part[name] is None:
                part[name] = getattr(datamodule, name, None)
            if name == "class_names" and isinstance(part.get(name), list):
                part[name] = [str(one) for one in part[name]]  # 1 is a name, too
    config["palette"] = getattr(datamodule, "palette", None)


def insert_normalization(config: dict[str, Any], datamodule: Any) -> None:
    """Replaces `auto` as mean and standard deviation by what the training images have.

    Raises:
        ValueError: the data module measures none.
    """
    parts = [part for part in (config["data"], config["module"]) if "auto" in (part.get("mean"), part.get("std"))]
    if not parts:
        return
    if not hasattr(datamodule, "measure_normalization"):
        raise ValueError("data.mean=auto is measured by data modules of lightning_seg: give numbers for yours.")
    mean, std = datamodule.measure_normalization()
    for part in parts:
        part["mean"], part["std"] = mean, std


def insert_network_configs(node: Any) -> None:
    """Stores the whole configuration of a network from a hub, so that a checkpoint builds it without a download."""
    for value in node.values() if isinstance(node, dict) else node:
        if isinstance(value, dict) and str(value.get("_target_")).endswith(_OF_A_HUB) and "architecture" in value:
            check_config(value["architecture"], value.get("config"))
            if value.get("pretrained"):
                value["config"] = config_to_store(value["architecture"], value.get("config"), value["pretrained"])
        elif isinstance(value, dict | list):
            insert_network_configs(value)


def follow_normalization(module: Any, config: dict[str, Any]) -> str:
    """Lets a module normalize images as the pretrained weights of its network were trained.

    Only in the place of the default; other numbers stay, such as those of a data set.

    Returns:
        One line where the two differ; "" where they do not, or the weights declare nothing.
    """
    given = config["module"].get("mean"), config["module"].get("std")
    now = None if None in given else Normalization(*map(tuple, given))
    try:
        declared = declared_normalization(module.backbone, config["module"].get("backbone") or {})
    except OSError as error:
        return f"what mean and std the pretrained weights were trained with cannot be looked up ({error})."
    if declared is None or (now is not None and declared.agrees(now)):
        return ""
    if config["normalization"] == "data" or now is None or not now.agrees(IMAGENET):
        return f"the pretrained weights were trained with {declared}, and images are normalized by {now or 'nothing'}."
    for name, values in declared._asdict().items():
        setattr(module, name, torch.tensor(values))
        for part in ("module", "data"):
            if name in config[part]:
                config[part][name] = list(values)
    return (
        f"images are normalized by {declared}, as for the pretrained weights, and not by {now}; normalization=data "
        "keeps data.mean and data.std."
    )
