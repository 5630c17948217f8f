"""The configuration of a run as files, loggers and pages hold it: nothing of the environment, and no secrets."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_seg.runs.identity import is_machine, is_place, is_secret

LEFT_OUT = "???"  # Hydra's mark of what must be given
FROM_ENVIRONMENT = "from_environment"  # of a composed configuration: what to write in place of the values, by key
GIVEN = "given"  # of a composed configuration: what was typed, by key
BESIDE = (FROM_ENVIRONMENT, GIVEN)  # what goes with a composed configuration and is no part of it
ENVIRONMENT = "environment"  # of a kept one: marks of the values, by key
_MARK = 4  # hexadecimal digits: one of 65,536 other values goes unnoticed, and no more is told of the value


def as_kept(config: Mapping[str, Any]) -> dict[str, Any]:
    """A composed and resolved configuration without secrets, and with `${oc.env:NAME}` where it was written.

    Whether a variable that a result depends on is still the same is told by a short mark of its value, under
    `environment`.

    Args:
        config: what it has from the environment is under `from_environment`, by key with dots.
    """
    written = dict(config.get(FROM_ENVIRONMENT) or {})
    if "runs" in written and config.get("folder"):
        written["folder"] = f"{written['runs']}/{Path(config['folder']).name}"
    marks: dict[str, str] = {}
    own = {name: value for name, value in config.items() if name not in BESIDE}
    kept = {name: _written(value, name, written, marks) for name, value in own.items()}
    return {**kept, ENVIRONMENT: marks} if marks else kept


def is_written(value: object) -> bool:
    """Whether a kept value is the name of an environment variable, or a text with one, and not what it stands for."""
    return "${" in str(value)


def _written(value: Any, key: str, written: Mapping[str, Any], marks: dict[str, str]) -> Any:
    if key in written:
        if not is_place(key) and not is_machine(key):
            text = json.dumps([key.removeprefix("module."), value], sort_keys=True, default=str)
            marks[key] = hashlib.sha256(text.encode()).hexdigest()[:_MARK]
        return written[key]
    if isinstance(value, str) and is_secret(key):
        return LEFT_OUT
    if isinstance(value, Mapping):
        return {name: _written(part, f"{key}.{name}", written, marks) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_written(part, f"{key}.{index}", written, marks) for index, part in enumerate(value)]
    return value
