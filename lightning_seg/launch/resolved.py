"""A composed configuration as plain data, and what of it comes from environment variables."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.resolvers import oc

from lightning_seg.runs.kept import FROM_ENVIRONMENT


def resolved(config: DictConfig) -> dict[str, Any]:
    """The configuration as plain containers, with nothing left to interpolate."""
    container = _with_text_keys(OmegaConf.to_container(config, resolve=True, throw_on_missing=True))
    assert isinstance(container, dict)
    return container


def with_environment(config: DictConfig) -> dict[str, Any]:
    """The configuration, resolved, with what to write where it has values of environment variables."""
    return {**resolved(config), FROM_ENVIRONMENT: from_environment(config)}


def from_environment(config: DictConfig) -> dict[str, Any]:
    """What comes from environment variables, by whatever interpolations: by key with dots, and as it was written."""
    if "oc.env" not in str(OmegaConf.to_container(config)):
        return {}
    config = config.copy()
    if config.get("folder"):  # it follows, but was set
        config.folder = f"${{runs}}/{Path(config.folder).name}"
    OmegaConf.register_new_resolver(
        "oc.env", lambda *words: "${oc.env:" + ",".join(map(str, words)) + "}", replace=True
    )
    try:
        return {key: value for key, value in _written(config, "") if "${oc.env:" in str(value)}
    finally:
        OmegaConf.register_new_resolver("oc.env", oc.env, replace=True)


def _with_text_keys(node: Any) -> Any:
    """A configuration whose keys are text (`data.values` has numbers), as checkpoints hold it."""
    if isinstance(node, dict):
        return {str(name): _with_text_keys(value) for name, value in node.items()}
    return [_with_text_keys(value) for value in node] if isinstance(node, list) else node


def _written(node: DictConfig, key: str) -> Iterator[tuple[str, Any]]:
    """The values below a node, with variables by their names, by key with dots; lists are values."""
    raw: Any = OmegaConf.to_container(node, resolve=False)
    for name in raw:
        path = f"{key}.{name}" if key else str(name)
        own = raw[name]
        try:
            value = node[name]
            if isinstance(value, ListConfig):
                value = OmegaConf.to_container(value, resolve=True)
        except Exception:  # a resolver that a variable's name does not suit
            value = own
        if isinstance(value, DictConfig):
            yield from _written(value, path)
        else:
            yield path, own if "${oc.env:" in str(own) else value
