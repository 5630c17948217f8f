"""Refuses a configuration that no command could use, before anything else is done."""

import inspect
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_args, get_origin, get_type_hints

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from lightning_seg.reading import read_yaml
from lightning_seg.schema.keys import CHOICES, RANGED, RANGES, SHARES, Range
from lightning_seg.schema.nearest import did_you_mean, nearest, nodes
from lightning_seg.schema.options import CONF
from lightning_seg.schema.types import choices_of, fits, listed, text, words
from lightning_seg.text import is_number

# What the command takes from the data module, and the names of what it estimates as class weights.
_FROM_DATA = ("num_classes", "ignore_index", "class_names", "palette", "mean", "std")
# Groups with a choice `custom`, for a part of one's own.
_WITH_CUSTOM = ("augment", "backbone", "data", "logger", "loss", "optimizer", "scheduler")
_HYDRAS = ("_target_", "_partial_", "_recursive_", "_convert_", "_args_")


def check_config(composed: DictConfig, schema: type, may_import: Callable[[str], bool] = lambda target: True) -> None:
    """Refuses what no command could use.

    Args:
        composed: as Hydra composes it.
        schema: `Train`, `Inspect`, `Evaluate` or `Predict`.
        may_import: whether the arguments of a `_target_` are looked up, which imports it.

    Raises:
        ValueError: a key is missing or unknown, or a value has the wrong type or is out of its range.
    """
    check_values(composed, check_keys(composed, schema), schema, may_import)


def check_values(
    composed: DictConfig,
    config: Mapping[str, Any],
    schema: type,
    may_import: Callable[[str], bool] = lambda target: True,
) -> None:
    """The second part of `check_config`, of what is to be built.

    Args:
        composed: see `check_config`, as all that follow.
        config: what `check_keys`, the first part, returned.
        schema: of the command.
        may_import: whether a `_target_` is imported.

    Raises:
        ValueError: see `check_config`.
    """
    allowed = get_type_hints(schema)
    for name, one in (config.get("callbacks") or {}).items():
        if one is not None and not isinstance(one, Mapping):
            raise ValueError(f"callbacks.{name}={text(one)} must be a group of keys, or null to leave it out.")
    # Last those that hold what others do, which is called by the name that is typed.
    outer = ("data", "callbacks", "module")
    for key in [*(key for key in config if key in allowed and key not in outer), *outer]:
        _check_parts(key, config.get(key), may_import, _takes_any_key(composed, key))
    for key, values in RANGES.items():
        _check_range(key, config, values)
    for key, names in CHOICES.items():
        _check_choice(key, config, names)
    _check_together(config)


def check_keys(composed: DictConfig, schema: type) -> dict[str, Any]:
    """The first part of `check_config`, which imports nothing that is to be built.

    Returns:
        The configuration, resolved.

    Raises:
        ValueError: see `check_config`; of the keys at the top and their types.
    """
    allowed = get_type_hints(schema, include_extras=True)
    composed = composed.copy()
    with open_dict(composed):
        composed.pop("hydra", None)
        if "folder" in composed and composed.folder is None:
            composed.folder = "."  # the command makes it, and loggers are given it
    missing = [key for key, node in nodes(composed) if node._is_missing() and key.split(".")[0] in allowed]
    if missing:
        advice = _data_advice(composed, missing)
        raise ValueError(f"{_listed(missing)} must be given: {' '.join(f'{key}=VALUE' for key in missing)}.{advice}")
    for key in (str(key) for key in composed if key not in allowed):
        if not _is_in_file(key, schema) and not _is_read(key, composed):
            raise ValueError(
                f"{key} is not a key of {_command(schema)}, so it would have no effect{did_you_mean(key, composed)}"
            )
    # Not sync_dist, which trainer=ddp gives to losses of one's own too, and these take none.
    weights = composed.get("class_weights")
    if weights is not None and "loss" in composed and not _is_read("class_weights", composed):
        raise ValueError(
            f"class_weights={text(weights)} is not used, as the loss has its own or takes none: give "
            "loss.class_weights, or another loss."
        )
    config: dict[str, Any] = OmegaConf.to_container(composed, resolve=True)  # type: ignore[assignment]
    for key, hint in allowed.items():
        if key in config:
            _check_value(key, config[key], hint)
    return config


def _is_in_file(key: str, schema: type) -> bool:
    """Whether the file of a command in `conf/` has a key."""
    return key in read_yaml(CONF / f"{schema.__name__.lower()}.yaml")


def _is_read(key: str, composed: DictConfig) -> bool:
    """Whether another key takes its value from this one."""
    return re.search(rf"\$\{{[^}}]*\b{re.escape(key)}\b", str(OmegaConf.to_container(composed))) is not None


def _data_advice(composed: DictConfig, missing: Sequence[str]) -> str:
    """What to type for a folder of data, where it is not said how many classes it has.

    Raises:
        ValueError: there is no such folder, which is said before anything of what would be in it.
    """
    data = composed.get("data")
    target = "" if data is None else str(data.get("_target_"))
    if not target.endswith((".FolderDataModule", ".VolumesDataModule")):
        return ""
    try:
        root = data.get("root")  # type: ignore[union-attr]
    except OmegaConfBaseException:  # of an environment variable that is not set
        return ""
    if root is None:
        return " data.root=FOLDER is the folder of images and masks." if "data.root" not in missing else ""
    folder = Path(str(root)).expanduser()
    if not folder.is_dir():
        raise ValueError(f"data.root={root} is not a directory.")
    if "data.num_classes" not in missing or target.endswith(".VolumesDataModule"):
        return ""
    from lightning_seg.data.advice import classes_advice  # torch, for which commands do not wait elsewhere

    is_binary = composed.get("task") == "binary"
    return classes_advice(folder, OmegaConf.to_container(data, resolve=False), is_binary=is_binary)  # type: ignore[arg-type]


def check_classes_known(composed: DictConfig) -> None:
    """Refuses a configuration that does not say how many classes there are.

    Raises:
        ValueError: it does not.
    """
    try:
        known = composed.module.get("num_classes", 0) is not None
        known = known or OmegaConf.is_missing(composed.data, "num_classes")  # which is said elsewhere, too
    except OmegaConfBaseException:  # it follows a value that must be given, which is said elsewhere
        known = True
    if not known and OmegaConf.select(composed, "data.num_classes", default=0) is None:
        raise ValueError(
            "data.num_classes must be given, how many classes the masks hold: data.num_classes=N, and "
            "data.ignore_index=VALUE if they have void pixels."
        )
    if not known:
        raise ValueError(
            "module.num_classes is not known, since this data configuration has no num_classes: give "
            "module.num_classes=N, and module.ignore_index=VALUE if masks have void pixels."
        )


def check_part(key: str, config: Mapping[str, Any], may_import: Callable[[str], bool] = lambda target: True) -> None:
    """The same of one part of a configuration, whose interpolations are resolved.

    Args:
        key: where it stands.
        config: the part.
        may_import: see `check_config`.

    Raises:
        ValueError: see `check_config`.
    """
    _check_parts(key, config, may_import, is_custom=False)
    for name, values in RANGES.items():
        if name.startswith(f"{key}."):
            _check_range(name, {key: config}, values)
    for name, names in CHOICES.items():
        if name.startswith(f"{key}."):
            _check_choice(name, {key: config}, names)


def _check_value(key: str, value: Any, hint: Any, *, is_finite: bool = True) -> None:
    """Refuses a value of another type than is declared, or a number that is not finite where it must be."""
    if not fits(value, hint):
        shown = f"{key}={text(value)}"
        if isinstance(value, str) and is_number(value) and "number" in words(hint):
            raise ValueError(f"{shown} is text, but it must be {words(hint)}: leave the quotes out.")
        raise ValueError(f"{shown} must be {words(hint)}{_meant(value, choices_of(hint))}")
    if is_finite and ("number" in words(hint) or "integer" in words(hint)):
        for number in _numbers(value):
            if not math.isfinite(number):
                raise ValueError(f"{key}={text(value)} must be finite.")
    for one in (hint, *get_args(hint)):  # a union's, too
        if get_origin(one) is Annotated and value is not None and fits(value, one):
            _check_number(key, value, get_args(one)[1])


def _meant(value: Any, names: Sequence[str]) -> str:
    """How a message about a word ends: with the nearest of those that there are."""
    near = nearest(value, names) if isinstance(value, str) else []
    return f": did you mean {near[0]}?" if near else "."


def _takes_any_key(composed: DictConfig, key: str) -> bool:
    """Whether a part is one of the user's own by `custom`, whose keys need no plus."""
    node = composed._get_node(key) if key in composed else None  # an evaluation has neither module nor callbacks
    return isinstance(node, DictConfig) and node._metadata.flags is not None and node._get_flag("struct") is False


def _check_parts(key: str, node: Any, may_import: Callable[[str], bool], is_custom: bool) -> None:
    """Checks everything within a node that is to be built."""
    if isinstance(node, Mapping):
        if "_target_" in node and may_import(node["_target_"]):
            _check_part(key, node, is_custom)
        for name, value in node.items():
            _check_parts(f"{key}.{name}", value, may_import, is_custom)
    elif isinstance(node, list):
        for index, value in enumerate(node):
            _check_parts(f"{key}[{index}]", value, may_import, is_custom)


def _check_part(key: str, node: Mapping[str, Any], is_custom: bool) -> None:
    """Refuses keys that what is built does not take, and values of other types than it declares."""
    target = node["_target_"]
    if not isinstance(target, str):
        raise ValueError(f"{key}._target_={text(target)} must be the name of a class or function, package.module.Name.")
    try:
        built = get_object(target)
    except Exception as error:
        reason = str(error.__cause__ or error).splitlines()[-1]
        raise ValueError(f"{key}._target_={target} cannot be imported: {reason}") from error
    if not callable(built):
        raise ValueError(f"{key}._target_={target} is not a class or function that could build anything.")
    parameters = _parameters(built)
    if parameters is None:
        return
    hints, is_open = parameters
    name = target.split(".")[-1]
    given = {str(one): value for one, value in node.items() if one not in _HYDRAS}
    for argument, value in given.items():
        if argument in hints:
            hint = hints[argument].hint
            is_estimate = (argument == "class_weights" and isinstance(value, str)) or (
                argument in ("mean", "std") and value == "auto"
            )
            if is_estimate or (value is None and argument in _FROM_DATA):
                continue
            _check_value(f"{key}.{argument}", value, hint, is_finite=target.startswith(RANGED))
        elif not is_open:
            raise ValueError(f"{name} takes no {argument}{_instead(key, argument, target, list(hints), is_custom)}")
    lacking = [one for one, parameter in hints.items() if parameter.required and one not in given]
    if lacking and not node.get("_partial_") and not node.get("_args_"):
        plus = "" if is_custom else "+"
        given_as = " ".join(f"{plus}{key}.{one}=VALUE" for one in lacking)
        raise ValueError(f"{key}: {name} needs {_listed(lacking)}: {given_as}.")


def _instead(key: str, argument: str, target: str, arguments: Sequence[str], is_custom: bool) -> str:
    """What to write in place of a key that does not fit a target."""
    takes = f"; it takes {', '.join(sorted(arguments)) or 'nothing'}."
    if key in _WITH_CUSTOM and not is_custom and target not in _targets(key):
        return (
            f"{takes} {key}.{argument} is of the choice whose {key}._target_ was changed; start without one: "
            f"{key}=custom {key}._target_={target}, or from a file of yours: --config-dir=FOLDER {key}=NAME."
        )
    near = get_close_matches(argument, arguments, n=1)
    return f": did you mean {key}.{near[0]}?" if near else takes


def _targets(group: str) -> set[str]:
    """What the files of a group build."""
    files = (CONF / group).iterdir()
    found = (re.search(r"^_target_: (\S+)", file.read_text("utf-8"), re.MULTILINE) for file in files)
    return {match[1] for match in found if match}


def wrong_argument(built: Callable[..., Any], given: Mapping[str, Any]) -> str:
    """Which value of a configuration is not of the type that a class or function declares; "" if none is."""
    hints, _ = _parameters(built) or ({}, True)
    for name, value in given.items():
        if name in hints and not fits(value, hints[name].hint):
            return f"{name}={text(value)} must be {words(hints[name].hint)}"
    return ""


class _Parameter(NamedTuple):
    hint: Any
    required: bool


def _parameters(built: Any) -> tuple[dict[str, _Parameter], bool] | None:
    """The keyword arguments of a class or function, and whether it takes any others; None if that is not known."""
    made_by: list[Any] = (
        [vars(one)["__init__"] for one in built.__mro__ if "__init__" in vars(one)]
        if inspect.isclass(built)
        else [built]
    )
    found: dict[str, _Parameter] = {}
    for function in made_by:
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):
            return None
        try:
            hints = get_type_hints(function)
        except Exception:  # names that only a type checker imports
            hints = {}
        is_open = False
        own = [] if _is_of_modules(function) else list(signature.parameters.items())[inspect.isclass(built) :]
        for name, one in own:
            if one.kind is one.VAR_KEYWORD:
                is_open = True
            elif one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY) and name not in found:
                required = one.default is one.empty and function is made_by[0]
                # Of options that are not in the signature as it is written, the annotation tells.
                declared = Any if one.annotation is one.empty else one.annotation
                found[name] = _Parameter(hints.get(name, declared), required)
        if not is_open:
            # A base that takes nothing cannot be what **options are for: the class reads them itself.
            return found, function is not made_by[0] and not own
    return found, True


def _is_of_modules(function: Any) -> bool:
    """Whether it is the constructor of `torch.nn.Module`, which takes anything and then refuses all of it."""
    of = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    return of == ("torch.nn.modules.module", "Module.__init__")


def _check_range(key: str, config: Mapping[str, Any], values: Range) -> None:
    value = _of_known_part(key, config)
    for number in _numbers(value):
        _check_number(key, number, values, value)


def _check_choice(key: str, config: Mapping[str, Any], names: Sequence[str]) -> None:
    value = _of_known_part(key, config)
    if value is not None and not isinstance(value, Mapping) and value not in names:
        raise ValueError(f"{key}={text(value)} must be {listed(names)}{_meant(value, names)}")


def _of_known_part(key: str, config: Mapping[str, Any]) -> Any:
    """The value of a key, where what it belongs to is of a package whose ranges are known; else None."""
    *path, name = key.split(".")
    node: Any = config
    for one in path:
        node = node.get(one) if isinstance(node, Mapping) else None
    is_known = isinstance(node, Mapping) and str(node.get("_target_", "")).startswith(RANGED)
    return node.get(name) if is_known else None


def _check_number(key: str, number: float, values: Range, whole: Any = None) -> None:
    if not values.holds(number):
        raise ValueError(f"{key}={text(number if whole is None else whole)}, but it {values}.")


def _check_together(config: Mapping[str, Any]) -> None:
    """Refuses values that contradict each other."""
    callbacks = config.get("callbacks") or {}
    monitors = [
        name for name, one in callbacks.items() if one and str(one.get("_target_")).endswith("LearningRateMonitor")
    ]
    if monitors and not config.get("logger"):
        raise ValueError(
            f"callbacks.{monitors[0]} logs to a logger, and there is none: add logger=csv, or leave it out."
        )
    finders = [
        name for name, one in callbacks.items() if one and str(one.get("_target_")).endswith("LearningRateFinder")
    ]
    if finders:
        raise ValueError(
            f"callbacks.{finders[0]} cannot set the learning rate of a schedule: let find_learning_rate=true suggest "
            "one, search it with "
            "lightning-seg-train -m sweep=loss_and_learning_rate, or list values with -m optimizer.lr=1e-4,1e-3,1e-2."
        )
    trainer, scheduler = config.get("trainer") or {}, config.get("scheduler") or {}
    if scheduler.get("monitor") and trainer.get("limit_val_batches") == 0:
        raise ValueError(
            f"scheduler.monitor={scheduler['monitor']} is a score of the validation, which trainer.limit_val_batches=0 "
            "leaves out: choose another schedule, for example scheduler=polynomial."
        )
    _check_lengths(trainer)
    _check_devices(trainer)
    _check_batchnorm(trainer)
    data, backbone = config.get("data") or {}, config.get("backbone") or {}
    _check_data(config, data, backbone)


def _check_lengths(trainer: Mapping[str, Any]) -> None:
    """Refuses lengths that Lightning would not take."""
    times = {"max_time": trainer.get("max_time")}
    interval = trainer.get("val_check_interval")
    if isinstance(interval, str):
        times["val_check_interval"] = interval
    for name, time in times.items():
        if isinstance(time, int | float | str) and not re.fullmatch(r"\d+:\d\d:\d\d:\d\d", str(time)):
            raise ValueError(f"trainer.{name}={text(time)} must be days:hours:minutes:seconds, as in 00:02:30:00.")
    for name in SHARES:
        value = trainer.get(name)
        if isinstance(value, float) and value > 1:
            raise ValueError(
                f"trainer.{name}={text(value)}, but a share is 1.0 at most; a number of batches is written without a "
                "point."
            )


def _check_devices(trainer: Mapping[str, Any]) -> None:
    devices = trainer.get("devices", "auto")
    indices = devices if isinstance(devices, list) else [one.strip() for one in str(devices).split(",")]
    is_count = len(indices) == 1 and not isinstance(devices, list)
    if not (devices in ("auto", -1, "-1") or (indices and all(re.fullmatch(r"\d+", str(one)) for one in indices))) or (
        is_count and str(devices) == "0"
    ):
        raise ValueError(f"trainer.devices={text(devices)} must be a number of 1 or more, auto, or indices, [0,2].")
    if len(set(map(str, indices))) < len(indices):
        raise ValueError(f"trainer.devices={text(devices)} names a device twice: each has one process.")
    if trainer.get("accelerator") == "cpu" and (devices in (-1, "-1") or isinstance(devices, list)):
        raise ValueError(f"trainer.devices={text(devices)} names GPUs; with trainer.accelerator=cpu give a number.")


def _check_batchnorm(trainer: Mapping[str, Any]) -> None:
    if trainer.get("accelerator") == "cpu" and trainer.get("sync_batchnorm"):
        raise ValueError(
            "trainer.sync_batchnorm=true is for GPUs, and trainer.accelerator=cpu has none: use "
            "trainer.sync_batchnorm=false."
        )


def _check_data(config: Mapping[str, Any], data: Mapping[str, Any], backbone: Mapping[str, Any]) -> None:
    _check_dimensions(data, backbone, config.get("augment") or {})
    if (
        str(data.get("_target_")).endswith("lightning_seg.data.VolumesDataModule")
        and config.get("task") == "multilabel"
    ):
        raise ValueError("task=multilabel is for images: data=volumes reads one label a voxel.")
    if str(data.get("_target_")).startswith("lightning_seg.data."):
        named = data.get("channels", "rgb")
        expected = {"rgb": 3, "all": None}.get(named, 3) if isinstance(named, str) else len(named)
        what = "(RGB)" if named == "rgb" else f"(data.channels={text(named)})"
        channels = backbone.get("in_channels", 3)
        is_ours = str(backbone.get("_target_")).startswith("lightning_seg.")
        if expected is not None and channels != expected and is_ours and "in_channels" in backbone:
            raise ValueError(
                f"backbone.in_channels={channels}, but {data['_target_'].split('.')[-1]} loads images of {expected} "
                f"channels {what}: use backbone.in_channels={expected}, name them in data.channels, or take a data "
                "module of your own, data._target_=package.Name."
            )
        for name in ("mean", "std"):
            if isinstance(data.get(name), list) and expected is not None and len(data[name]) != expected:
                raise ValueError(
                    f"data.{name} has {len(data[name])} numbers, and images have {expected} channels {what}: give "
                    f"{expected}" + ("." if expected == 3 else ", or data.mean=auto data.std=auto to measure them.")
                )


def _check_dimensions(data: Mapping[str, Any], backbone: Mapping[str, Any], augment: Mapping[str, Any]) -> None:
    """Refuses networks and augmentation of 2-D images for volumes, and the other way round, as far as they are ours."""
    if not str(data.get("_target_")).startswith("lightning_seg.data."):
        return
    volumes = str(data["_target_"]).endswith(".VolumesDataModule") or data.get("dimensions") == 3
    wrong, take = [], []
    if str(backbone.get("_target_")).startswith("lightning_seg.backbones."):
        sides = backbone.get("spatial_dims", 2)
        if sides != (3 if volumes else 2):
            wrong.append("backbone is a network for " + ("pictures" if volumes else "volumes"))
            take.append("backbone=unet_3d, or backbone=monai backbone.spatial_dims=3," if volumes else "backbone=unet")
    of_augment = str(augment.get("_target_")).rpartition(".")[2]
    if of_augment == ("training_augmentation" if volumes else "volume_augmentation"):
        wrong.append("augment changes " + ("pictures" if volumes else "volumes"))
        take.append("augment=volumes" if volumes else "augment=light")
    if wrong:
        kind = "volumes" if volumes else "pictures"
        raise ValueError(f"data gives {kind}, and {' and '.join(wrong)}: use {' and '.join(take).rstrip(',')}.")


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, list):
        for one in value:
            yield from _numbers(one)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]


def _command(schema: type) -> str:
    return f"lightning-seg-{schema.__name__.lower()}"
