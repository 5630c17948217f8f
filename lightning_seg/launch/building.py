"""What a configuration describes, built."""

from collections.abc import Mapping
from typing import Any

from hydra.utils import instantiate


def build(config: Mapping[str, Any], **given: Any) -> Any:
    """What a part of a configuration describes, with plain lists and dicts as arguments, which libraries check for.

    Args:
        config: with `_target_`. `_convert_` in it, or in a part of it, asks for other containers (see Hydra).
        **given: further arguments.
    """
    return instantiate({"_convert_": "all", **config}, **given)
