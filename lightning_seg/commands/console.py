"""The commands as the console calls them: what a command line alone tells is said before torch is imported."""

import logging
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from lightning_seg.commands.arguments import as_typed
from lightning_seg.commands.help import help_text
from lightning_seg.commands.own_packages import find_own_packages, named_in_composed, named_in_words
from lightning_seg.commands.plugins import register_plugins
from lightning_seg.launch.cluster import end_all_processes, is_submitted, world_size
from lightning_seg.launch.composition import typed_words
from lightning_seg.launch.errors import errors_in_one_line, print_error, quiet_lightning, run_command
from lightning_seg.schema import Export, Inspect, Predict, Train, check_classes_known, check_keys
from lightning_seg.text import print_any_character, say, say_lines

_WITHOUT_SWEEP = ("launcher=basic", "sweep=grid")


def train() -> None:
    """`lightning-seg-train`."""
    _read_arguments("train")
    if _is_sweep():
        _imported("train")  # whose jobs need it, and some of them at once
    find_own_packages(named_in_words(sys.argv[1:]))
    register_plugins()
    _run(train_composed, "train")


def train_composed(composed: DictConfig) -> float:
    """Trains as composed by Hydra, in the run's own folder; the best monitored value.

    As one of several processes of a launcher it ends with them all, if it fails.
    """
    try:
        _check_sweeps()
        find_own_packages(named_in_composed(composed))
        check_classes_known(composed)
        checked = check_keys(composed, Train)
        return float(_imported("train").train_run(composed, checked))
    except Exception as error:
        if world_size() == 1 or is_submitted():
            raise
        print_error(error)
        end_all_processes()


def inspect() -> None:
    """`lightning-seg-inspect`."""
    _read_arguments("inspect")
    with errors_in_one_line():
        if _is_sweep():
            raise ValueError("lightning-seg-inspect takes one data set: leave -m out.")
    find_own_packages(named_in_words(sys.argv[1:]))
    register_plugins()

    def inspect_composed(composed: DictConfig) -> None:
        find_own_packages(named_in_composed(composed))
        check_classes_known(composed)
        checked = check_keys(composed, Inspect)
        _imported("inspect").inspect_composed(composed, checked)

    _run(inspect_composed, "inspect")


def evaluate() -> None:
    """`lightning-seg-evaluate`."""
    # The checkpoint's own data are below what is composed, and no part of it: a file is data.
    ConfigStore.instance().store(group="data", name="checkpoint", node={})
    _read_arguments("evaluate")
    sys.argv[1:] = [_added(word) for word in sys.argv[1:]]
    _run(lambda composed: _imported("evaluate").evaluate_composed(composed), "evaluate")


def predict() -> None:
    """`lightning-seg-predict`; exit status 1 if an image could not be read."""
    failed: list[Any] = []

    def predict_composed(composed: DictConfig) -> None:
        check_keys(composed, Predict)
        failed.extend(_imported("predict").predict(composed).failed)

    _read_arguments("predict")
    _run(predict_composed, "predict")
    if failed:
        sys.exit(1)


def export() -> None:
    """`lightning-seg-export`."""

    def export_composed(composed: DictConfig) -> None:
        check_keys(composed, Export)
        _imported("export").export(composed)

    _read_arguments("export")
    _run(export_composed, "export")


def _read_arguments(name: str) -> None:
    """Reads the command line as it was typed; help is printed, and ends the command."""
    with errors_in_one_line():
        if not {"-h", "--help"}.isdisjoint(sys.argv):
            print_any_character()
            say_lines(help_text(name, sys.argv[1:]))
            sys.exit()
        sys.argv[1:] = as_typed(sys.argv[1:])


def _is_sweep() -> bool:
    return not {"-m", "--multirun"}.isdisjoint(sys.argv)


def _check_sweeps() -> None:
    """Refuses what was said of the jobs of a sweep where there is no sweep.

    Raises:
        ValueError: a word of the command line is for a sweep, and `-m` is not among them.
    """
    hydra = HydraConfig.get()
    if hydra.mode == RunMode.MULTIRUN:
        return
    words = [*typed_words(), *typed_words("hydra")]
    of_sweeps = [word for word in words if word.startswith(("hydra.launcher.", "hydra.sweeper."))]
    of_sweeps += [word for word in words if word.startswith(("launcher=", "sweep=")) and word not in _WITHOUT_SWEEP]
    if of_sweeps:
        raise ValueError(f"{of_sweeps[0]} is for the jobs of a sweep: add -m, or leave it out to train one network.")
    swept = hydra.sweeper.get("params")
    if swept:
        say(f"one network is trained; -m trains those of a sweep over {', '.join(swept)}.")


def _added(word: str) -> str:
    """An override of the data so that Hydra takes it, although it knows no data: `++data.root=...`."""
    return f"++{word}" if word.startswith("data.") else word


def _run(task: Callable[[DictConfig], Any], name: str) -> None:
    task.__module__ = f"lightning_seg.commands.{name}"  # by which Hydra calls its jobs
    run_command(task, name)


def _imported(name: str) -> Any:
    """The module of a command, imported as it would be before Hydra has begun.

    Lightning hands its messages to the handlers that it finds, and packages that others can do without are looked for:
    neither Hydra's handlers nor folders where the command is called are meant.
    """
    root, here = logging.root, str(Path.cwd())
    handlers, root.handlers = root.handlers, []
    path = list(sys.path)
    if sys.path[-1] == here:
        sys.path.pop()
    try:
        module = import_module(f"lightning_seg.commands.{name}")
    finally:
        root.handlers, sys.path[:] = handlers, path
    quiet_lightning()
    return module
