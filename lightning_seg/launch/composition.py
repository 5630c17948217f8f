"""What is wrong with the choices of a command line, in one line and in the words of the command line."""

import re
from collections.abc import Sequence
from importlib import resources
from typing import Any

from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf

from lightning_seg.schema import did_you_mean
from lightning_seg.schema.nearest import nearest

CONFIG = "lightning_seg.conf"


def explained(error: Exception, config_name: str, arguments: Sequence[str]) -> str | None:
    """One line for what Hydra or OmegaConf says of a command line; None where theirs is as good.

    Args:
        error: what they raised.
        config_name: of the command.
        arguments: of the command line.
    """
    message = " ".join(str(error).split())
    if isinstance(error, OverrideParseException):
        return _unreadable(str(error.override), message)
    if isinstance(error, MissingConfigException):
        return _unknown_choice(error)
    found = re.search(r"Could not override '(.+?)'\.|Could not delete from config\. '(.+?)' does not exist", message)
    if found:
        key = found[1] or found[2]
        return f"there is no {key}{_of_another_choice(key) or did_you_mean(key, _composed(config_name, arguments))}"
    found = re.search(r"An item is already at '(.+?)'|Multiple values for (\S+?)\. ", message)
    if found:
        key = found[1] or found[2]
        return f"+{key} would add what is there already: write {key}=VALUE, without the plus, to change it."
    found = re.search(r"Ambiguous value for argument '(.+?)=(.+)' 1\.", message)
    if found:
        key, value = found[1], found[2]
        return f"{key}={value} is several values: -m trains with each of them, and {key}=[{value}] is one list."
    found = re.search(r"Interpolation key '(.+?)' not found full_key: (\S+)", message)
    if found:
        return f"{found[2]} takes its value from ${{{found[1]}}}, and there is no {found[1]}."
    found = re.search(r"Missing mandatory value: (\S+)(?: full_key: (\S+))?", message)
    if found:
        key = found[1] if "." in found[1] else found[2] or found[1]
        return f"{key} must be given: {key}=VALUE."
    return None


def typed_words(kind: str = "task") -> list[str]:
    """The overrides of the command line as they were typed, with `${...}`.

    Args:
        kind: `task`, or `hydra` for those of Hydra's own settings.
    """
    words = OmegaConf.to_container(getattr(HydraConfig.get().overrides, kind))
    assert isinstance(words, list)
    return [str(word) for word in words]


def choices(group: str) -> list[str]:
    """The names that a group of `conf/` chooses from."""
    folder = resources.files(CONFIG) / group
    return sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))


def _of_another_choice(key: str) -> str:
    """How the message about a key ends that other choices of its group have: with up to three of them."""
    group, _, name = key.partition(".")
    if not name or not _is_group(group):
        return ""
    found = []
    for choice in choices(group):
        node: Any = OmegaConf.load(str(resources.files(CONFIG) / group / f"{choice}.yaml"))
        for part in name.split("."):
            node = node._get_node(part) if isinstance(node, DictConfig) and part in list(node) else None
        if node is not None:
            found.append(f"{group}=[default,{choice}]" if group == "callbacks" else f"{group}={choice}")
    return f": it is a key of {' or '.join(found[:3])}." if found else ""


def _unreadable(override: str, message: str) -> str:
    key, equals, value = override.partition("=")
    if not equals or "missing EQUAL" in message:
        return f"{override} is not a choice: write key=value."
    if key != key.strip() or value != value.strip() or not key:
        return f"{override!r} is not a choice: write key=value, without spaces around the equals sign."
    if not re.fullmatch(r"[~+]{0,2}[\w$./@-]*[\w$-]", key):
        return f"{override} is not a choice: {key} cannot be a key."
    return f"{override} cannot be read: put quotes around a value with special characters, '{key}=\"{value}\"'."


def _unknown_choice(error: MissingConfigException) -> str | None:
    group, _, choice = str(error.missing_cfg_file or "").rpartition("/")
    group = group.lstrip("/")
    try:
        there = [str(one) for one in error.options or choices(group)]
    except (OSError, NotADirectoryError):
        return None
    near = nearest(choice, there)
    meant = f": did you mean {near[0]}?" if near else "."
    return f"{group}={choice} is not one of {', '.join(there)}{meant}"


def _composed(config_name: str, arguments: Sequence[str]) -> DictConfig:
    """The configuration with the choices of groups only, those of them that can be composed."""
    chosen = [word for word in arguments if re.fullmatch(r"\w+=[\w,\[\]]+", word) and _is_group(word.split("=")[0])]
    for overrides in (chosen, []):
        GlobalHydra.instance().clear()
        with initialize_config_module(CONFIG, version_base="1.3"):
            try:
                return compose(config_name, overrides)
            except HydraException:
                continue
    return OmegaConf.create()


def _is_group(key: str) -> bool:
    return (resources.files(CONFIG) / key).is_dir()
