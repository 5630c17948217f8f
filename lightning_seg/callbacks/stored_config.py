"""The run's configuration inside its checkpoints."""

from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import PurePath
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from lightning_seg.runs.identity import is_secret
from lightning_seg.runs.kept import LEFT_OUT

# What of a trainer changes the scores; all else is where and how they are computed.
SCORED_WITH = ("precision", "limit_test_batches", "limit_val_batches")


class StoredConfig(Callback):
    """Puts `{"config": config, "version": version of this package}` under "lightning_seg" in every checkpoint.

    Args:
        config: the resolved configuration. Mappings and sequences become plain dicts and lists, so that
            `torch.load(weights_only=True)` reads them.

    Raises:
        TypeError: something in it is not a str, int, float, bool, None or a container of these.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = _plain(config, "config")

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Adds the configuration."""
        checkpoint["lightning_seg"] = {"config": self.config, "version": _version()}


def read_again(config: Mapping[str, Any], from_environment: Collection[str] = ()) -> dict[str, Any]:
    """The part of a training's configuration that evaluation and prediction read from its checkpoint.

    The rest, such as the run's folder, callbacks and loggers, tells of the machine, and stays in the run's config.yaml.
    So do absolute paths of the data, secrets, and what comes from environment variables: `LEFT_OUT` stands for them.

    Args:
        config: composed and resolved.
        from_environment: keys whose values come from environment variables.
    """
    trainer = {name: config["trainer"][name] for name in SCORED_WITH if name in config["trainer"]}
    kept = {name: config[name] for name in ("module", "data", "palette") if name in config}
    if "data" in kept:
        kept["data"] = _without_paths(kept["data"])
    return {name: _without(part, name, from_environment) for name, part in {**kept, "trainer": trainer}.items()}


def _without_paths(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_paths(part) for name, part in value.items()}
    texts = [value] if isinstance(value, str) else value if isinstance(value, list | tuple) else []
    is_path = any(isinstance(text, str) and PurePath(text).is_absolute() for text in texts)
    return LEFT_OUT if is_path else value


def _without(value: Any, key: str, from_environment: Collection[str]) -> Any:
    if key in from_environment or (isinstance(value, str) and is_secret(key)):
        return LEFT_OUT
    if isinstance(value, Mapping):
        return {name: _without(part, f"{key}.{name}", from_environment) for name, part in value.items()}
    return value


def _plain(value: Any, name: str) -> Any:
    if isinstance(value, Mapping):
        for key in value:
            if type(key) is not str:
                raise TypeError(f"{name} has the key {key!r} of type {type(key).__name__}: keys must be str.")
        return {key: _plain(item, f"{name}.{key}") for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(item, f"{name}[{index}]") for index, item in enumerate(value)]
    # Subclasses (numpy.float64, enums) would need code to be read back.
    if value is None or type(value) in (str, int, float, bool):
        return value
    raise TypeError(
        f"{name} is a {type(value).__name__}, which a checkpoint cannot hold as data: "
        "make it a str, int, float, bool, None, or a dict or list of these."
    )


def _version() -> str:
    try:
        return version("lightning-seg")
    except PackageNotFoundError:  # a checkout on the path that was never installed
        return "unknown"
