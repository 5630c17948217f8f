"""Options that have another name now; the old ones work until the next release, with a warning."""

import sys
from collections.abc import Sequence

# Each with its value, or the beginning of a key.
_RENAMED = {
    "augment=turns": "augment=d4",
    "augment.dihedral": "augment.d4",
    "callbacks.costs": "callbacks.resource_usage",
    "experiment=few_shot": "experiment=few_labels",
}


def with_current_names(arguments: Sequence[str]) -> list[str]:
    """Arguments of a command with the names of today; says which were renamed."""
    return [_renamed(argument) for argument in arguments]


def _renamed(argument: str) -> str:
    option = argument.lstrip("+~")
    for old, new in _RENAMED.items():
        ends = (",",) if "=" in old else ("=", ".")  # of one choice in a sweep, or of a key
        if option == old or option.startswith(tuple(old + end for end in ends)):
            print(f"warning: {old} is {new} now; the old name will go with the next release", file=sys.stderr)
            return argument.replace(old, new, 1)
    return argument
