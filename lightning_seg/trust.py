"""What a stored configuration may build: objects of the kind that their role wants, by whole names of a list.

A name is compared with the list before anything is imported, the whole configuration is checked before anything is
built, and what was built is checked for its kind. Hydra has no part in it: a stored configuration is plain data.
"""

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

from lightning.pytorch import LightningDataModule
from omegaconf import OmegaConf
from torch import nn

from lightning_seg.bounds import Bounded, check_values
from lightning_seg.module import SegmentationModule
from lightning_seg.schema.check import wrong_argument
from lightning_seg.trusted import CLASSES, FUNCTIONS, Role, is_below, is_of


class Untrusted(ValueError):
    """A configuration names something to build that is on no list.

    Attributes:
        target: the name.
        place: where it stands, `module.backbone` for example.
    """

    def __init__(self, message: str, target: str, place: str) -> None:
        super().__init__(message)
        self.target = target
        self.place = place


@dataclass(frozen=True)
class _Found:
    """A class or function, and the role in whose list it stands; None if the user trusts it."""

    function: Callable[..., Any]
    role: Role | None


# What must come out.
_KINDS: dict[Role, type] = {
    "module": SegmentationModule,
    "network": nn.Module,
    "loss": nn.Module,
    "data": LightningDataModule,
}
# What the nodes of a role may hold within them, and (part) those of somebody's own. A loss has terms, and weights that
# follow a schedule.
_WITHIN: dict[Role, tuple[Role, ...]] = {
    "module": ("network", "loss", "schedule"),
    "network": ("network",),
    "loss": ("loss", "schedule"),
    "schedule": (),
    "data": ("transform",),
    "transform": ("transform",),
    "part": ("network", "loss", "schedule", "transform"),
}
_PLACES: dict[str, Role] = {"backbone": "network", "loss": "loss"}  # of a module

_NOTHING: Mapping[str, Any] = {}
_RESERVED = ("_args_", "_recursive_", "_convert_", "_partial_")
# Arguments by which a network opens or downloads weights; a checkpoint has its own.
_WEIGHTS = ("encoder_weights", "weights", "weights_backbone", "checkpoint_path", "cache_dir")

_LARGEST = 2**16  # of a network's integers: channels, sizes, layers
# Packages by which a file could run anything: naming one of them is never proposed.
_NEVER_PROPOSED = sys.stdlib_module_names | frozenset(
    {
        *("torch", "torchvision", "hydra", "hydra_plugins", "omegaconf", "lightning", "pytorch_lightning"),
        *("lightning_fabric", "lightning_seg", "lightning_utilities", "torchmetrics", "numpy", "scipy", "PIL"),
        *("yaml", "pip", "setuptools", "pkg_resources", "wheel", "cloudpickle", "dill", "joblib", "fsspec"),
        *("requests", "urllib3", "submitit", "optuna", "sqlalchemy", "rich", "pytest", "IPython", "triton"),
    }
)


def build_trusted(
    config: Mapping[str, Any],
    role: Role,
    *,
    trusted: Sequence[str] = (),
    source: str,
    tensors: int | None = None,
    memory: int | None = None,
) -> Any:
    """What a stored configuration describes, if all of it is of the kinds that its role allows.

    Networks are built without pretrained weights, and nothing that the configuration names is opened or downloaded.

    Args:
        config: plain containers with `_target_`.
        role: what it is to be: a module, a data module, ...
        trusted: packages, modules or full names of one's own, whose classes and functions may be built in any place.
        source: where the configuration comes from, for the message.
        tensors: how many parameters and buffers may be expected. Default: any number.
        memory: how many bytes of these. Default: any number.

    Raises:
        ValueError: it holds something else, or cannot be built; if a name or value is refused, nothing was built.
    """
    builder = _checked(config, role, trusted, source)
    with Bounded(tensors, memory):
        built = builder.build(config, (role,), role)
    return builder.require(built, role, role)


def check_trusted(config: Mapping[str, Any], role: Role, *, trusted: Sequence[str] = (), source: str) -> None:
    """Refuses what `build_trusted` would refuse by its names and values; nothing is built.

    Raises:
        ValueError: see `build_trusted`.
    """
    _checked(config, role, trusted, source)


def _checked(config: Mapping[str, Any], role: Role, trusted: Sequence[str], source: str) -> "_Builder":
    check_values(config, source)
    builder = _Builder(tuple(trusted), source)
    builder.check(config, (role,), role)
    return builder


def own_packages(config: Any) -> list[str]:
    """The packages that a run's configuration builds from and that its user may trust: none that could run anything."""
    found: set[str] = set()
    pending = [config]
    while pending:
        node = pending.pop()
        if isinstance(node, Mapping):
            target = node.get("_target_")
            found |= {target.split(".")[0]} if isinstance(target, str) else set()
            pending.extend(node.values())
        elif isinstance(node, list | tuple):
            pending.extend(node)
    return sorted(name for name in found if _may_be_trusted(name))


class _Builder:
    """Checks a configuration, and then builds it."""

    def __init__(self, trusted: tuple[str, ...], source: str) -> None:
        self.trusted = trusted
        self.source = source
        self.found: dict[tuple[str, tuple[Role, ...]], _Found] = {}

    def check(self, node: Any, roles: tuple[Role, ...], place: str) -> None:
        """Refuses a node, and any within it, that none of the roles allows."""
        if isinstance(node, list | tuple):
            for index, value in enumerate(node):
                self.check(value, roles, f"{place}[{index}]")
        elif isinstance(node, Mapping) and "_target_" not in node:
            for key in (key for key in node if key in _RESERVED):
                raise ValueError(f"{self.source} holds {place}.{key} without a _target_ beside it.")
            for name, value in node.items():
                self.check(value, roles, f"{place}.{name}")
        elif isinstance(node, Mapping):
            found = self.locate(node["_target_"], roles, place)
            if found.role is not None:
                self._check_listed(node, found.role, place)
            elif "_recursive_" in node:
                raise ValueError(f"{self.source} holds {place}._recursive_, under which nothing could be checked.")
            for name, value in _arguments(node):
                self.check(value, _within(found, roles, name), f"{place}.{name}")
            self._check_types(node, found, place)

    def build(self, node: Any, roles: tuple[Role, ...], place: str) -> Any:
        """What a checked node describes; containers are plain, unless a part of one's own asks for others."""
        if isinstance(node, list | tuple):
            return [self.build(value, roles, f"{place}[{index}]") for index, value in enumerate(node)]
        if not isinstance(node, Mapping):
            return node
        if "_target_" not in node:
            return {name: self.build(value, roles, f"{place}.{name}") for name, value in node.items()}
        found = self.locate(node["_target_"], roles, place)
        arguments = {
            name: self.build(value, _within(found, roles, name), f"{place}.{name}") for name, value in _arguments(node)
        }
        if roles == ("module",):
            for name in _PLACES.keys() & arguments.keys():
                if arguments[name] is not None:
                    self.require(arguments[name], _PLACES[name], f"{place}.{name}")
        if found.role is None:
            return self._call_own(found.function, arguments, place)
        if found.role == "network":
            arguments = _without_weights(found.function, arguments)
        return self._call(found.function, arguments, place, dict(_arguments(node)))

    def require(self, built: Any, role: Role, place: str) -> Any:
        """What was built, if it is of the role's kind."""
        if role in _KINDS and not isinstance(built, _KINDS[role]):
            raise ValueError(
                f"{self.source} describes a {type(built).__name__} as {place}, which is not a {_KINDS[role].__name__}."
            )
        return built

    def locate(self, target: Any, roles: tuple[Role, ...], place: str) -> _Found:
        """The class or function of a name.

        Raises:
            ValueError: no role allows it.
        """
        known = self.found.get((target, roles)) if isinstance(target, str) else None
        found = known or (isinstance(target, str) and (self._own(target) or _listed(target, roles))) or None
        if found is None:
            raise Untrusted(
                f"{self.source} asks to build {target!r} as {place}, {_refusal(target)}", str(target), place
            )
        self.found[target, roles] = found
        return found

    def _own(self, target: str) -> _Found | None:
        for package in self.trusted:
            rest = f"{target}.".removeprefix(f"{package}.")
            if not package or rest == f"{target}." or any(part.startswith("_") for part in rest.split(".")):
                continue
            found = _import(target)
            plain = inspect.isclass(found) or (inspect.isfunction(found) and found.__name__ != "<lambda>")
            if plain and found.__qualname__ == found.__name__ and is_below(found.__module__, _owner(package)):
                return _Found(found, None)
        return None

    def _check_listed(self, node: Mapping[str, Any], role: Role, place: str) -> None:
        for name, value in _arguments(node):
            if name in _RESERVED:
                raise ValueError(
                    f"{self.source} holds {place}.{name}, which no configuration of lightning_seg has: write this part "
                    "as a class or function of your own, and name its package in trusted=[...]."
                )
            if name.startswith("_"):
                raise ValueError(f"{self.source} holds {place}.{name}: names that begin with _ are not arguments.")
            if role == "network" and node["_target_"].startswith("transformers."):
                self._check_repository(node, place)
            if role == "network" and not is_of_weights(name):
                self._check_network_value(value, f"{place}.{name}")

    def _check_types(self, node: Mapping[str, Any], found: _Found, place: str) -> None:
        """Refuses values of another type than a class of this package declares; others may declare what they take."""
        if found.role not in ("module", "network", "loss") or not is_below(found.function.__module__, "lightning_seg"):
            return
        if wrong := wrong_argument(found.function, dict(_arguments(node))):
            raise ValueError(f"{self.source}: {place}.{wrong[:500]}.")

    def _check_repository(self, config: Mapping[str, Any], place: str) -> None:
        """Refuses a configuration of transformers that names a repository, or code in one."""
        is_named = str(config.get("_target_")).endswith(".TimmBackboneConfig")
        of_timm = is_named or config.get("model_type") == "timm_backbone"
        for name in ("backbone", "auto_map"):
            if (isinstance(config.get(name), str) and not of_timm) or (name == "auto_map" and name in config):
                raise ValueError(
                    f"{self.source} holds {place}.{name}={config[name]!r}, which would be downloaded: describe the "
                    "network by backbone_config."
                )

    def _check_network_value(self, value: Any, place: str) -> None:
        if isinstance(value, list | tuple):
            for item in value:
                self._check_network_value(item, place)
        elif isinstance(value, Mapping) and "_target_" not in value:
            self._check_repository(value, place)
            for name, item in value.items():
                if is_of_weights(name) and item:
                    raise ValueError(f"{self.source} holds {place}.{name}, weights to open or to download.")
                self._check_network_value(item, f"{place}.{name}")
        elif isinstance(value, str) and not _is_plain_word(value):
            raise ValueError(
                f"{self.source} holds {place}={value!r}, a path or an address: a network is built from a file by names "
                "only, and nothing is opened or downloaded."
            )
        elif type(value) is int and abs(value) > _LARGEST:
            raise ValueError(f"{self.source} holds {place}={value}; expected at most {_LARGEST}.")

    def _call_own(self, function: Callable[..., Any], arguments: dict[str, Any], place: str) -> Any:
        options = {name: arguments.pop(name) for name in _RESERVED if name in arguments}
        hand = _as_hydra_gives if options.get("_convert_", "all") == "none" else _as_it_is
        positional = [hand(value) for value in options.get("_args_") or ()]
        named = {name: hand(_without_own_weights(name, value)) for name, value in arguments.items()}
        prepared = partial(function, *positional, **named)
        return prepared if options.get("_partial_") else self._call(prepared, {}, place)

    def _call(
        self, function: Callable[..., Any], arguments: dict[str, Any], place: str, written: Mapping[str, Any] = _NOTHING
    ) -> Any:
        try:
            return function(**arguments)
        except Exception as error:  # whatever a constructor makes of a stranger's arguments
            name = getattr(function, "func", function).__name__
            said = "" if isinstance(error, ValueError) else wrong_argument(function, written)
            reason = " ".join((said or str(error)).split())[:500].rstrip(".") or type(error).__name__
            raise ValueError(f"{self.source}: {place} ({name}) cannot be built: {reason}.") from error


def _arguments(node: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    return ((name, value) for name, value in node.items() if name != "_target_")


def _within(found: _Found, roles: tuple[Role, ...], name: str) -> tuple[Role, ...]:
    """The roles that an argument of what was found may have."""
    if roles == ("module",) and name in _PLACES:
        return (_PLACES[name],)
    return _WITHIN["part"] if found.role is None else _WITHIN[found.role]


def _refusal(target: Any) -> str:
    root = target.split(".")[0] if isinstance(target, str) else ""
    if not _may_be_trusted(root):
        return "which no trusted package defines for this place: a file that asks for it should not be loaded."
    return (
        "which no trusted package defines for this place: if you trust the file, name the package that defines it, "
        f"for example trusted=[{root}]."
    )


def _may_be_trusted(package: str) -> bool:
    return package.isidentifier() and not package.startswith("_") and package not in _NEVER_PROPOSED


def _listed(target: str, roles: tuple[Role, ...]) -> _Found | None:
    """A class or function of the list, compared by its whole name before it is imported."""
    module, _, name = target.rpartition(".")
    if any(part.startswith("_") or not part.isidentifier() for part in target.split(".")):
        return None
    for role in roles:
        if target in FUNCTIONS.get(role, ()):
            found = _import(target)
            return _Found(found, role) if inspect.isfunction(found) else None
        for classes in CLASSES.get(role, ()):
            if classes.names is not None and name not in classes.names:
                continue
            if module == classes.written or is_below(module, classes.defined):
                found = _import(target)
                if is_of(found, classes):
                    return _Found(found, role)
    return None


def _import(target: str) -> Any:
    """What a dotted name stands for, in the module that it names; None if there is no such thing."""
    module, _, name = target.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except Exception:  # a module of a listed package may lack what it needs
        return None


def _owner(package: str) -> str:
    """The module of what a user trusts, which may also be the full name of a class."""
    found = _import(package) if "." in package else None
    return package.rpartition(".")[0] if inspect.isclass(found) or inspect.isfunction(found) else package


def _is_plain_word(text: str) -> bool:
    return all(character.isalnum() or character in "_-+. " for character in text) and ".." not in text


def is_of_weights(name: str) -> bool:
    """Whether an argument of a network says what weights to open or to download."""
    return name in _WEIGHTS or "pretrained" in name or name.endswith("attn_implementation")


def _without_weights(function: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a listed network without pretrained weights, also where those are its default."""
    kept = {name: value for name, value in arguments.items() if not is_of_weights(name)}
    parameters = [name for name in inspect.signature(function).parameters if is_of_weights(name)]
    return kept | {name: False if name == "pretrained" else None for name in parameters}


def _without_own_weights(name: str, value: Any) -> Any:
    """An argument of a part of one's own, without what would download weights."""
    if name == "pretrained" and value is not None:
        return False
    return None if is_of_weights(name) and isinstance(value, str) else value


def _as_it_is(value: Any) -> Any:
    return value


def _as_hydra_gives(value: Any) -> Any:
    """Containers as Hydra's `instantiate` gives them to a constructor that asks for them by `_convert_`."""
    return OmegaConf.create(value, flags={"allow_objects": True}) if isinstance(value, list | dict) else value
