"""What a run is: which keys of its configuration say what it computes, and which only where that happens.

One table serves resuming a run, naming it, and grouping runs in the report.
"""

import re
from collections.abc import Mapping, Sequence
from math import inf
from typing import Any

# Where a run is kept and how it is watched: whatever these are, it computes the same.
_PLACES = (
    *("run", "runs", "folder", "run_id", "resume", "logger", "launcher", "local", "data.num_workers", "data.distances"),
    *("monitor_mode", "test", "find_learning_rate"),
    *("trainer.default_root_dir", "trainer.log_every_n_steps", "trainer.num_sanity_val_steps", "trainer.profiler"),
    *("trainer.enable_progress_bar", "trainer.enable_model_summary", "trainer.detect_anomaly"),
)
# Callbacks that only watch; any other one, such as early stopping, is part of what a run is.
_WATCHING = (
    *("pictures", "validation", "progress", "curves", "confusion", "details", "resource_usage", "last"),
    *("model_summary", "lr_monitor"),
)
# What it computes on, which may change when it is resumed, as on another machine.
_MACHINE = (
    *(
        "data.root",
        "data.path",
        "sync_dist",
        "trainer.accelerator",
        "trainer.devices",
        "trainer.num_nodes",
        "trainer.strategy",
    ),
    *("trainer.sync_batchnorm", "on_nonfinite", "max_skipped_steps"),
    *("compile", "channels_last", "gradient_checkpointing"),
)
# Names under which services take what nobody else may know.
_SECRET = re.compile(r"(\w*_)?(api_?key|access_key|secret|secret_key|password|passwd)|((api|access|auth|hf)_)?token")


def is_secret(key: str) -> bool:
    """Whether a key, with dots, has the name of a secret, such as `logger.api_key`."""
    return _SECRET.fullmatch(key.split(".")[-1].lower()) is not None


def is_place(key: str) -> bool:
    """Whether a key, with dots, says where a run is kept or how it is watched, which secrets do not change either."""
    if is_secret(key):
        return True
    group, _, rest = key.partition(".")
    if group == "callbacks":
        name, _, option = rest.partition(".")
        # Paths hold the run's folder; names and colors come from the data.
        return name in ("", *_WATCHING) or option in ("dirpath", "path", "class_names", "palette")
    return _is_below(key, _PLACES)


def is_machine(key: str) -> bool:
    """Whether a key says what a run computes on."""
    return _is_below(key, _MACHINE) or key.split(".")[-1] == "sync_dist"


def changed_machine(
    resumed: object, before: Mapping[str, Any], now: Mapping[str, Any], overrides: Sequence[str]
) -> dict[str, tuple[Any, Any]]:
    """What is new in a resumed run or search: keys of the machine, with the value before and now.

    A key that the configuration has had only since then, with its default, is new too, and no other run.

    Args:
        resumed: what is resumed, for the message.
        before: its configuration.
        now: the one to resume with.
        overrides: the command line of the latter.

    Raises:
        ValueError: something differs that makes it another run.
    """
    was, has = flattened(before), flattened(now)
    # Those of the module last: most of them take their value from another, by whose name it is typed.
    keys = sorted(was.keys() | has.keys(), key=lambda key: (key.startswith(("module.", "environment.")), key))
    differing = [key for key in keys if not _is_same(was.get(key), has.get(key)) and not is_place(key)]
    for key in differing:
        if not is_machine(key) and not _is_younger(key, before, now, overrides):
            if key.startswith("environment."):
                name = key.removeprefix("environment.")
                raise ValueError(
                    f"{resumed} was started with another value of {name}={has.get(name)}, which comes from the "
                    "environment: a run is resumed with the values that it was started with; run=ANOTHER starts a new "
                    "one."
                )
            raise ValueError(
                f"{resumed} was started with {key}={was.get(key)}, and now {key}={has.get(key)}: "
                "a run is resumed with the values that it was started with; run=ANOTHER starts a new one."
            )
    return {key: (was.get(key), has.get(key)) for key in differing}


def _is_same(one: Any, other: Any) -> bool:
    return bool(one == other or (one != one and other != other))  # a NaN is itself


def raised_length(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """How much longer a training is to be than it was started, by key; -1 has no end."""
    found = {}
    for name in ("max_epochs", "max_steps"):
        was, has = ((config.get("trainer") or {}).get(name) for config in (before, now))
        if isinstance(was, int) and isinstance(has, int) and (inf if has < 0 else has) > (inf if was < 0 else was):
            found[f"trainer.{name}"] = (was, has)
    return found


def key_of(override: str) -> str:
    """The key of an override, without the marks before it."""
    return override.lstrip("+~").split("=")[0]


def _typed(key: str, overrides: Sequence[str]) -> bool:
    """Whether a value was given to a key or something in it, by itself or in a `{mapping}`, and not by a choice."""
    for override in overrides:
        name, value = key_of(override), override.partition("=")[2]
        if _is_below(name, (key,)) or (value.startswith("{") and _is_below(key, (name,))):
            return True
    return False


def _is_younger(key: str, before: Mapping[str, Any], now: Mapping[str, Any], overrides: Sequence[str]) -> bool:
    """Whether a key came into `conf/` after a run was started: nobody typed it, and it adds no part of its own."""
    was, has, path = before, now, ""
    for name in key.split("."):
        path = f"{path}.{name}" if path else name
        if name not in has:
            return False
        if name not in was:
            is_part = any(one.split(".")[-1] == "_target_" for one in flattened(has[name], name))
            return not is_part and not _typed(path, overrides)
        was, has = was[name], has[name]
        if not isinstance(was, Mapping) or not isinstance(has, Mapping):
            return False
    return False


def flattened(node: Any, key: str = "") -> dict[str, Any]:
    """A nested configuration as one level, with dots between the names; lists are values."""
    if isinstance(node, Mapping) and node:
        return {
            path: value
            for name, child in node.items()
            for path, value in flattened(child, f"{key}.{name}" if key else str(name)).items()
        }
    return {key: node}


def _is_below(key: str, names: tuple[str, ...]) -> bool:
    return any(f"{key}.".startswith(f"{name}.") for name in names)
