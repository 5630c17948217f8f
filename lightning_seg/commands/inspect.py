"""`lightning-seg-inspect`: looks at a data set before training, and plans the training."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from lightning_seg.commands import console
from lightning_seg.inspection.inspect import PAGE, PLAN, inspect_data
from lightning_seg.launch.composition import typed_words
from lightning_seg.launch.errors import quiet_lightning
from lightning_seg.launch.overrides import literal
from lightning_seg.launch.resolved import from_environment, resolved
from lightning_seg.runs.identity import is_secret
from lightning_seg.schema import Inspect, check_values
from lightning_seg.schema.unused import INSPECT, given_options, unused
from lightning_seg.text import say

main = console.inspect

# Of which a plan keeps what was given; the others are of the command itself.
_OF_TRAINING = ("data", "augment", "backbone", "loss", "task", "module", "class_weights", "optimizer", "scheduler")


def inspect_composed(composed: DictConfig, checked: Mapping[str, Any]) -> None:
    """Inspects the data as composed by Hydra.

    Args:
        composed: the configuration.
        checked: what `check_keys` returned of it.

    Raises:
        FileExistsError: there is an inspection already.
    """
    check_values(composed, checked, Inspect)
    config = resolved(composed)
    for line in unused(config, given_options(typed_words()), INSPECT):
        say(line)
    folder = Path(config["output"]).expanduser()
    for file in (folder / PAGE, folder / PLAN):
        if file.exists() and not config["overwrite"]:
            raise FileExistsError(f"{file} exists: choose another output=FOLDER, or overwrite=true.")
    quiet_lightning()
    groups, values = given_choices(composed)
    inspect_data(config, folder, groups, values)


def given_choices(composed: DictConfig) -> tuple[dict[str, str], dict[str, Any]]:
    """The groups and the values that were given on the command line, of what a training reads."""
    hydra = HydraConfig.get()
    groups: dict[str, str] = {}
    values: dict[str, Any] = {}
    written = from_environment(composed)
    for override in typed_words():
        key = override.lstrip("+~").partition("=")[0]
        if key.partition(".")[0] not in _OF_TRAINING:
            continue
        if key in hydra.runtime.choices:
            groups[key] = str(hydra.runtime.choices[key])
        elif not override.startswith("~"):
            value = OmegaConf.select(composed, key)
            of_environment = any(f"{one}.".startswith(f"{key}.") for one in written)
            if OmegaConf.is_config(value):
                value = OmegaConf.to_container(value, resolve=not of_environment)
            if key == "data.root" and value is not None:
                value = str(Path(str(value)).expanduser().absolute())
            if not is_secret(key):
                values[key] = written.get(key, value if of_environment else literal(value))
    return groups, values


if __name__ == "__main__":
    main()
