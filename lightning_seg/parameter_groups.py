"""What an optimizer trains how: learning rates of the pretrained part and of its layers, and weight decay."""

import re
from collections.abc import Iterator
from fnmatch import fnmatch
from typing import Any

from torch import nn

from lightning_seg.backbones.encoder import find_encoder

# Names of a stage and of a block within it: `layer1.0` (torchvision), `stages.0.blocks.1` (timm), `encoder.layer.3`.
_STAGE = re.compile(r"(?:\w*(?:layer|stage|block|level|transition)s?_?|patch_embed|norm|s)?(\d+)")
_BLOCK = re.compile(r"(?:\w*(?:layer|block)|b)?(\d+)")
_STACKS = ("blocks", "layers", "layer")


def parameter_groups(
    module: nn.Module,
    backbone: nn.Module,
    *,
    encoder: str | list[str] = "auto",
    encoder_learning_rate_factor: float = 1.0,
    layer_decay: float = 1.0,
    decay_norms_and_biases: bool = True,
) -> list[dict[str, Any]]:
    """Groups of all parameters of a module that are trained, each parameter once.

    Args:
        module: what is trained, for example a `SegmentationModule`.
        backbone: its network.
        encoder: which part of the network is pretrained, see `lightning_seg.backbones.encoder_names`; not looked up
            where nothing depends on it.
        encoder_learning_rate_factor: multiplies the learning rate of that part.
        layer_decay: of L layers of that part the i-th, counted from 0 at the image, is trained at `layer_decay^(L - i)`
            times that rate, all else at the full rate; see `layers`.
        decay_norms_and_biases: False gives parameters of one dimension, and those that a network (of timm) lists in
            `no_weight_decay()`, no weight decay.

    Returns:
        Groups with `params`, and as far as they differ from the optimizer's own, `learning_rate_factor` and
        `weight_decay`.

    Raises:
        ValueError: a rate is asked for the pretrained part, and there is no telling which that is.
    """
    factors: dict[int, float] = {}
    if encoder_learning_rate_factor != 1.0 or layer_decay != 1.0:
        part = find_encoder(backbone, encoder)
        depth = layers(part)
        last = max(depth.values(), default=-1) + 1
        for name, parameter in part.named_parameters():
            factors[id(parameter)] = encoder_learning_rate_factor * layer_decay ** (last - depth[name])
    undecayed = set() if decay_norms_and_biases else set(_undecayed(module))
    groups: dict[tuple[float | None, bool], dict[str, Any]] = {}
    for parameter in module.parameters():
        if not parameter.requires_grad:
            continue
        factor, decays = factors.get(id(parameter)), id(parameter) not in undecayed
        if (factor, decays) not in groups:
            rate = {} if factor is None else {"learning_rate_factor": factor}
            groups[factor, decays] = {"params": [], **rate, **({} if decays else {"weight_decay": 0.0})}
        groups[factor, decays]["params"].append(parameter)
    # The pretrained part first, from the image on.
    return [groups[key] for key in sorted(groups, key=lambda key: (key[0] is None, key[0] or 0.0, not key[1]))]


def layers(encoder: nn.Module) -> dict[str, int]:
    """The layer of each parameter of an encoder, by its name, counted from 0 at the image.

    They are those that a model of timm declares (`group_matcher`). Of others a layer is a block, told by the numbers in
    the names: `layer2.0`, `stages.1.blocks.3`, `encoder.layer.7`. What comes before the first numbered one, as a stem,
    belongs to layer 0 and what comes after, as a last norm, to the last.
    """
    found: dict[str, int] = {}
    parts = list(encoder.named_children()) if type(encoder) is nn.ModuleList else [("", encoder)]
    for path, part in parts:
        keys = _declared(part) or _numbered(part)
        ranks = {key: rank for rank, key in enumerate(sorted(set(keys.values())))}
        first = max(found.values(), default=-1) + 1
        found |= {f"{path}.{name}" if path else name: first + ranks[key] for name, key in keys.items()}
    return found


def _declared(encoder: nn.Module) -> dict[str, tuple[float, ...]]:
    """By a model of timm within it, if there is one."""
    for path, model in encoder.named_modules():
        if callable(getattr(model, "group_matcher", None)):
            from timm.models import group_parameters  # a model with a group_matcher comes from there

            matched = group_parameters(model, model.group_matcher(coarse=False), reverse=True)
            prefix = f"{path}." if path else ""
            inner = {f"{prefix}{name}": (float(layer),) for name, layer in matched.items()}
            last = max(inner.values(), default=(0.0,))
            return {name: inner.get(name, last) for name, _ in encoder.named_parameters()}
    return {}


def _numbered(encoder: nn.Module) -> dict[str, tuple[float, ...]]:
    keys: dict[str, tuple[float, ...]] = {}
    before: tuple[float, ...] = (float("-inf"),)
    for name, _ in encoder.named_parameters():
        key = _number(name.split(".")[:-1])
        if key is not None:
            before = (float("inf"),)
        keys[name] = before if key is None else key
    numbered = [key for key in keys.values() if abs(key[0]) != float("inf")]
    if not numbered:
        return dict.fromkeys(keys, (0.0,))
    # A last norm is trained as the last block is.
    return {name: max(numbered) if key == (float("inf"),) else key for name, key in keys.items()}


def _number(path: list[str]) -> tuple[float, ...] | None:
    """The numbers of stage and block in the name of a module, as far as it has them."""
    for index, part in enumerate(path):
        if stage := _STAGE.fullmatch(part):
            rest = path[index + 1 :]
            rest = rest[1:] if rest and rest[0] in _STACKS else rest
            block = _BLOCK.fullmatch(rest[0]) if len(rest) > 1 else None  # a block has parts
            if part.startswith("transition"):  # of a DenseNet, behind the blocks of the same number
                return (float(stage[1]), float("inf"))
            return (float(stage[1]), float(block[1])) if block else (float(stage[1]),)
    return None


def _undecayed(module: nn.Module) -> Iterator[int]:
    for parameter in module.parameters():
        if parameter.ndim <= 1:
            yield id(parameter)
    for part in module.modules():
        listed = getattr(part, "no_weight_decay", None)
        if callable(listed):
            patterns = list(listed())
            for name, parameter in part.named_parameters():
                if any(fnmatch(name, pattern) for pattern in patterns):
                    yield id(parameter)
