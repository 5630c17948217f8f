"""Packages of the user's own, which lie where the command is called."""

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

_IN_WORDS = re.compile(r"""(?:_target_['"]?\s*[=:]\s*['"]?|hydra\.utils.*?[=:]\s*['"]?|pkg://)([A-Za-z_][\w.]*)""")


def find_own_packages(names: Iterable[str]) -> None:
    """Lets modules of the current folder be imported, after all that is installed, if one of them is asked for.

    Else they are not, since a folder may come from a stranger: what is installed looks for much that may be missing.

    Args:
        names: of packages, or of what is in them.
    """
    here = Path.cwd()
    roots = {root for name in names if (root := name.split(".")[0]).isidentifier()}
    own = (root for root in roots if (here / f"{root}.py").is_file() or (here / root).is_dir())
    if str(here) not in sys.path and any(root not in sys.modules and find_spec(root) is None for root in own):
        sys.path.append(str(here))


def named_in_words(words: Iterable[str]) -> list[str]:
    """What words of a command line ask to be built, or to be searched for configuration."""
    return [name for word in words for name in _IN_WORDS.findall(word)]


def named_in_composed(composed: DictConfig) -> list[str]:
    """What a composed configuration asks to be built, `${...}` resolved where it can be."""
    try:
        plain = OmegaConf.to_container(composed, resolve=True)
    except OmegaConfBaseException:  # which is said later
        plain = OmegaConf.to_container(composed)
    return list(named_in_config(plain))


def named_in_config(node: Any) -> Iterator[str]:
    """What a configuration, in plain containers, asks to be built."""
    if isinstance(node, Mapping):
        target = node.get("_target_")
        names = node.values() if str(target).startswith("hydra.utils.") else [target]  # which look up what others name
        yield from (name for name in names if isinstance(name, str))
    for value in node.values() if isinstance(node, Mapping) else node if isinstance(node, list) else ():
        yield from named_in_config(value)
