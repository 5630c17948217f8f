"""Options that have another name now; the old ones work until the next release, with a warning."""

import re
from collections.abc import Sequence

from lightning_seg.text import say

# Each with its value, or the beginning of a key.
_RENAMED = {
    "augment=turns": "augment=d4",
    "augment.dihedral": "augment.d4",
    "callbacks.costs": "callbacks.resource_usage",
    "data.unlabelled_per_image": "data.unlabeled_per_image",
    "experiment=few_shot": "experiment=few_labels",
}


def with_current_names(arguments: Sequence[str]) -> list[str]:
    """Arguments of a command with the names of today; says which were renamed."""
    return [_renamed(argument) for argument in arguments]


def _renamed(argument: str) -> str:
    for old, new in _RENAMED.items():
        group, _, choice = old.partition("=")
        if choice:  # the whole value, or one of a sweep
            pattern = rf"(?<=^{re.escape(group)}=){re.escape(choice)}(?=,|$)|(?<=,){re.escape(choice)}(?=,|$)"
            current = re.sub(pattern, new.partition("=")[2], argument) if argument.startswith(f"{group}=") else argument
        else:  # a key, or what is below it
            current = re.sub(rf"^([+~]*){re.escape(old)}(?=[=.]|$)", rf"\g<1>{new}", argument)
        if current != argument:
            say(f"warning: {old} is now {new}; the old name will be removed in the next release", error=True)
            return current
    return argument
