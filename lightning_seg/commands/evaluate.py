"""`lightning-seg-evaluate`: scores a checkpoint, on the data that it was trained with or on other data."""

import sys
from math import nan
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig

from lightning_seg.checkpoint import build_trusted, load_module, read_checkpoint
from lightning_seg.commands.own_packages import find_own_packages
from lightning_seg.commands.paths import with_quoted_paths
from lightning_seg.commands.prediction_options import set_prediction_options
from lightning_seg.commands.train import resolved
from lightning_seg.launch.errors import one_line, quiet_lightning, run_command
from lightning_seg.launch.processes import run_on_processes
from lightning_seg.runs.scores import print_scores, write_scores
from lightning_seg.text import say


def main() -> None:
    """The console command."""
    try:
        offer_checkpoint_config(sys.argv[1:])
    except (OSError, ValueError) as error:
        say(f"{Path(sys.argv[0]).name}: {one_line(error)}", error=True)
        sys.exit(1)
    sys.argv[1:] = with_quoted_paths(sys.argv[1:])
    run_command(evaluate_composed, "evaluate")


def offer_checkpoint_config(arguments: list[str]) -> None:
    """Makes the checkpoint's own data and trainer the defaults, so that a key of them can be changed by itself."""
    path = next((value for name, _, value in (word.partition("=") for word in arguments) if name == "checkpoint"), None)
    stored = read_checkpoint(path)["config"] if path else {}
    store = ConfigStore.instance()
    for group in ("data", "trainer"):
        store.store(group=group, name="checkpoint", node=stored.get(group, {}))


def evaluate_composed(composed: DictConfig) -> float:
    """Scores as composed by Hydra; the mean IoU, NaN if the module logs none."""
    config = resolved(composed)
    if config["trusted"]:
        find_own_packages()
    output = config["output"] and Path(config["output"]).expanduser()
    if output and output.exists():
        raise FileExistsError(f"output={output} exists: choose another name.")
    scores: dict[str, Any] = run_on_processes(evaluate, config)
    if output:
        write_scores(output, scores["scores"], config["split"], scores["class_names"])
    return float(scores["scores"].get(f"{config['split']}/iou", nan))


def evaluate(config: dict[str, Any]) -> dict[str, Any]:
    """Scores a checkpoint in this process and prints the table.

    Args:
        config: what `conf/evaluate.yaml` composes to, resolved.

    Returns:
        The `scores` by logged name, and the `class_names`.
    """
    quiet_lightning()
    split = config["split"]
    if split not in ("val", "test"):
        raise ValueError(f"split={split} is not one of val, test.")
    module = load_module(config["checkpoint"], trusted=config["trusted"])
    set_prediction_options(module, config)
    datamodule = build_trusted(config["data"], trusted=config["trusted"], source="the data configuration")
    if getattr(datamodule, "num_classes", module.num_classes) != module.num_classes:
        raise ValueError(
            f"the data has {datamodule.num_classes} classes, but the checkpoint was trained for {module.num_classes}."
        )
    changed = {"default_root_dir": None, "num_sanity_val_steps": 0, "logger": False, "enable_checkpointing": False}
    trainer = build_trusted(
        {**config["trainer"], **changed}, trusted=config["trusted"], source="the trainer configuration"
    )
    run = trainer.test if split == "test" else trainer.validate
    scores = run(module, datamodule, verbose=False)[0]
    if trainer.is_global_zero:
        print_scores(scores, split, module.class_names)
    return {"scores": scores, "class_names": module.class_names}
