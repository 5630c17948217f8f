"""`lightning-seg-train`: trains a network, then scores its best checkpoint on the test split."""

import sys
from collections.abc import Callable
from functools import cache, partial
from math import nan
from pathlib import Path
from typing import Any

import lightning
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from lightning.pytorch.callbacks import ModelCheckpoint, Timer
from omegaconf import DictConfig, OmegaConf

from lightning_seg.callbacks import FiniteLoss, StoredConfig, TrainingInterrupted
from lightning_seg.callbacks.all_splits import AllSplits
from lightning_seg.commands.arguments import as_typed
from lightning_seg.commands.own_packages import find_own_packages
from lightning_seg.commands.plugins import register_plugins
from lightning_seg.data.protocol import check_data_module, estimated_class_weights
from lightning_seg.launch.cluster import (
    check_processes,
    end_all_processes,
    is_launched,
    is_submitted,
    make_tasks_visible,
    process_rank,
    shared_name,
    world_size,
)
from lightning_seg.launch.errors import errors_in_one_line, print_error, quiet_lightning, run_command
from lightning_seg.launch.processes import requested_devices, run_on_processes
from lightning_seg.runs.contents import SCORES, read_result, write_result
from lightning_seg.runs.folder import (
    checkpoint_to_resume,
    discard_empty_run,
    is_restarted,
    open_run,
    run_id,
    run_name,
)
from lightning_seg.runs.scores import print_scores, write_scores
from lightning_seg.schema import Train, check_config
from lightning_seg.text import say


def main() -> None:
    """The console command."""
    with errors_in_one_line():
        sys.argv[1:] = as_typed(sys.argv[1:])
    find_own_packages()
    register_plugins()
    run_command(train_composed, "train")


def train_composed(composed: DictConfig) -> float:
    """Trains as composed by Hydra, in the run's own folder; the best monitored value.

    As one of several processes of a launcher it ends with them all, if it fails.
    """
    try:
        return train_run(composed)
    except Exception as error:
        if world_size() == 1 or is_submitted():
            raise
        print_error(error)
        end_all_processes()


def train_run(composed: DictConfig) -> float:
    """Finds or makes the run's folder, and trains there; the best monitored value."""
    overrides = OmegaConf.to_container(HydraConfig.get().overrides.task)  # as typed, with ${...}
    assert isinstance(overrides, list)
    check_config(composed, Train)
    make_tasks_visible()
    if is_launched() and composed.run is None:
        composed.run = shared_name(run_name(overrides), composed.resume)
    if is_restarted():
        composed.resume = "auto"
    config = resolved(composed)
    check_classes_known(config)
    check_processes(config["trainer"], requested_devices(config["trainer"]))
    if process_rank() == 0:
        folder, begun = open_run(config, overrides)
        composed.run_id = run_id(folder)
    else:
        folder, begun = Path(config["runs"]).expanduser().absolute() / config["run"], config["resume"] == "auto"
    result = read_result(folder) if begun else None
    if result is not None:
        say(f"{folder} has finished:")
        print_scores(result["test"], "test", result["class_names"])
        return float(result["best"])
    composed.folder = str(folder)
    try:
        best: float = run_on_processes(train, resolved(composed))
    except BaseException:
        if process_rank() == 0:
            discard_empty_run(folder)
        raise
    return best


def train(config: dict[str, Any]) -> float:
    """Trains in this process, tests the best checkpoint, and prints its scores.

    Args:
        config: what `conf/train.yaml` composes to, resolved, with `folder` set.

    Returns:
        The best value of `config["monitor"]`.
    """
    quiet_lightning()
    folder = Path(config["folder"])
    lightning.seed_everything(config["seed"], workers=True, verbose=False)
    datamodule = instantiate(config["data"])
    check_data_module(datamodule)
    # What the data module derived belongs to the checkpoint too.
    insert_class_weights(config, cache(partial(estimated_class_weights, datamodule)))
    insert_names(config, datamodule)
    callbacks = [callback for callback in config["callbacks"].values() if callback is not None]  # NAME=null: left out
    module = instantiate(config["module"])
    finite = FiniteLoss(folder, config["on_nonfinite"], config["max_skipped_steps"])
    timer = Timer()  # its time is in the checkpoints, too
    trainer = instantiate(
        config["trainer"],
        callbacks=[*map(instantiate, callbacks), StoredConfig(config), finite, timer, AllSplits()],
        logger=instantiate(config["logger"]) if config["logger"] else False,
    )

    try:
        trainer.fit(module, datamodule, ckpt_path=checkpoint_to_resume(folder), weights_only=True)
        best_path, best = best_checkpoint(trainer, config["monitor"])
        test_scores = trainer.test(module, datamodule, ckpt_path=best_path, weights_only=True, verbose=False)[0]
    except TrainingInterrupted as interrupted:
        if trainer.is_global_zero:
            say(f"lightning-seg-train: {interrupted}", error=True)
        raise

    if trainer.is_global_zero:
        names = module.class_names
        write_scores(folder / SCORES, test_scores, "test", names)
        result = {"best": best, "monitor": config["monitor"], "seconds": timer.time_elapsed(), "class_names": names}
        write_result(folder, {**result, "test": test_scores})
        print_scores(test_scores, "test", names)
        say(f"{config['monitor']} was {best:.4f} at best; all of this run is in {folder}")
    return best


def best_checkpoint(trainer: lightning.Trainer, monitor: str) -> tuple[str | None, float]:
    """The best checkpoint's path and score; None and the last value of what is monitored, where none was chosen."""
    checkpoint = next((part for part in trainer.checkpoint_callbacks if isinstance(part, ModelCheckpoint)), None)
    if checkpoint is None or not checkpoint.best_model_path:
        return None, float(trainer.callback_metrics.get(monitor, nan))
    assert checkpoint.best_model_score is not None
    return checkpoint.best_model_path, float(checkpoint.best_model_score)


def insert_names(config: dict[str, Any], datamodule: Any) -> None:
    """Keeps class names and palette of the data module, if it has any, where the configuration leaves them open.

    The palette is kept by itself too, for predictions: not every data module has a key for it.
    """
    for name in ("class_names", "palette"):
        for part in (config["data"], config["module"]):
            if name in part and part[name] is None:
                part[name] = getattr(datamodule, name, None)
    config["palette"] = getattr(datamodule, "palette", None)


def check_classes_known(config: dict[str, Any]) -> None:
    """Refuses a configuration that does not say how many classes there are.

    Raises:
        ValueError: it does not.
    """
    if config["module"].get("num_classes", 0) is None:
        raise ValueError(
            "module.num_classes is not known, since this data configuration has no num_classes: give "
            "module.num_classes=N, and module.ignore_index=VALUE if masks have void pixels."
        )


def insert_class_weights(node: Any, estimate: Callable[[str], list[float]]) -> None:
    """Replaces the name of an estimate, wherever a configuration has one as `class_weights`, by its numbers."""
    for name, value in node.items() if isinstance(node, dict) else enumerate(node):
        if name == "class_weights" and isinstance(value, str):
            node[name] = estimate(value)
        elif isinstance(value, dict | list):
            insert_class_weights(value, estimate)


def resolved(config: DictConfig) -> dict[str, Any]:
    """The configuration as plain containers, with nothing left to interpolate."""
    container = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(container, dict)
    return {str(name): value for name, value in container.items()}


if __name__ == "__main__":
    main()
