"""The score that decides which epoch is best: whether it is logged, and whether high or low values are good."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Literal

from omegaconf import OmegaConf

# Modules whose validation logs what follows from the task and the classes.
_OURS = ("lightning_seg.SegmentationModule", "lightning_seg.ConsistencyModule")
_OURS_IN_FULL = ("lightning_seg.module.SegmentationModule", "lightning_seg.consistency.ConsistencyModule")
_HIGHEST = ("iou", "dice", "accuracy")
COUNTERS = ("epoch", "step")


def known_mode(monitor: str | None) -> Literal["max", "min"] | None:
    """Whether the highest or the lowest value is best, by the name: `val/iou`, `val/loss`; None if it does not tell."""
    stage, _, rest = str(monitor).partition("/")
    kind = rest.split("/")[0] or stage
    if kind in (*_HIGHEST, *COUNTERS):
        return "max"
    return "min" if "loss" in kind.lower() else None


def monitor_mode(
    monitor: str | None, asked: str | None = None, other: str | None = None, other_mode: str | None = None
) -> str:
    """What is asked for, or what the name tells, or else `max`; `${lightning_seg.mode:...}` in `conf/`.

    Args:
        monitor: the name.
        asked: `max` or `min`, if that is asked for.
        other: what another callback monitors; if it is the same, so is the mode.
        other_mode: the mode of that one.

    Raises:
        ValueError: what is asked for is neither max nor min.
    """
    if asked not in (None, "max", "min"):
        raise ValueError(f"monitor_mode={asked} is not one of max, min, null.")
    return asked or (other_mode if monitor == other else None) or known_mode(monitor) or "max"


OmegaConf.register_new_resolver("lightning_seg.mode", monitor_mode, replace=True)


def check_monitored(config: Mapping[str, Any]) -> None:
    """Refuses to monitor what is not logged, as far as a composed and resolved configuration tells.

    Raises:
        ValueError: a name is none that the module logs.
    """
    if config["module"].get("_target_") not in (*_OURS, *_OURS_IN_FULL):
        return
    names = logged_names(config)
    for key, name in monitored(config).items():
        stage, _, score = name.partition("/")
        is_term = stage == "train" and score.startswith("loss/")
        if not (stage in ("train", "val") and score in names) and not is_term and name not in COUNTERS:
            raise ValueError(f"{key}={name} is not logged; {_advice(name, names)}.")


def logged_names(config: Mapping[str, Any]) -> list[str]:
    """What `SegmentationModule` logs of a stage, without the stage."""
    import torch

    from lightning_seg.metrics import segmentation_metrics

    module = config["module"]
    task, classes = module["task"], int(module["num_classes"])
    names = module.get("class_names") or [str(index) for index in range(classes)]
    metrics = segmentation_metrics(task, classes, module.get("ignore_index"), [str(name) for name in names])
    shape = (1, 1, 1) if task == "multiclass" else (1, classes, 1, 1)
    metrics.update(torch.zeros(1, classes, 1, 1), torch.zeros(shape, dtype=torch.int64))
    return ["loss", *metrics.compute()]


def check_direction(config: Mapping[str, Any], module: Any) -> None:
    """Refuses a direction that nobody asked for and that neither the name nor the module's metric tells.

    Args:
        config: composed and resolved.
        module: what it has built.

    Raises:
        ValueError: it is not known, or the metric says the opposite.
    """
    if config["monitor_mode"] is not None:
        return
    for key, name in monitored(config).items():
        if known_mode(name) is not None:
            continue
        metrics = dict((getattr(module, "val_metrics", None) or {}).items())  # by their logged names
        higher = getattr(metrics.get(name), "higher_is_better", None)
        if not higher:
            known = "lower values are better by its metric" if higher is False else "its name does not tell it"
            raise ValueError(
                f"{key}={name}: are high or low values better? {known}; say monitor_mode=max or monitor_mode=min."
            )


def save_where_logged(callbacks: Mapping[str, Any]) -> None:
    """Lets callbacks that monitor a score of the training look at it when the epoch's training has ended."""
    options = {"ModelCheckpoint": "save_on_train_epoch_end", "BestCheckpoint": "save_on_train_epoch_end"}
    options["EarlyStopping"] = "check_on_train_epoch_end"
    for callback in callbacks.values():
        option = options.get(str((callback or {}).get("_target_")).split(".")[-1])
        if option is not None and str(callback.get("monitor")).startswith("train/"):
            callback.setdefault(option, True)


def monitored(config: Mapping[str, Any]) -> dict[str, str]:
    """What is monitored, by the key that says so; what follows `monitor` is not named again."""
    found = {"monitor": config["monitor"]}
    parts = {f"callbacks.{name}": part for name, part in (config.get("callbacks") or {}).items()}
    for key, part in {**parts, "scheduler": config.get("scheduler")}.items():
        if isinstance(part, Mapping) and part.get("monitor") not in (None, config["monitor"]):
            found[f"{key}.monitor"] = part["monitor"]
    return {key: str(name) for key, name in found.items()}


def _advice(name: str, names: list[str]) -> str:
    logged = [f"val/{score}" for score in names]
    near = get_close_matches(name, logged, 1) or get_close_matches(f"val/{name}", logged, 1)
    overall = ", ".join(one for one in logged if one.count("/") == 1)
    return (f"did you mean {near[0]}? " if near else "") + f"a validation logs {overall} and those of single classes"
