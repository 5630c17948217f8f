"""What was swept: the parameters that some runs differ in, and the runs that only repeat others, by seed or fold."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any

from lightning_seg.runs.identity import flattened, is_place

_SEED, _FOLD = "seed", "data.fold"
_Values = tuple[str | None, ...]


@dataclass(frozen=True)
class Parameter:
    """A parameter in which runs differ.

    Args:
        key: its name in the configuration.
        label: a shorter name, which no other parameter has.
        values: its text for each run, None where a run has no such parameter.
        with_it: other keys of the same part of the configuration that change whenever this one does, with their texts.
    """

    key: str
    label: str
    values: _Values
    with_it: dict[str, _Values] = field(default_factory=dict)


def swept_parameters(configs: Sequence[Mapping[str, Any]]) -> list[Parameter]:
    """The parameters in which configurations differ, without their seed, fold and the places of files.

    A part that differs in what it is (`loss`, `backbone`, ...) is one parameter, whose value names it; the parameters
    that this explains are left out, as are copies of a parameter elsewhere (`module.loss.smooth` of `loss.smooth`).
    Any two runs that agree in all of them agree in their whole configurations but for seed, fold and places.
    """
    flat = [_without_places(flattened(config)) for config in configs]
    keys = dict.fromkeys(key for config in flat for key in config)
    values = {key: tuple(_text(config[key]) if key in config else None for config in flat) for key in keys}
    repeats = values.pop(_SEED, ()), values.pop(_FOLD, ())
    differing = {key: texts for key, texts in values.items() if len(set(texts)) > 1 and texts not in repeats}
    originals = _without_copies(differing)

    named: dict[str, _Values] = {}
    for part in dict.fromkeys(key.split(".")[0] for key in originals):
        names = tuple(_part_name(config.get(part), part) for config in configs)
        below = [key for key in originals if key == part or key.startswith(f"{part}.")]
        if len(set(names)) > 1:
            named[part] = names
            below = [key for key in below if not _explains(names, originals[key])]
        named |= {key: originals[key] for key in below}
    for key, texts in differing.items():
        if not _explains(list(zip(*named.values(), strict=True)), texts):
            named[key] = texts
    return _labeled(_joined(named))


def repeat_of(config: Mapping[str, Any]) -> int | str:
    """What a run repeats others with: its seed, and the fold of its data if it has one, `0, fold 2`."""
    data = config.get("data")
    fold = data.get("fold") if isinstance(data, Mapping) else None
    seed: int | str = config[_SEED]
    return seed if fold is None else f"{seed}, fold {fold}"


def group_runs(parameters: Sequence[Parameter], count: int) -> list[list[int]]:
    """The indices of runs that agree in all parameters, in the order of their first run."""
    groups: dict[_Values, list[int]] = {}
    for run in range(count):
        groups.setdefault(tuple(parameter.values[run] for parameter in parameters), []).append(run)
    return list(groups.values())


def _without_places(config: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in config.items() if not is_place(key)}
    if isinstance(kept.get("data.root"), str):
        kept["data.root"] = PurePath(kept["data.root"]).name  # the same data on another machine
    return kept


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _without_copies(differing: dict[str, _Values]) -> dict[str, _Values]:
    """Leaves out what is interpolated from a parameter of the same name further up, or in `data`."""
    kept: dict[str, _Values] = {}
    for key in sorted(differing, key=lambda key: (key.count("."), not key.startswith("data."))):
        name = key.split(".")[-1]
        originals = (texts for other, texts in kept.items() if other.split(".")[-1] == name)
        if not any(_is_copy(differing[key], original) for original in originals):
            kept[key] = differing[key]
    return {key: texts for key, texts in differing.items() if key in kept}


def _is_copy(texts: _Values, original: _Values) -> bool:
    return all(text is None or text == first for text, first in zip(texts, original, strict=True))


def _part_name(node: Any, part: str) -> str:
    """What a part of the configuration builds, with what it is built from: `Compound(Focal, Dice)`."""
    if not isinstance(node, Mapping):
        return "none" if node is None else _text(node)
    name = str(node.get("_target_", "")).split(".")[-1]
    if part == "loss":
        name = name.removesuffix("Loss") or name
    # The module is built from the other parts, which have names of their own.
    if part == "callbacks":
        node = {key: child for key, child in node.items() if not is_place(f"callbacks.{key}")}
    inner = [] if part == "module" else [_part_name(child, part) for child in _built_parts(node)]
    listed = ", ".join(inner)
    return (f"{name}({listed})" if name else listed) if inner else name or "none"


def _built_parts(node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    parts: list[Mapping[str, Any]] = []
    for child in node.values():
        if isinstance(child, Mapping):
            parts += [child] if "_target_" in child else _built_parts(child)
    return parts


def _explains(names: Sequence[Any], texts: _Values) -> bool:
    """Whether runs of equal names have equal texts."""
    return len(set(zip(names, texts, strict=True))) == len(set(names))


def _joined(named: dict[str, _Values]) -> list[Parameter]:
    """One parameter for those of the same part that always change together, as with another choice of a part."""
    joined: list[Parameter] = []
    for key, texts in named.items():
        part = key.split(".")[0]
        same = (one for one in joined if one.key.split(".")[0] == part and one.key != part)
        first = next((one for one in same if _explains(one.values, texts) and _explains(texts, one.values)), None)
        if first is None or key == part:
            joined.append(Parameter(key, key, texts))
        else:
            first.with_it[key] = texts
    return joined


def _labeled(parameters: list[Parameter]) -> list[Parameter]:
    last = [parameter.key.split(".")[-1] for parameter in parameters]
    known = Counter(last)
    return [
        replace(parameter, label=name if known[name] == 1 and not name.startswith("_") else parameter.key)
        for parameter, name in zip(parameters, last, strict=True)
    ]
