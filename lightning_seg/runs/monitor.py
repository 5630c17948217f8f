"""The score that decides which epoch is best: whether it is logged, and whether high or low values are good."""

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any, Literal

from omegaconf import OmegaConf

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


def is_known(config: Mapping[str, Any]) -> bool:
    """Whether what the module logs follows from its configuration, as of those of this package."""
    return str(config["module"].get("_target_")).startswith("lightning_seg.")


def check_monitored(config: Mapping[str, Any], logged: Collection[str] | None = None) -> None:
    """Refuses to monitor what is not logged.

    Args:
        config: composed and resolved.
        logged: what a validation has logged. Default: what follows from the configuration, if anything does.

    Raises:
        ValueError: a name is none that the module logs.
    """
    terms: tuple[str, ...] = ("train/",)  # not known before the training; of ours the terms of a loss
    if logged is None:
        if not is_known(config):
            return
        names = logged_names(config)
        logged = [f"{stage}/{name}" for stage in ("val", "train") for name in names]
        terms = ("train/loss/",)
    for key, name in monitored(config).items():
        if logged and name not in (*logged, *COUNTERS) and not name.startswith(terms):
            raise ValueError(f"{key}={name} is not logged; {_advice(name, logged)}.")


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


def _advice(name: str, logged: Collection[str]) -> str:
    of_validation = sorted((one for one in logged if one.startswith("val/")), key=lambda one: one != "val/loss")
    near = get_close_matches(name, of_validation, 1) or get_close_matches(f"val/{name}", of_validation, 1)
    overall = ", ".join(one for one in of_validation if one.count("/") == 1)
    return (f"did you mean {near[0]}? " if near else "") + f"a validation logs {overall} and those of single classes"
