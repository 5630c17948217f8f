"""`lightning-seg-train`: trains a network, then scores its best checkpoint on the test split."""

from collections.abc import Mapping
from copy import deepcopy
from functools import cache, partial
from math import isnan
from pathlib import Path
from typing import Any

import lightning
from hydra.core.hydra_config import HydraConfig
from lightning.pytorch.callbacks import Callback, Timer
from lightning.pytorch.strategies import FSDPStrategy
from omegaconf import DictConfig
from torch import nn

from lightning_seg.backbones import checkpoint_activations, compile_network, use_channels_last
from lightning_seg.backbones.encoder import described_encoder
from lightning_seg.backbones.normalization import weights_asked_for
from lightning_seg.callbacks import FiniteLoss, FreezeEncoder, StoredConfig, TrainingInterrupted
from lightning_seg.callbacks.all_splits import AllSplits
from lightning_seg.callbacks.best_checkpoint import TestedWeights, kept_checkpoint, why_unscored
from lightning_seg.callbacks.channels import ChannelsFit
from lightning_seg.callbacks.image_range import ImageRange
from lightning_seg.callbacks.monitored import MonitoredIsLogged
from lightning_seg.callbacks.run_data import RunData
from lightning_seg.callbacks.stored_config import read_again
from lightning_seg.callbacks.untrained import UntrainedParameters
from lightning_seg.callbacks.unused_options import UnusedOptions
from lightning_seg.checkpoint import check_loadable
from lightning_seg.commands import console
from lightning_seg.data.protocol import check_data_module, estimated_class_weights
from lightning_seg.initial_weights import LoadedWeights, load_weights, print_loaded, read_weights
from lightning_seg.launch.building import build
from lightning_seg.launch.cluster import (
    check_processes,
    is_launched,
    make_tasks_visible,
    process_rank,
    shared_name,
)
from lightning_seg.launch.composition import typed_words
from lightning_seg.launch.derived import (
    follow_normalization,
    insert_class_weights,
    insert_names,
    insert_network_configs,
    insert_normalization,
)
from lightning_seg.launch.errors import quiet_lightning
from lightning_seg.launch.processes import requested_devices, run_on_processes
from lightning_seg.launch.resolved import with_environment
from lightning_seg.launch.resuming import restoring
from lightning_seg.learning_rate import find_learning_rate
from lightning_seg.module import SegmentationModule
from lightning_seg.runs.contents import LAST, SCORES, write_result
from lightning_seg.runs.folder import (
    changes,
    checkpoint_to_resume,
    discard_empty_run,
    is_restarted,
    open_run,
    run_id,
    run_name,
)
from lightning_seg.runs.kept import FROM_ENVIRONMENT, GIVEN, as_kept
from lightning_seg.runs.lock import locked
from lightning_seg.runs.monitor import check_direction, check_monitored, is_known, save_where_logged
from lightning_seg.runs.scores import print_scores, score_text, scored_counts, write_scores
from lightning_seg.schema import Train, check_values
from lightning_seg.schema.unused import TRAIN, given_options, never_used, unused
from lightning_seg.sweeps.finished import finished_before
from lightning_seg.text import say

main = console.train
train_composed = console.train_composed  # as its jobs are pickled


def train_run(composed: DictConfig, checked: Mapping[str, Any]) -> float:
    """Finds or makes the run's folder, and trains there; the best monitored value.

    Args:
        composed: the configuration, as composed by Hydra.
        checked: what `check_keys` returned of it.
    """
    overrides = typed_words()
    check_values(composed, checked, Train)
    make_tasks_visible()
    if is_launched() and composed.run is None:
        composed.run = shared_name(run_name(overrides), composed.resume)
    if is_restarted():
        composed.resume = "auto"
    config = with_environment(composed)
    check_monitored(config)
    processes = requested_devices(config["trainer"])
    check_processes(config["trainer"], processes)
    given = given_options(overrides)
    if process_rank() == 0:
        say_unused(config, given, processes * config["trainer"]["num_nodes"])
    if config["find_learning_rate"]:
        return find_rate(config)

    def kept_in(folder: Path) -> dict[str, Any]:
        composed.folder = str(folder)
        return with_environment(composed)

    if process_rank() == 0:
        folder, exists = open_run(config, overrides, kept_in)
        composed.run_id = run_id(folder)
    else:
        folder, exists = Path(config["runs"]).expanduser().absolute() / config["run"], config["resume"] == "auto"
    result = finished_before(folder, config, overrides) if exists else None
    if result is not None:
        say(f"{folder} has finished:")
        if result["test"]:
            print_scores(result["test"], "test", result["class_names"], counts=result.get("tested"))
        return float(result["best"])
    config = {**kept_in(folder), GIVEN: given}
    best: float
    if process_rank() != 0:
        best = run_on_processes(train, config)
        return best
    with locked(folder):
        changed = changes(folder, config, overrides)
        if changed:
            texts = ", ".join(f"{key}={now} (before: {was})" for key, (was, now) in changed.items())
            say(f"{folder} resumes with {texts}")
        try:
            if config["init_from"] is not None and not exists:
                read_weights(config["init_from"])  # a file that cannot be read is said before any work
            best = run_on_processes(train, config)
        except BaseException:
            discard_empty_run(folder)
            raise
    return best


def say_unused(config: dict[str, Any], given: dict[str, str], processes: int) -> None:
    """Says what was asked for and changes nothing, as far as the configuration tells."""
    around = {"processes": processes, "launcher": HydraConfig.get().runtime.choices.get("launcher")}
    for line in [*unused({**config, **around}, given, TRAIN), *never_used({**config, **around})]:
        say(line)


def train(config: dict[str, Any]) -> float:
    """Trains in this process, tests the best checkpoint, and prints its scores.

    Args:
        config: what `conf/train.yaml` composes to, resolved, with `folder` set.

    Returns:
        The best value of `config["monitor"]`.
    """
    quiet_lightning()
    folder = Path(config["folder"])
    run_data = RunData(folder, deepcopy(config))  # as composed, without what follows
    lightning.seed_everything(config["seed"], workers=True, verbose=False)
    datamodule = built_data(config)
    save_where_logged(config["callbacks"])
    module = built_module(config)
    check_direction(config, module)
    normalized = follow_normalization(module, config)
    stored = StoredConfig(read_again(config, config.get(FROM_ENVIRONMENT, ())))
    check_loadable(stored.config, module)
    resumed = checkpoint_to_resume(folder)
    loaded = initial_weights(module, config) if resumed is None else None
    set_execution(module.backbone, config)
    finite = FiniteLoss(folder, config["on_nonfinite"], config["max_skipped_steps"])
    # Its time is in the checkpoints, too. Lightning takes no max_time of its own beside it.
    timer = Timer(config["trainer"].get("max_time"))
    trainer = build(
        with_unused_parameters(config["trainer"], module),
        callbacks=[
            *built_callbacks(config),
            *(stored, ChannelsFit(config), ImageRange(), UntrainedParameters(), finite, timer),
            *([] if is_known(config) else [MonitoredIsLogged(config)]),
            *([AllSplits()] if config["test"] else []),
            *(run_data, UnusedOptions(config.get(GIVEN, {}))),
        ],
        logger=build(config["logger"]) if config["logger"] else False,
    )
    check_tested(trainer, config)
    for logger in trainer.loggers:
        logger.log_hyperparams(as_kept(config))
    lines = [normalized, pretrained_part(module, trainer, config), without_defaults(trainer, config)]
    for line in lines if trainer.is_global_zero else []:
        if line:
            say(line)
    if loaded is not None and trainer.is_global_zero:
        print_loaded(loaded, config["init_from"])

    try:
        with restoring(resumed):
            trainer.fit(module, datamodule, ckpt_path=resumed, weights_only=True)
        kept = kept_checkpoint(trainer, config["monitor"], folder / LAST)
        unscored = why_unscored(trainer, kept.monitor) if isnan(kept.value) else None  # a test has metrics of its own
        if config["test"]:
            module = unsharded(trainer, module, config)
        scores = test(trainer, module, datamodule, kept.path) if config["test"] else {}
    except TrainingInterrupted as interrupted:
        if trainer.is_global_zero:
            say(f"lightning-seg-train: {interrupted}", error=True)
        raise

    if trainer.is_global_zero:
        names = module.class_names
        counts = scored_counts(module) if scores else None
        result = {"best": kept.value, "monitor": kept.monitor, "class_names": names, "skipped_steps": finite.skipped}
        if scores:
            write_scores(folder / SCORES, scores, "test", names, counts)
        write_result(folder, {**result, "seconds": timer.time_elapsed(), "test": scores, "tested": counts})
        if scores:
            print_scores(scores, "test", names, counts=counts)
        elif config["test"]:
            say("nothing was tested: there are no test images, or trainer.limit_test_batches=0.")
        best = f"{kept.monitor} was {score_text(kept.monitor, kept.value)} at best"
        if unscored:
            best = f"no epoch was scored: {unscored}. The last weights are kept"
        say(f"{best}; the run is in {folder}")
    return kept.value


def built_data(config: dict[str, Any]) -> lightning.LightningDataModule:
    """The data module of a configuration, which gets what that leaves open: it belongs to the checkpoint, too.

    Raises:
        ValueError: it is of another kind, or lacks what the configuration asks of it.
    """
    datamodule: lightning.LightningDataModule = build(config["data"])
    check_data_module(datamodule)
    insert_class_weights(config, cache(partial(estimated_class_weights, datamodule)))
    insert_names(config, datamodule)
    insert_normalization(config, datamodule)
    return datamodule


def built_callbacks(config: dict[str, Any]) -> list[Callback]:
    """The callbacks of a configuration; one that is null is left out.

    Raises:
        ValueError: one is of another kind.
    """
    built = {name: build(one) for name, one in config["callbacks"].items() if one is not None}
    for name, one in built.items():
        if not hasattr(one, "on_train_batch_end"):  # which those of the package pytorch_lightning have, too
            raise ValueError(
                f"callbacks.{name} builds a {type(one).__name__}, not a Callback: derive it from that class."
            )
    return list(built.values())


def built_module(config: dict[str, Any]) -> SegmentationModule:
    """The module of a configuration, which gets what a network of a hub is described by.

    Raises:
        ValueError: it is of another kind.
    """
    insert_network_configs(config["module"])
    module = build(config["module"])
    if not isinstance(module, SegmentationModule):
        raise ValueError(
            f"module builds a {type(module).__name__}, not a SegmentationModule: derive it from that class."
        )
    return module


def with_unused_parameters(trainer: dict[str, Any], module: SegmentationModule) -> dict[str, Any]:
    """The configuration of a trainer whose processes go on where a parameter gets no gradient, which else ends them.

    They look for such parameters at every step, which takes time: only where there are some, or it is not known.
    """
    if trainer.get("strategy") != "ddp" or module.parameters_without_gradient() == []:
        return trainer
    return {**trainer, "strategy": "ddp_find_unused_parameters_true"}


def find_rate(config: dict[str, Any]) -> float:
    """Suggests a learning rate without training; nothing is kept."""
    quiet_lightning()
    lightning.seed_everything(config["seed"], workers=True, verbose=False)
    datamodule = built_data(config)
    module = built_module(config)
    follow_normalization(module, config)
    initial_weights(module, config)
    rate = find_learning_rate(module, datamodule, config["trainer"], build)
    say(f"optimizer.lr={rate:.2g} is suggested: there the loss falls fastest. Nothing was trained or kept.")
    return rate


def check_tested(trainer: lightning.Trainer, config: dict[str, Any]) -> None:
    """Refuses to train what could not be tested.

    Raises:
        ValueError: FSDP's parts of the weights would be tested, of which no checkpoint is written.
    """
    dry: bool | int = trainer.fast_dev_run  # type: ignore[attr-defined]
    if config["test"] and isinstance(trainer.strategy, FSDPStrategy) and not (trainer.checkpoint_callbacks or dry):
        raise ValueError("FSDP tests a checkpoint, and no callback writes one: add callbacks=default, or test=false.")


def unsharded(trainer: lightning.Trainer, module: Any, config: dict[str, Any]) -> Any:
    """A module to test after a training, after which FSDP leaves parts of weights in it that it cannot wrap again."""
    return build(config["module"]) if isinstance(trainer.strategy, FSDPStrategy) else module


def test(trainer: lightning.Trainer, module: Any, datamodule: Any, checkpoint: Path | None) -> dict[str, float]:
    """The test scores of just the weights in a checkpoint, or of those in memory; none if nothing is tested."""
    if checkpoint is not None:
        trainer.callbacks.append(TestedWeights(checkpoint))  # type: ignore[attr-defined]
    path = None if checkpoint is None else str(checkpoint)
    tested = trainer.test(module, datamodule, ckpt_path=path, weights_only=True, verbose=False)
    return {name: float(value) for scores in tested[:1] for name, value in scores.items()}


def initial_weights(module: Any, config: dict[str, Any]) -> LoadedWeights | None:
    """What was loaded of the weights to begin with; None if the configuration names none."""
    path = config["init_from"]
    if path is None:
        return None
    encoder = config["module"].get("encoder", "auto")
    return load_weights(module, read_weights(path), encoder=encoder, source=f"init_from={path}")


def without_defaults(trainer: lightning.Trainer, config: dict[str, Any]) -> str:
    """One line where callbacks were chosen in place of the default ones, not beside them; "" if none were, or one that
    keeps the best epoch is among them or was left out by name.
    """
    chosen = config["callbacks"]
    keeps_best = any(getattr(one, "monitor", None) for one in trainer.checkpoint_callbacks)
    if not chosen or "checkpoint" in chosen or keeps_best:
        return ""
    names = ",".join(chosen)
    return (
        f"callbacks={names} replaces the default ones: the best epoch is not kept, the last one is tested, "
        f"without curves and pictures; callbacks=[default,{names}] has both."
    )


def pretrained_part(module: Any, trainer: lightning.Trainer, config: dict[str, Any]) -> str:
    """One line about which part of the network rates or freezing go by, and if it is pretrained; "" where none do."""
    rates = ("encoder_learning_rate_factor", "layer_decay")
    frozen = [one for one in trainer.callbacks if isinstance(one, FreezeEncoder)]  # type: ignore[attr-defined]
    if not frozen and all(getattr(module, name, 1.0) == 1.0 for name in rates):
        return ""
    own = next((one.encoder for one in frozen if one.encoder is not None), getattr(module, "encoder", "auto"))
    described = f"the pretrained part is {described_encoder(module.backbone, own)}"
    asked = weights_asked_for(config["module"].get("backbone") or {})
    if config["init_from"] is not None or not asked or any(asked.values()):
        return described
    return f"{described}, of random weights: pretrained ones are backbone.{next(iter(asked))} or init_from=PATH"


def set_execution(network: nn.Module, config: dict[str, Any]) -> None:
    """Sets how a network is executed in training, as a configuration asks for."""
    if config["channels_last"]:
        use_channels_last(network)
    if config["gradient_checkpointing"]:
        checkpoint_activations(network)
    if config["compile"]:
        compile_network(network)


if __name__ == "__main__":
    main()
