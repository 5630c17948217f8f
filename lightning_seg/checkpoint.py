"""Reading checkpoints: modules from files, without running anything that a file brings along."""

import math
import os
import stat
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from lightning_seg.bounds import check_values
from lightning_seg.data.volume_reading import VolumeReading
from lightning_seg.hub import ADDRESS, CONFIG, WEIGHTS, downloaded, read_hub_folder
from lightning_seg.inference.tiling import is_tile
from lightning_seg.module import SegmentationModule
from lightning_seg.reading import wrong_entries
from lightning_seg.runs.identity import flattened
from lightning_seg.runs.kept import LEFT_OUT
from lightning_seg.runs.plain import IN_PARTS, SHARDS
from lightning_seg.trust import Untrusted, build_trusted, is_of_weights, own_packages

CONFIG_KEY = "lightning_seg"

_FOREIGN = (
    "holds no configuration, so it was not written by lightning-seg-train: "
    "build the module yourself and give it the file's state_dict."
)
_MOST_OBJECTS = 2**26  # bytes of a checkpoint that are not weights
_SCALES = (1 / 64, 4.0)  # of images; a file cannot ask for more memory than that
_READ_OF_DATA = ("scale", "palette", "channels", "range")
_MOST = {  # of what a file asks of the data
    **{"channels": 1024, "tile": 4096, "margin": 2048},
    **{"image_size": 4096, "eval_batch_size": 1024, "batch_size": 1_000_000, "num_classes": 65_536},
    **{"num_train": 1_000_000, "num_val": 1_000_000, "num_test": 1_000_000},
}


def load_module(
    path: str | Path, *, trusted: Sequence[str] = (), map_location: str | torch.device = "cpu"
) -> SegmentationModule:
    """The trained module of a checkpoint of `lightning-seg-train`, or of what was exported of it, in evaluation mode.

    Nothing in the file is executed, opened or downloaded: the weights are read with `weights_only=True`, and the
    configuration may only build networks, losses and modules of listed packages (see `lightning_seg.trust`).

    Args:
        path: the checkpoint; or an `.onnx` file or a folder that `lightning-seg-export` wrote, or such a folder on the
            Hugging Face Hub, `hf://owner/name` or `hf://owner/name@revision`, of which the two files are downloaded.
        trusted: packages of your own that the configuration may also build from, for example `["my_research"]`.
        map_location: the device to load to.

    Returns:
        A module whose call takes images `(N, channels, H, W)` of float in [0, 1] and gives logits `(N, classes, H, W)`.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is not a checkpoint of `lightning-seg-train`, names a target that is not trusted, or holds
            weights that do not fit its network.
    """
    if Path(path).suffix.lower() == ".onnx":
        from lightning_seg.onnx_network import load_onnx  # here: it is a module too

        return load_onnx(path, map_location)
    checkpoint = read_checkpoint(path, map_location=map_location)
    state = checkpoint["state_dict"]
    module: SegmentationModule = build_trusted(
        module_config(checkpoint["config"]),
        "module",
        trusted=trusted,
        source=str(path),
        tensors=len(state),
        memory=sum(tensor.nbytes for tensor in state.values()),
    )
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{path}: {_misfit(module, state)}; {_written_by(checkpoint)}.") from error
    module.set_epoch(checkpoint["epoch"])
    module.found_threshold = checkpoint["threshold"]
    config, data = checkpoint["config"], checkpoint["config"].get("data") or {}
    module.scale = float(config.get("scale") or data.get("scale") or 1)
    channels, value_range = data.get("channels") or "rgb", data.get("range")
    if _is_of_volumes(data):
        module.volumes = VolumeReading.of(data)
    elif data.get("dimensions") == 3:
        module.volumes = VolumeReading(value_range=[0, 255])  # of the embedded volumes
    elif channels != "rgb" or value_range is not None:
        module.reading = {"channels": channels, "value_range": value_range}
    module.palette = checked_palette(config.get("palette") or data.get("palette"), module, path)
    return module.to(map_location).eval()


def _is_of_volumes(data: Mapping[str, Any]) -> bool:
    return str(data.get("_target_")).endswith(".VolumesDataModule")


def read_checkpoint(path: str | Path, *, map_location: str | torch.device = "cpu") -> dict[str, Any]:
    """What a checkpoint holds: `config` (resolved, plain containers), `state_dict`, `epoch` (from 0), `threshold` and
    `version`.

    All of it is checked to be what a checkpoint of ours has: data of these types, of a bounded size.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is not a checkpoint of `lightning-seg-train`; the message says which part is wrong.
    """
    path = downloaded(str(path)) if str(path).startswith(ADDRESS) else Path(path).expanduser()
    content = read_hub_folder(path) if (path / CONFIG).is_file() else _read(path)
    if not isinstance(content, dict) or CONFIG_KEY not in content or "state_dict" not in content:
        raise ValueError(f"{path} {_FOREIGN}")
    stored, state, epoch = content[CONFIG_KEY], content["state_dict"], content.get("epoch", 0)
    config = stored.get("config") if isinstance(stored, dict) else None
    wrong = _wrong_config(config) or _wrong_weights(state, (path / WEIGHTS if path.is_dir() else path).stat().st_size)
    if not wrong and (type(epoch) is not int or not 0 <= epoch < 2**31):
        wrong = f"epoch is {_shown(epoch)}, expected a non-negative integer"
    threshold = content.get("threshold")
    if not wrong and threshold is not None and not (type(threshold) is float and 0 <= threshold < 1):
        wrong = f"threshold is {_shown(threshold)}, expected a number between 0 and 1"
    if wrong:
        raise ValueError(f"{path} is not a checkpoint of lightning-seg-train: {wrong}.")
    assert isinstance(config, dict)
    check_values(config, str(path))
    version = stored.get("version")
    return {
        "config": config,
        "state_dict": {name: tensor.to(map_location) for name, tensor in state.items()},
        "epoch": epoch,
        "threshold": content.get("threshold"),
        "version": version if isinstance(version, str) and len(version) < 40 else "unknown",
    }


def checked_palette(palette: Any, module: SegmentationModule, path: str | Path) -> list[tuple[int, int, int]] | None:
    """The colors of a file for the labels of its module; None if it has none.

    A module that has its own `predict_labels` may have more channels than labels.

    Raises:
        ValueError: they are not colors, or too few.
    """
    if wrong := _wrong_palette("it", {"palette": palette}):
        raise ValueError(f"{path}: {wrong}.")
    labels = 2 if module.task == "binary" else module.num_classes
    has_own_labels = type(module).predict_labels is not SegmentationModule.predict_labels
    if palette and len(palette) < labels and not has_own_labels:
        raise ValueError(f"{path} has a palette of length {len(palette)} for {labels} labels.")
    return palette and [(red, green, blue) for red, green, blue in palette]


def check_loadable(config: Mapping[str, Any], module: nn.Module) -> None:
    """Refuses a training whose checkpoints could not be loaded, by building its module as `load_module` will.

    The random state stays as it is. Where its constructors do not look at values, no memory is taken for weights.

    Args:
        config: what the checkpoints will hold.
        module: as the training built it, with pretrained weights if it asks for any.

    Raises:
        ValueError: the module cannot be built from it, or the weights of `module` would not fit; the message says what
            to write instead.
    """
    _check_told(config)
    if wrong := _wrong_config(config):
        raise ValueError(f"the checkpoints of this run could not be loaded: {wrong}.")
    state = module.state_dict()
    shapes = {name: None if is_lazy(value) else value for name, value in state.items() if isinstance(value, Tensor)}
    memory = sum(tensor.nbytes for tensor in shapes.values() if tensor is not None)

    def rebuilt() -> nn.Module:
        built: nn.Module = build_trusted(
            module_config(config),
            "module",
            trusted=own_packages(config["module"]),
            source="a checkpoint of this run",
            tensors=len(state),
            memory=memory,
        )
        return built

    with isolate_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # which the training said already
        try:
            with torch.device("meta"):
                again = rebuilt()
        except Untrusted as error:
            raise ValueError(
                f"{error.place}._target_={error.target} builds what no checkpoint can build again: it must be a class, "
                "or a function of a module that returns the network. Write one, my_package.network for example, and "
                f"take {error.place.removeprefix('module.')}._target_=my_package.network; for a network of "
                "transformers, from_pretrained included, there is lightning_seg.backbones.transformers_model."
            ) from error
        except ValueError:  # some constructors look at values, as of torch.linspace
            again = rebuilt()
    missing = sorted(again.state_dict().keys() - state.keys())
    unknown = sorted(state.keys() - again.state_dict().keys())
    others = [
        f"{name}: {tuple(tensor.shape)}, not {tuple(shapes[name].shape)}"  # type: ignore[union-attr]
        for name, tensor in again.state_dict().items()
        if shapes.get(name) is not None and not is_lazy(tensor) and tensor.shape != shapes[name].shape  # type: ignore[union-attr]
    ]
    differences = [_counted("missing", unknown), _counted("added", missing), _counted("of another shape", others)]
    if any(differences):
        raise ValueError(
            "the checkpoints of this run could not be loaded: built again without pretrained weights, as they are, the "
            f"network has weights {', '.join(filter(None, differences))}. Weights that change the network as they are "
            "loaded must be asked for what they bring (backbone.aux_loss=true for backbone.weights of torchvision), or "
            "take those of the encoder alone (backbone.weights_backbone, backbone.encoder_weights)."
        )


def _check_told(config: Mapping[str, Any]) -> None:
    """Refuses a configuration that leaves out what every use of its checkpoints needs.

    Raises:
        ValueError: it does.
    """
    data = {name: value for name, value in (config.get("data") or {}).items() if name in _READ_OF_DATA}
    for key, value in flattened({"module": module_config(config), "data": data}).items():
        if LEFT_OUT in (value if isinstance(value, list) else [value]) and not is_of_weights(key.split(".")[-1]):
            raise ValueError(
                f"{key} is a secret or comes from an environment variable, which checkpoints do not store, and nothing "
                "could be predicted without it: give its value on the command line or in a file of conf/."
            )


def check_not_downloaded(data: Mapping[str, Any], source: str) -> None:
    """Refuses data that a file describes and that would be downloaded.

    Args:
        data: its configuration, as the file holds it.
        source: the file, for the message.

    Raises:
        ValueError: it is a data set of Hugging Face that is not a folder here.
    """
    named = data.get("path")
    of_hugging_face = str(data.get("_target_")).rpartition(".")[2] == "HuggingFaceDataModule"
    if of_hugging_face and isinstance(named, str) and named != LEFT_OUT and not Path(named).expanduser().is_dir():
        raise ValueError(
            f"{source} names the data set {named}, which is not a folder here, and nothing is downloaded because a "
            f"file says so: lightning-seg-evaluate takes data.path={named}, or give data of your own."
        )


def module_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """What builds the module of a stored configuration for use: without the optimizer and its schedule."""
    return {name: value for name, value in config["module"].items() if name not in ("optimizer", "scheduler")}


def _read(path: Path) -> Any:
    """The content of a file that `torch.save` wrote, read as data."""
    try:
        # A named pipe would wait for a writer.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ValueError(f"checkpoint={path} is not a regular file.")
            wrong = _wrong_archive(file, status.st_size)
            if not wrong:
                file.seek(0)
                return torch.load(file, map_location="cpu", weights_only=True)
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(
            f"checkpoint={path} does not exist; a run keeps its own in RUN/checkpoints/best.ckpt."
        ) from None
    except IsADirectoryError:
        if os.path.lexists(path / SHARDS):
            raise ValueError(f"checkpoint={path} {IN_PARTS}") from None
        raise ValueError(f"checkpoint={path} is a folder; a run's checkpoint is RUN/checkpoints/best.ckpt.") from None
    except Exception as error:  # whatever torch makes of a damaged or a hostile file
        if isinstance(error, ValueError) and str(error).startswith("checkpoint="):
            raise
        wrong = next(iter(str(error).splitlines()), "") or type(error).__name__
    raise ValueError(f"{path} cannot be read as a checkpoint without running code from it: {wrong}")


def _wrong_archive(file: BinaryIO, size: int) -> str:
    """What is not as `torch.save` writes an archive; "" if nothing is."""
    if not zipfile.is_zipfile(file):
        return "it is not an archive as torch.save writes it"
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
    if wrong := wrong_entries(entries, size):
        return wrong
    objects = [entry.file_size for entry in entries if entry.filename.endswith(".pkl")]
    return f"{max(objects) / 1e6:.0f} MB of it are no weights" if objects and max(objects) > _MOST_OBJECTS else ""


def _wrong_config(config: Any) -> str:
    """Which part of a stored configuration is not what ours are; "" if none is."""
    if not isinstance(config, Mapping):
        return f"{CONFIG_KEY}.config is {_shown(config)}, expected a mapping"
    for place, required in (("module", True), ("data", False)):
        part = config.get(place)
        if part is None and not required:
            continue
        if not isinstance(part, dict) or "_target_" not in part:
            return f"config.{place} is {_shown(part)}, expected a mapping with _target_"
    classes = config["module"].get("num_classes", 1)
    if type(classes) is not int or not 1 <= classes <= _MOST["num_classes"]:
        return f"config.module.num_classes is {_shown(classes)}, expected an integer from 1 to {_MOST['num_classes']}"
    for name in ("backbone", "loss"):
        part = config["module"].get(name)
        if name in config["module"] and part is not None and not (isinstance(part, dict) and "_target_" in part):
            return f"config.module.{name} is {_shown(part)}, expected a mapping with _target_"
    return (
        _wrong_use(config["module"])
        or _wrong_palette("config", config)
        or _wrong_data(config.get("data") or {})
        or _wrong_scale("config", config)
    )


def _wrong_use(module: Mapping[str, Any]) -> str:
    """Which value is not what evaluation and prediction take."""
    names = module.get("class_names")
    if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        return f"config.module.class_names is {_shown(names)}, expected a list of names"
    for name in ("tile", "margin"):
        value = module.get(name)
        if value is not None and not is_tile(value):
            return f"config.module.{name} is {_shown(value)}, expected a non-negative integer, or one for each axis"
    for name in ("mean", "std"):
        value = module.get(name)
        numbers: list[Any] = value if isinstance(value, list) else [value]
        if value is not None and not all(type(one) in (int, float) and math.isfinite(one) for one in numbers):
            return f"config.module.{name} is {_shown(value)}, expected a list of numbers"
    return ""


def _wrong_palette(place: str, part: Mapping[str, Any]) -> str:
    palette = part.get("palette")
    if palette is not None and not (isinstance(palette, list) and all(map(_is_color, palette))):
        return f"{place}.palette is {_shown(palette)}, expected a list of [red, green, blue], each from 0 to 255"
    return ""


def _wrong_scale(place: str, part: Mapping[str, Any]) -> str:
    scale = part.get("scale")
    if scale is not None and (type(scale) not in (int, float) or not _SCALES[0] <= scale <= _SCALES[1]):
        return f"{place}.scale is {_shown(scale)}, expected a number from 1/64 to 4"
    return ""


def _wrong_data(data: Mapping[str, Any]) -> str:
    workers = data.get("num_workers")
    if wrong := _wrong_scale("config.data", data) or _wrong_palette("config.data", data):
        return wrong
    if workers not in (None, LEFT_OUT) and (type(workers) is not int or workers < 0):
        return f"config.data.num_workers is {_shown(workers)}, expected a non-negative integer"
    if wrong := _wrong_bands(data):
        return wrong
    for name, most in _MOST.items():
        value = None if name == "channels" else data.get(name)
        if value not in (None, LEFT_OUT) and (type(value) is not int or not 0 <= value <= most):
            return f"config.data.{name} is {_shown(value)}, expected an integer up to {most}"
    return ""


def _wrong_bands(data: Mapping[str, Any]) -> str:
    if _is_of_volumes(data):
        return _wrong_volumes(data)
    channels, values = data.get("channels"), data.get("range")
    listed = isinstance(channels, list) and all(type(one) is int and 0 <= one < 2**16 for one in channels)
    if channels not in (None, "rgb", "all") and not (listed and channels):
        return f"config.data.channels is {_shown(channels)}, expected rgb, all or a list of bands"
    numbers = isinstance(values, list) and len(values) == 2 and all(type(one) in (int, float) for one in values)
    if values is not None and not (numbers and values[0] < values[1]):
        return f"config.data.range is {_shown(values)}, expected two numbers, the smaller first"
    return ""


def _wrong_volumes(data: Mapping[str, Any]) -> str:
    lists = [data.get(name) for name in ("spacing", "array_spacing", "range", "channels", "modalities")]
    if not all(value is None or type(value) is str or _is_short(value) for value in lists):
        return "config.data holds something other than short lists of numbers or names for its volumes"
    try:
        VolumeReading.of(data)
    except (TypeError, ValueError) as error:
        return f"config.{error}"
    return ""


def _is_short(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= _MOST["channels"]
        and all(type(one) in (int, float, str) for one in value)
    )


def _is_color(color: Any) -> bool:
    return isinstance(color, list | tuple) and len(color) == 3 and all(type(n) is int and 0 <= n <= 255 for n in color)


def _wrong_weights(state: Any, size: int) -> str:
    """Which weight is no tensor with memory of its own in the file; "" if none is."""
    if not isinstance(state, dict):
        return f"state_dict is {_shown(state)}, expected a mapping of names to tensors"
    storages: dict[int, int] = {}
    for name, tensor in state.items():
        if type(name) is not str:
            return f"state_dict has the key {_shown(name)}, expected a name"
        if not isinstance(tensor, Tensor):
            return f"state_dict[{name!r}] is {_shown(tensor)}, expected a tensor"
        if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
            return f"state_dict[{name!r}] is not a dense tensor"
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        if tensor.nbytes > storage.nbytes():
            return f"state_dict[{name!r}] of shape {tuple(tensor.shape)} is larger than what the file holds of it"
    if sum(storages.values()) > size:
        return "state_dict is larger than the file"
    return ""


def _misfit(module: SegmentationModule, state: Mapping[str, Tensor]) -> str:
    """How weights differ from those of the network that they were to be loaded into."""
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    given = {name: tuple(tensor.shape) for name, tensor in state.items()}
    differing = [name for name in wanted.keys() & given.keys() if wanted[name] != given[name]]
    parts = [
        _counted("missing", sorted(wanted.keys() - given.keys())),
        _counted("unknown to the network", sorted(given.keys() - wanted.keys())),
        _counted("of another shape", [f"{name}: {given[name]}, not {wanted[name]}" for name in sorted(differing)]),
    ]
    how = ", ".join(part for part in parts if part) or "they are of another kind"
    return f"its weights do not fit the network that its configuration builds: {how}"


def _counted(what: str, names: Sequence[str]) -> str:
    return f"{len(names)} {what} ({names[0][:200]}{', ...' if len(names) > 1 else ''})" if names else ""


def _written_by(checkpoint: Mapping[str, Any]) -> str:
    return (
        f"it was written by lightning-seg {checkpoint['version']}, and the library that its network comes from may "
        "have changed since"
    )


def _shown(value: Any) -> str:
    """A value of a file in a few words."""
    if value is None:
        return "missing"
    if isinstance(value, dict):
        return "a mapping without it" if value else "an empty mapping"
    if type(value) in (str, int, float, bool):
        return repr(value)[:80]
    return f"a {type(value).__name__}"
