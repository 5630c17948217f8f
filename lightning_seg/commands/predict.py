"""`lightning-seg-predict`: writes the masks of images."""

from pathlib import Path
from typing import Any, Literal

import torch
from omegaconf import DictConfig

from lightning_seg.callbacks.unused_options import unused_tiling
from lightning_seg.checkpoint import check_not_downloaded, read_checkpoint
from lightning_seg.commands import console
from lightning_seg.commands.evaluate import with_what_is_left_out
from lightning_seg.commands.own_packages import find_own_packages
from lightning_seg.commands.prediction_options import set_prediction_options
from lightning_seg.data.palette import default_palette
from lightning_seg.ensemble import load_modules
from lightning_seg.inference import PredictedFiles, predict_files
from lightning_seg.inference.made_by import digests
from lightning_seg.inference.shares import join
from lightning_seg.launch.cluster import is_launched
from lightning_seg.launch.composition import typed_words
from lightning_seg.launch.processes import run_on_processes
from lightning_seg.launch.resolved import resolved
from lightning_seg.runs.kept import GIVEN
from lightning_seg.schema import Predict, check_config
from lightning_seg.schema.unused import PREDICT, given_options, unused
from lightning_seg.text import number_of, say
from lightning_seg.trust import build_trusted

main = console.predict

_PASSED = (
    *("overlay", "probabilities", "contours", "simplify", "run_lengths", "areas", "overwrite", "resume", "max_pixels"),
    *("batch_size", "precision"),
)


def predict(composed: DictConfig) -> PredictedFiles:
    """Predicts as `conf/predict.yaml` composes to, and says what was written."""
    check_config(composed, Predict)
    config = resolved(composed)
    if (config["input"] is None) == (config["split"] is None):
        raise ValueError("give either input=FOLDER or split=test, the images of the data that it was trained with.")
    config[GIVEN] = given_options(typed_words())
    for line in unused(config, config[GIVEN], PREDICT):
        say(line)
    if config["trusted"]:
        find_own_packages(config["trusted"])
    devices = find_devices(config["device"], config["devices"])
    if len(devices) > 1 and is_launched():
        raise ValueError(
            f"devices={config['devices']} starts {len(devices)} processes, and srun or torchrun started this one "
            "already: start lightning-seg-predict without it."
        )
    if config["split"]:
        config["input"] = _files_of_split(config)
    result: PredictedFiles = run_on_processes(_predict, {**config, "devices": devices}, len(devices))
    for path, reason in result.failed:
        say(f"skipped {path}: {reason}", error=True)
    kept = f", {result.kept} kept" if result.kept else ""
    count = number_of(result.written, result.noun)
    say(f"{count} predicted into {config['output']}{kept}, {len(result.failed)} skipped")
    return result


def _predict(config: dict[str, Any]) -> PredictedFiles:
    """Predicts the share of this process, on its own of the devices; what became of all images."""
    if config["trusted"]:
        find_own_packages(config["trusted"])
    share = join(len(config["devices"]))
    device: torch.device = config["devices"][share.rank]
    if device.type == "cuda":
        torch.cuda.set_device(device)  # where kernels run that are not told one, as those of Triton
    module = load_modules(
        config["checkpoint"],
        trusted=config["trusted"],
        map_location=device,
        one_in_memory=config["one_in_memory"],
    )
    set_prediction_options(module, config)
    made_by = {
        "checkpoint": digests(config["checkpoint"]),
        **{name: getattr(module, name) for name in ("tile", "margin", "tiling", "test_time_augmentation", "scale")},
        "threshold": module.decision_threshold,
        **{name: config[name] for name in ("precision", "simplify")},
    }
    result = predict_files(
        module,
        config["input"],
        config["output"],
        palette=[tuple(color) for color in module.palette or default_palette(max(module.num_classes, 2))],
        scale=module.scale,
        share=share,
        made_by=made_by,
        **{name: config[name] for name in _PASSED},
    )
    if result.written and share.processes == 1:
        typed = {name: config[name] for name in ("margin", "tiling", "batch_size") if name in config[GIVEN]}
        line = unused_tiling(module, typed)
        if line:
            say(line)
    return result


def _files_of_split(config: dict[str, Any]) -> list[Path]:
    """The image files of a split of the data that a checkpoint was trained with."""
    checkpoint = config["checkpoint"] if isinstance(config["checkpoint"], str) else config["checkpoint"][0]
    data = None if checkpoint.endswith(".onnx") else read_checkpoint(checkpoint)["config"].get("data")
    if data is None:
        raise ValueError(f"{checkpoint} holds no data, so split={config['split']} has no images: give input=FOLDER.")
    check_not_downloaded(data, checkpoint)
    data = with_what_is_left_out(data, checkpoint)
    data = {**data, "augment": None} if str(data["_target_"]).startswith("lightning_seg.") else data
    module = build_trusted(data, "data", trusted=config["trusted"], source=checkpoint)
    module.setup({"test": "test", "val": "validate", "train": "fit"}[config["split"]])
    pairs = getattr(getattr(module, f"{config['split']}_set", None), "pairs", None)
    if pairs is None or not all(isinstance(pair.image, Path) for pair in pairs):
        raise ValueError(
            f"{type(module).__name__} does not say the files of its images, so split={config['split']} has none: give "
            "input=FOLDER."
        )
    return [pair.image for pair in pairs]


def find_devices(name: str, number: int | Literal["auto"]) -> list[torch.device]:
    """The device of each process, of a name and a number as in `conf/predict.yaml`.

    Raises:
        ValueError: there is no such device, or there are fewer of them.
    """
    device = find_device(name)
    there = torch.cuda.device_count() if device.type == "cuda" and device.index is None else 1
    number = there if number == "auto" else number
    if number == 1:
        return [device]
    if device.type == "cpu":
        return [device] * number
    if number > there:
        raise ValueError(
            f"devices={number}, but device={name} has {there} on this machine: give devices={there} or auto."
        )
    return [torch.device(device.type, index) for index in range(number)]


def find_device(name: str) -> torch.device:
    """The device of a name as in `conf/predict.yaml`.

    Raises:
        ValueError: there is no such device, on this machine or at all.
    """
    gpu = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else None
    if name in ("auto", "gpu"):
        name = gpu or ("cpu" if name == "auto" else name)
    count = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    kind, _, index = name.partition(":")
    if (index.isdecimal() or name == kind) and int(index or 0) < count.get(kind, 0):
        return torch.device(name)
    there = ", ".join(name for name, devices in count.items() if devices)
    raise ValueError(f"device={name} is not available: this machine has {there}.")
