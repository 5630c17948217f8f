"""Options of the command line that have another name than in the last release; the old ones end with the next."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

# Choices of a group, by the group and the old name.
_CHOICES = {("experiment", "few_shot"): "few_labels", ("augment", "turns"): "d4"}
# Beginnings of keys, with dots.
_KEYS = {"callbacks.costs": "callbacks.resource_usage"}
_PREFIXES = "+~"


def with_current_names(arguments: Sequence[str]) -> list[str]:
    """Arguments of a command with each old name replaced, and one line to stderr for each that was."""
    return [_renamed(argument) for argument in arguments]


def _renamed(argument: str) -> str:
    name, equals, value = argument.partition("=")
    key = name.lstrip(_PREFIXES)
    prefix = name.removesuffix(key)
    # A list of callbacks is [a,b]; the jobs of a sweep are a,b.
    new_value = re.sub(r"[^\[\],]+", lambda choice: _CHOICES.get((key, choice[0]), choice[0]), value)
    for old, new in _KEYS.items():
        if f"{key}.".startswith(f"{old}."):
            key = new + key.removeprefix(old)
    current = f"{prefix}{key}{equals}{new_value}"
    if current != argument:
        command = Path(sys.argv[0]).name
        print(f"{command}: {argument} is now {current}; the old name ends with the next release.", file=sys.stderr)
    return current
