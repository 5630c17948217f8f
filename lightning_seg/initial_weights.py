"""Weights to begin a training with: what of a file fits a network is loaded, and the rest is said.

This is `init_from=PATH` of the command, and in Python:

    weights = read_weights("best.ckpt")
    print_loaded(load_weights(module, weights, source="best.ckpt"), "best.ckpt")
"""

import os
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import Tensor, nn

from lightning_seg.backbones.encoder import encoder_names
from lightning_seg.reading import wrong_entries
from lightning_seg.runs.plain import IN_PARTS, SHARDS
from lightning_seg.text import print_table, printable

_NESTED = ("state_dict", "model_state_dict", "model", "network_weights", "weights")
_DEEPEST = 8  # mappings within each other
_MOST_PREFIXES = 60  # of names in a file, which may begin as its author's classes do
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_MOST_ROWS = 8  # of a kind in the table


@dataclass
class LoadedWeights:
    """What became of the tensors of a file and of a network.

    Attributes:
        loaded: names in the network, each with that in the file.
        parameters: how many numbers these hold, and how many the network has.
        other_shape: names in the network, each with the shape in the file and its own.
        missing: names in the network that the file lacks.
        unexpected: names in the file that the network lacks.
        adapted: the first layer, where it is for another number of channels, as `other_shape`; it is among `loaded`.
    """

    loaded: dict[str, str]
    parameters: tuple[int, int]
    other_shape: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    adapted: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint, a state dict or a safetensors file by their names, without running code from it.

    Args:
        path: what `torch.save` or safetensors wrote: names to tensors, as they are or under `state_dict` or `model`.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it is no such file, or holds no tensors.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"init_from={path} does not exist; a run keeps its own in RUN/checkpoints/best.ckpt.")
    if os.path.lexists(path / SHARDS):
        raise ValueError(f"init_from={path} {IN_PARTS}")
    if not path.is_file():
        raise ValueError(f"init_from={path} is not a file; a run's checkpoint is RUN/checkpoints/best.ckpt.")
    try:
        content = _safetensors(path) if _is_safetensors(path) else _saved(path)
    except Exception as error:  # whatever torch makes of a damaged or a foreign file
        if isinstance(error, ModuleNotFoundError):
            raise ValueError(f"init_from={path} needs safetensors: pip install safetensors.") from error
        if "weights_only" in str(error) or "Unsupported global" in str(error):
            raise ValueError(
                f"init_from={path} holds objects, such as a whole network, and reading them runs code from the file: "
                "save its state_dict() with torch.save, or as safetensors."
            ) from error
        said = next(iter(str(error).splitlines()), "")
        reason = said if any(map(str.isalpha, said)) else "it is damaged, or something else"
        raise ValueError(
            f"init_from={path} is neither a checkpoint, nor a state dict of torch.save, nor safetensors: {reason}"
        ) from error
    weights = _tensors(content)
    if not weights:
        keys = ", ".join(map(str, list(content)[:8])) if isinstance(content, Mapping) else ""
        found = f"the keys {keys}" if keys else "nothing" if isinstance(content, Mapping) else "no mapping"
        raise ValueError(f"init_from={path} holds {found}, not a mapping from names to tensors.")
    return weights


def load_weights(
    module: nn.Module, weights: Mapping[str, Tensor], *, encoder: str | Sequence[str] = "auto", source: str
) -> LoadedWeights:
    """Loads what fits by name and shape, in place; a module's `loss` stays as it is.

    The names may be those of the module, of its network `backbone`, of the network that a wrapper such as `PadToStride`
    holds, or of the pretrained part alone, and may begin with something else in the file (`module.`, `model.`): of all
    of these the one is taken by which most tensors fit. The weight of a first layer for images of another number of
    channels is adapted, see `for_channels`.

    Args:
        module: for example a `SegmentationModule`.
        weights: tensors by name, for example of `read_weights`.
        encoder: the pretrained part, see `lightning_seg.backbones.encoder_names`.
        source: where the weights come from, for messages.

    Returns:
        What was loaded, and what was not.

    Raises:
        ValueError: nothing fits, or what fits is not finite.
    """
    own = {
        name: value
        for name, value in module.state_dict().items()
        if isinstance(value, Tensor) and not name.startswith("loss.")
    }
    given = {name.replace("_orig_mod.", ""): name for name in weights}  # of torch.compile
    removed, added = _best_prefixes(own, {name: weights[key] for name, key in given.items()}, _targets(module, encoder))
    named = {added + name.removeprefix(removed): key for name, key in given.items() if name.startswith(removed)}
    fitting = {name: key for name, key in named.items() if name in own and own[name].shape == weights[key].shape}
    adapted = _first_layer(module, own, {name: weights[key] for name, key in named.items()}) if fitting else {}
    fitting |= {name: named[name] for name in adapted}
    trained = {name for name, _ in module.named_parameters() if name in own}
    if not trained & fitting.keys():
        raise ValueError(
            f"{source}: none of its {len(weights)} tensors fits the network by name and shape: the file has "
            f"{_first(weights)}, and the network {_first(name for name in own if name in trained)}."
        )
    for key in fitting.values():
        if weights[key].is_floating_point() and not bool(weights[key].isfinite().all()):
            raise ValueError(f"{source}: its tensor {key} holds numbers that are not finite.")
    module.load_state_dict({name: weights[key] for name, key in fitting.items()} | adapted, strict=False)
    used = set(fitting.values())
    other_shape = {
        name: (tuple(weights[key].shape), tuple(own[name].shape))
        for name, key in named.items()
        if name in own and name not in fitting
    }
    return LoadedWeights(
        loaded=fitting,
        parameters=(sum(own[name].numel() for name in trained & fitting.keys()), sum(own[n].numel() for n in trained)),
        other_shape=other_shape,
        missing=[name for name in own if name not in fitting and name not in other_shape],
        unexpected=[key for key in weights if key not in used and key not in {named[name] for name in other_shape}],
        adapted={name: (tuple(weights[named[name]].shape), tuple(weight.shape)) for name, weight in adapted.items()},
    )


def for_channels(weight: Tensor, channels: int) -> Tensor:
    """The weight of a convolution, `(out, in, *kernel)`, for images of another number of channels.

    Its channels are repeated in their order and scaled, so that the sum over them stays; for one they are added.
    """
    before = weight.shape[1]
    repeated = weight[:, torch.arange(channels) % before]
    return weight.sum(1, keepdim=True) if channels == 1 else repeated * (before / channels)


def _first_layer(module: nn.Module, own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weight of the first convolution, if it is one for another number of channels."""
    name, layer = next(
        ((name, part) for name, part in module.named_modules() if isinstance(part, _CONVOLUTIONS)), ("", None)
    )
    key = f"{name}.weight"
    if layer is None or key not in given or key not in own:
        return {}
    there, here = given[key].shape, own[key].shape
    if len(there) != len(here) or there[1] == here[1] or there[:1] + there[2:] != here[:1] + here[2:]:
        return {}
    return {key: for_channels(given[key].float(), here[1]).to(own[key].dtype)} if layer.groups == 1 else {}


def print_loaded(result: LoadedWeights, path: str | Path) -> None:
    """Prints one table of what was loaded, what was not, and why."""
    now, all_of_them = result.parameters
    table = Table(title=f"init_from={printable(path)}: {now:,} of {all_of_them:,} parameters loaded")
    for name in ("", "part", "tensors", "why"):
        table.add_column(name, justify="right" if name == "tensors" else "left")
    for part, count in _grouped(result.loaded):
        table.add_row("loaded", printable(part), str(count), "")
    for name, (there, here) in result.adapted.items():
        table.add_row("adapted", printable(name), "1", f"{there[1]} channels in the file, {here[1]} here")
    for name, (there, here) in list(result.other_shape.items())[:_MOST_ROWS]:
        table.add_row("other shape", printable(name), "1", f"{there} in the file, {here} here")
    if len(result.other_shape) > _MOST_ROWS:
        table.add_row("other shape", "...", str(len(result.other_shape) - _MOST_ROWS), "")
    for part, count in _grouped(result.missing):
        table.add_row("missing", printable(part), str(count), "not in the file")
    for part, count in _grouped(result.unexpected):
        table.add_row("unexpected", printable(part), str(count), "not in the network")
    print_table(table)


def _is_safetensors(path: Path) -> bool:
    """A safetensors file begins with the length of its header, which is JSON."""
    with path.open("rb") as file:
        start = file.read(9)
    return start[8:] == b"{" and int.from_bytes(start[:8], "little") <= os.path.getsize(path)


def _safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file  # here: no other weights need it

    return load_file(path)


def _saved(path: Path) -> Any:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            wrong = wrong_entries(archive.infolist(), path.stat().st_size)
        if wrong:
            raise ValueError(wrong)
    return torch.load(path, map_location="cpu", weights_only=True)


def _tensors(content: Any) -> dict[str, Tensor]:
    """The tensors of a mapping, or of one within it, whichever has the most."""
    best: dict[str, Tensor] = {}
    level = [content] if isinstance(content, Mapping) else []
    for _ in range(_DEEPEST):
        for one in level:
            best = max(best, {str(name): value for name, value in one.items() if isinstance(value, Tensor)}, key=len)
        level = [one[name] for one in level for name in _NESTED if isinstance(one.get(name), Mapping)][:_DEEPEST]
    return best


def _targets(module: nn.Module, encoder: str | Sequence[str]) -> list[str]:
    """Names within a module that a file's names may be relative to, each with a dot at its end."""
    roots = ["", *(["backbone"] if isinstance(getattr(module, "backbone", None), nn.Module) else [])]
    backbone = module.get_submodule(roots[-1])
    try:
        names = encoder_names(backbone, encoder)
    except ValueError:  # a network without such a part takes whole files only
        if encoder != "auto":
            raise
        names = []
    if len(names) == 1:
        roots.append(f"{roots[-1]}.{names[0]}" if roots[-1] else names[0])
    found: dict[str, None] = {}
    for root in roots:
        for name in _chain(module, root):
            found[f"{name}." if name else ""] = None
    return list(found)


def _chain(module: nn.Module, root: str) -> list[str]:
    """A part and those that hold all that it holds, as within a wrapper."""
    names, size = [root], len(module.get_submodule(root).state_dict())
    while True:
        children = module.get_submodule(names[-1]).named_children()
        inner = [name for name, child in children if len(child.state_dict()) == size]
        if not inner:
            return names
        names.append(f"{names[-1]}.{inner[0]}" if names[-1] else inner[0])


def _best_prefixes(own: Mapping[str, Tensor], given: Mapping[str, Tensor], targets: Sequence[str]) -> tuple[str, str]:
    """What to take off the names of a file and to put before them, so that most tensors fit."""
    prefixes = Counter("")
    for name in given:
        parts = name.split(".")
        prefixes.update(".".join(parts[:depth]) + "." for depth in range(1, min(len(parts), 5)))
    shapes = {name: tensor.shape for name, tensor in own.items()}

    def fitting(removed: str, added: str) -> tuple[int, int]:
        inside = {added + name[len(removed) :]: tensor for name, tensor in given.items() if name.startswith(removed)}
        named = [name for name in inside if name in shapes]
        return sum(inside[name].shape == shapes[name] for name in named), len(named)

    pairs = [(removed, added) for removed in ("", *dict(prefixes.most_common(_MOST_PREFIXES))) for added in targets]
    return max(pairs, key=lambda pair: fitting(*pair))


def _grouped(names: Iterable[str]) -> list[tuple[str, int]]:
    """Names by the parts that they belong to, in as much detail as a few rows allow."""
    listed = list(names)
    for depth in range(max((name.count(".") + 1 for name in listed), default=1), 0, -1):
        groups = Counter(".".join(name.split(".")[:depth]) for name in listed)
        if len(groups) <= _MOST_ROWS:
            return list(groups.items())
    rows = list(groups.items())
    return [*rows[:_MOST_ROWS], ("...", sum(count for _, count in rows[_MOST_ROWS:]))]


def _first(names: Iterable[str]) -> str:
    return ", ".join(list(names)[:3])
