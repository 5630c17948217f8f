"""`lightning-seg-evaluate`: scores a checkpoint, on the data that it was trained with or on other data."""

import sys
from collections.abc import Collection, Mapping
from math import nan
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf
from torch import nn

from lightning_seg.callbacks.evaluation_details import EvaluationDetails
from lightning_seg.callbacks.stored_config import SCORED_WITH
from lightning_seg.callbacks.unused_options import unused_of_data, unused_tiling
from lightning_seg.checkpoint import check_not_downloaded, load_module, read_checkpoint
from lightning_seg.commands import console
from lightning_seg.commands.own_packages import find_own_packages
from lightning_seg.commands.prediction_options import set_prediction_options
from lightning_seg.data import FolderDataModule
from lightning_seg.ensemble import load_modules
from lightning_seg.launch.building import build
from lightning_seg.launch.cluster import check_processes
from lightning_seg.launch.composition import typed_words
from lightning_seg.launch.errors import quiet_lightning
from lightning_seg.launch.processes import available_cores, requested_devices, run_on_processes
from lightning_seg.launch.resolved import resolved
from lightning_seg.module import SegmentationModule
from lightning_seg.reading import read_yaml
from lightning_seg.runs.contents import CONFIG
from lightning_seg.runs.identity import flattened, is_place, is_secret
from lightning_seg.runs.kept import GIVEN, LEFT_OUT, is_written
from lightning_seg.runs.scores import print_scores, scored_counts, write_scores
from lightning_seg.schema import Evaluate, check_config, check_part
from lightning_seg.schema.unused import EVALUATE, given_options, unused
from lightning_seg.text import say
from lightning_seg.trust import build_trusted, check_trusted

main = console.evaluate

_CLASSES = ("num_classes", "class_names", "ignore_index", "task")  # keys of data and module that say what they are
_PRECISIONS = (
    *("64-true", "32-true", "16-mixed", "bf16-mixed", "16-true", "bf16-true", "64", "32", "16", "bf16", 64, 32, 16),
)


def evaluate_composed(composed: DictConfig) -> float:
    """Scores as composed by Hydra; the mean IoU, NaN if the module logs none."""
    hydra = HydraConfig.get()
    words = typed_words()
    given = [word.lstrip("+~").partition("=")[0] for word in words]
    stored: dict[str, Any] = {}
    if not OmegaConf.is_missing(composed, "checkpoint") and composed.checkpoint:
        first = composed.checkpoint if isinstance(composed.checkpoint, str) else str(composed.checkpoint[0])
        stored = {"module": _classes_of(first)} if first.endswith(".onnx") else read_checkpoint(first)["config"]
        take_classes(composed.data, stored.get("module") or {}, given)
        take_volume_reading(composed.data, stored.get("data") or {}, given)
    check_config(composed, Evaluate)
    config = resolved(composed)
    if config["trusted"]:
        find_own_packages(config["trusted"])
    output = config["output"] and Path(config["output"]).expanduser()
    if output and output.exists():
        raise FileExistsError(f"output={output} exists: choose another name.")
    if config["details"] and Path(config["details"]).expanduser().exists():
        raise FileExistsError(f"details={config['details']} exists: choose another name.")
    if config["tolerance"] is not None and not config["details"]:
        raise ValueError(f"tolerance={config['tolerance']} is that of the surface Dice: give details=FOLDER, too.")
    added = [word[6:].partition("=")[0] for word in words if word.startswith("+data.")]
    own = hydra.runtime.choices["data"] == "checkpoint"
    config["own_data"] = own and not {"data.root", "data.path", "data.images", "data.table"}.intersection(given)
    if own:
        config["data"] = with_what_is_left_out(data_config(stored.get("data"), config["data"], added, first), first)
        # Whose data they are comes before what is wrong with them.
        check_trusted(config["data"], "data", trusted=config["trusted"], source="the data configuration")
        check_part("data", config["data"], lambda target: target.startswith("lightning_seg.data."))
    trainer = {name: value for name, value in scored_with(stored).items() if f"trainer.{name}" not in given}
    config["trainer"] = {**config["trainer"], **trainer}
    check_processes(config["trainer"], requested_devices(config["trainer"]))
    typed = given_options(words)
    for line in unused(config, typed, EVALUATE):
        say(line)
    config[GIVEN] = typed
    scores: dict[str, Any] = run_on_processes(evaluate, config)
    if output:
        write_scores(output, scores["scores"], scores["stage"], scores["class_names"], scores["counts"])
    return float(scores["scores"].get(f"{scores['stage']}/iou", nan))


def take_classes(data: DictConfig, module: Mapping[str, Any], given: Collection[str]) -> None:
    """Gives data that the command line chooses the classes of the checkpoint, where it does not say what they are.

    Args:
        data: as composed.
        module: the stored configuration of the module.
        given: keys of the command line.
    """
    for name in _CLASSES:
        is_open = OmegaConf.is_missing(data, name) or (name in data and data[name] is None)
        if is_open and f"data.{name}" not in given and module.get(name) is not None:
            data[name] = module[name]


def _classes_of(path: str) -> dict[str, Any]:
    """The same of an ONNX file."""
    module = load_module(path)
    return {name: getattr(module, name) for name in _CLASSES}


def take_volume_reading(data: DictConfig, stored: Mapping[str, Any], given: Collection[str]) -> None:
    """Lets volumes that the command line chooses be read as those of the checkpoint, where it does not say how.

    Args:
        data: as composed.
        stored: the stored configuration of the data.
        given: keys of the command line.
    """
    if not (data.get("_target_") == stored.get("_target_") == "lightning_seg.data.VolumesDataModule"):
        return
    for name in ("spacing", "orientation", "range", "channels"):
        if name in stored and f"data.{name}" not in given:
            data[name] = stored[name]


def data_config(
    stored: Mapping[str, Any] | None, given: Mapping[str, Any], added: Collection[str], checkpoint: str
) -> dict[str, Any]:
    """The data of a checkpoint, with what the command line says of them.

    Args:
        stored: as the checkpoint holds it.
        given: from the command line.
        added: keys of it that were typed as new ones, with a +.
        checkpoint: for the message.

    Raises:
        ValueError: there are none, one of these keys is none of theirs, or they would be downloaded unasked.
    """
    if stored is None:
        raise ValueError(f"{checkpoint} holds no data to score: name some, for example data=folder data.root=FOLDER.")
    unknown = sorted(given.keys() - stored.keys() - set(added))
    if unknown:
        raise ValueError(f"data.{unknown[0]} is not an option of the checkpoint's data: {', '.join(sorted(stored))}.")
    if "path" not in given:
        check_not_downloaded(stored, checkpoint)
    config = dict(stored)
    if "augment" in config and str(config["_target_"]).startswith("lightning_seg."):
        config["augment"] = None  # of training images only
    if type(config.get("num_workers")) is int:
        config["num_workers"] = min(config["num_workers"], available_cores())
    return _merged(config, given)


def with_what_is_left_out(data: Mapping[str, Any], checkpoint: str) -> dict[str, Any]:
    """The data of a checkpoint with what it does not tell of the machine, from the configuration of its run beside it.

    Args:
        data: its configuration, with what the command line says.
        checkpoint: the file, `RUN/checkpoints/best.ckpt`.

    Raises:
        ValueError: there is no such configuration, or it does not say it either.
    """
    filled = dict(data)
    left_out = [key for key, value in flattened(data).items() if value == LEFT_OUT]
    path = Path(checkpoint).expanduser().absolute().parent.parent / CONFIG
    beside = flattened(read_yaml(path)) if left_out and path.is_file() else {}
    for key in left_out:
        value = beside.get(f"data.{key}")
        if is_place(f"data.{key}") and not is_secret(key):
            del filled[key]  # of the machine that trained, num_workers for instance
            continue
        if is_written(value):
            raise ValueError(
                f"data.{key} must be given: the training took it from its environment, as data.{key}='{value}', which "
                "a file cannot ask for."
            )
        if value in (None, LEFT_OUT):
            raise ValueError(
                f"data.{key} must be given: {checkpoint} stores nothing that is specific to the machine that trained, "
                f"and the {CONFIG} of its run does not lie beside it."
            )
        *outer, name = key.split(".")
        part = filled
        for one in outer:
            part[one] = dict(part[one])
            part = part[one]
        part[name] = value
    return filled


def scored_with(stored: Mapping[str, Any]) -> dict[str, Any]:
    """What of a stored configuration's trainer changes the scores.

    Raises:
        ValueError: it is not what a trainer takes.
    """
    trainer = stored.get("trainer")
    found = {name: trainer[name] for name in SCORED_WITH if name in trainer} if isinstance(trainer, dict) else {}
    for name, value in found.items():
        is_limit = value is None or (type(value) is int and value >= 0) or (type(value) is float and 0 <= value <= 1)
        if not (value in (None, *_PRECISIONS) if name == "precision" else is_limit):
            raise ValueError(f"the checkpoint's configuration holds trainer.{name}={value!r}, which no trainer takes.")
    return found


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """One mapping over another, key by key."""
    merged = dict(below)
    for name, value in above.items():
        old = merged.get(name)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[name] = _merged(old, value) if both else value  # type: ignore[arg-type]
    return merged


def evaluate(config: dict[str, Any]) -> dict[str, Any]:
    """Scores a checkpoint in this process and prints the table.

    Args:
        config: what `conf/evaluate.yaml` composes to, resolved.

    Returns:
        The `scores` by logged name, the `stage` that these names begin with, the `class_names`, and the `counts` of
        images and pixels that were scored, None if they are not known.
    """
    quiet_lightning()
    module = load_modules(config["checkpoint"], trusted=config["trusted"], one_in_memory=config["one_in_memory"])
    set_prediction_options(module, config)
    datamodule = build_trusted(config["data"], "data", trusted=config["trusted"], source="the data configuration")
    if getattr(datamodule, "num_classes", module.num_classes) != module.num_classes:
        raise ValueError(
            f"the data has {datamodule.num_classes} classes, but the checkpoint was trained for {module.num_classes}."
        )
    use_classes(module, datamodule, config["data"])
    for line in unused_of_data(datamodule, config[GIVEN]) if rank_zero_only.rank == 0 else []:  # type: ignore[attr-defined]
        say(line)
    split = chosen_split(config, datamodule)
    stage = "val" if split == "val" else "test"
    changed = {"default_root_dir": None, "num_sanity_val_steps": 0, "logger": False, "enable_checkpointing": False}
    trainer = build({"enable_progress_bar": sys.stdout.isatty(), **config["trainer"], **changed})
    if config["details"]:
        folder = Path(config["details"]).expanduser()
        tolerance = {} if config["tolerance"] is None else {"tolerance": config["tolerance"]}
        background = module.background or 0
        trainer.callbacks.append(EvaluationDetails(folder, boundaries=True, background=background, **tolerance))
    run = trainer.validate if split == "val" else trainer.test
    scores = run(module, datamodule, verbose=False)[0]
    counts = scored_counts(module)
    if trainer.is_global_zero:
        print_scores(scores, stage, module.class_names, split=split, counts=counts)
        typed = {name: config[name] for name in ("margin", "tiling") if name in config[GIVEN]}
        line = unused_tiling(module, typed)
        if line and trainer.world_size == 1:  # the images of others may have been cut
            say(line)
    return {"scores": scores, "stage": stage, "class_names": module.class_names, "counts": counts}


def use_classes(module: SegmentationModule, datamodule: Any, config: Mapping[str, Any]) -> None:
    """Lets a module be scored with the void pixels and the class names of the data, where these say so.

    Args:
        module: of the checkpoint, changed in place.
        datamodule: the data.
        config: of the data.
    """
    before = module.ignore_index, list(module.class_names)
    if "ignore_index" in config:
        module.ignore_index = datamodule.ignore_index
    if config.get("class_names") is not None:
        module.class_names = list(datamodule.class_names)
    if (module.ignore_index, module.class_names) == before:
        return
    for part in module.loss.modules() if isinstance(module.loss, nn.Module) else ():
        if hasattr(part, "ignore_index") and part.ignore_index == before[0]:
            part.ignore_index = module.ignore_index  # type: ignore[assignment]
    metrics = module.build_metrics()
    module.val_metrics, module.test_metrics = metrics.clone("val/"), metrics.clone("test/")


def chosen_split(config: Mapping[str, Any], datamodule: Any) -> str:
    """What is scored: what was asked for, or the test split, or all images of other data that have no splits.

    Raises:
        ValueError: `split=all` of data that cannot be tested as a whole.
    """
    split = config["split"]
    as_whole = isinstance(datamodule, FolderDataModule)
    if split is None and as_whole and not config["own_data"] and not datamodule.has_splits:
        split = "all"
        if rank_zero_only.rank == 0:  # type: ignore[attr-defined]
            say(f"{datamodule.root} has no splits: all its images are scored; split=test takes a random part of them.")
    if split == "all":
        if not as_whole:
            kind = type(datamodule).__name__
            raise ValueError(f"split=all is for folders of images, not for {kind}: use split=test or split=val.")
        datamodule.test_on_all()
    return split or "test"
