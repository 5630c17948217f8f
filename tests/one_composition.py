"""Lets a command compose its configuration once.

Hydra composes it before it runs a command, too, to read `hydra.mode`, which nothing but a launcher sets. It is a sixth
of what a command of one short epoch takes.
"""

from typing import Any

from hydra._internal.hydra import Hydra

_composed_mode = Hydra.get_mode


def get_mode(self: Hydra, config_name: str | None, overrides: list[str]) -> Any:
    """`Hydra.get_mode`, which is None where no argument can set it."""
    may_set_it = any("launcher" in override or "hydra" in override for override in overrides)
    return _composed_mode(self, config_name, overrides) if may_set_it else None
