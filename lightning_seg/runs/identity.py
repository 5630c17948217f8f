"""What a run is: which keys of its configuration say what it computes, and which only where that happens.

One table serves resuming a run, naming it, and grouping runs in the report.
"""

from collections.abc import Mapping
from typing import Any

# Where a run is kept and how it is watched: whatever these are, it computes the same.
_PLACES = (
    *("run", "runs", "folder", "run_id", "resume", "logger", "launcher", "local", "data.num_workers", "data.distances"),
    *("monitor_mode", "test"),
    *("trainer.default_root_dir", "trainer.log_every_n_steps", "trainer.num_sanity_val_steps", "trainer.profiler"),
    *("trainer.enable_progress_bar", "trainer.enable_model_summary", "trainer.detect_anomaly"),
)
# Callbacks that only watch; any other one, such as early stopping, is part of what a run is.
_WATCHING = (
    *("pictures", "validation", "progress", "curves", "confusion", "resource_usage", "last"),
    *("model_summary", "lr_monitor"),
)
# What it computes on, which may change when it is resumed, as on another machine.
_MACHINE = (
    *("data.root", "sync_dist", "trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.strategy"),
    *("trainer.sync_batchnorm", "on_nonfinite", "max_skipped_steps"),
)


def is_place(key: str) -> bool:
    """Whether a key, with dots, says where a run is kept or how it is watched."""
    group, _, rest = key.partition(".")
    if group == "callbacks":
        name, _, option = rest.partition(".")
        # Paths hold the run's folder; names and colors come from the data.
        return name in ("", *_WATCHING) or option in ("dirpath", "path", "class_names", "palette")
    return _is_below(key, _PLACES)


def is_machine(key: str) -> bool:
    """Whether a key says what a run computes on."""
    return _is_below(key, _MACHINE) or key.split(".")[-1] == "sync_dist"


def changed_machine(begun: object, before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What is new in a resumed run or search: keys of the machine, with the value before and now.

    Args:
        begun: what is resumed, for the message.
        before: its configuration.
        now: the one to resume with.

    Raises:
        ValueError: something differs that makes it another run.
    """
    was, has = flattened(before), flattened(now)
    differing = [key for key in sorted(was.keys() | has.keys()) if was.get(key) != has.get(key) and not is_place(key)]
    for key in differing:
        if not is_machine(key):
            raise ValueError(
                f"{begun} was started with {key}={was.get(key)}, and now {key}={has.get(key)}: "
                "it resumes as it was started; or choose another name, run=ANOTHER."
            )
    return {key: (was.get(key), has.get(key)) for key in differing}


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
