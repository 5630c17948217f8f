"""The pretrained part of a network: the one answer that learning rates, freezing and initial weights go by."""

from collections.abc import Iterator, Sequence
from difflib import get_close_matches

from torch import nn

# What pretrained parts are called: by most networks, and by MONAI's UNETR and SwinUNETR.
_CALLED = ("encoder", "backbone", "swinViT", "vit")
# The contracting paths of MONAI's SegResNet, DynUNet and BasicUNet, which are no module of their own.
_PATHS = (
    ("convInit", "down_layers"),
    ("input_block", "downsamples", "bottleneck"),
    ("conv_0", "down_1", "down_2", "down_3", "down_4"),
)


def find_encoder(backbone: nn.Module, encoder: str | Sequence[str] = "auto") -> nn.Module:
    """The part that pretrained weights are loaded into, see `encoder_names`; a `ModuleList` if it has several names."""
    parts = [backbone.get_submodule(name) for name in encoder_names(backbone, encoder)]
    return parts[0] if len(parts) == 1 else nn.ModuleList(parts)


def encoder_names(backbone: nn.Module, encoder: str | Sequence[str] = "auto") -> list[str]:
    """The dotted names, within a network, of the part that pretrained weights are loaded into.

    Args:
        backbone: any segmentation network.
        encoder: a dotted name within it, or within the network that a wrapper such as `PadToStride` holds; or several.
            `auto` is the outermost part called `encoder` or `backbone`, or as transformers and MONAI call it; a
            `backbone` with all of the parameters is the network itself, within a wrapper.

    Raises:
        ValueError: there is no such part, or `auto` finds several; the message says how to name it.
    """
    if encoder == "auto":
        return _found(backbone)
    given = [encoder] if isinstance(encoder, str) else list(encoder)
    return [_resolved(backbone, name) for name in given]


def described_encoder(backbone: nn.Module, encoder: str | Sequence[str] = "auto") -> str:
    """The pretrained part in words: its names, and how much of the network it is."""
    names = encoder_names(backbone, encoder)
    size = sum(_size(backbone.get_submodule(name)) for name in names)
    return f"{' and '.join(names)}, {size:,} of {_size(backbone):,} parameters"


def _found(backbone: nn.Module) -> list[str]:
    wrappers = _wrappers(backbone)
    called = [name for name, part in _named_as_encoders(backbone) if name not in wrappers and _size(part)]
    outermost = sorted({name for name in called if name.count(".") == min(one.count(".") for one in called)})
    if len(outermost) == 1:
        return outermost
    if outermost:
        raise ValueError(
            f"{type(backbone).__name__} has several parts that may be the pretrained one: say which, "
            f"module.encoder={outermost[0]}, or take them all, module.encoder=[{','.join(outermost)}]."
        )
    network = backbone.get_submodule(wrappers[-1])
    for path in _PATHS:
        if all(hasattr(network, name) for name in path):
            return [_joined(wrappers[-1], name) for name in path]
    parts = [f"{name} ({_size(part):,} parameters)" for name, part in network.named_children() if _size(part)]
    raise ValueError(
        f"{type(network).__name__} has no part called encoder or backbone: say which part is pretrained, "
        f"module.encoder=NAME, or several, module.encoder=[NAME,NAME]; it has {', '.join(parts) or 'no parts'}."
    )


def _named_as_encoders(backbone: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, part in backbone.named_modules():
        if name.split(".")[-1] in _CALLED:
            yield name, part
        # transformers; `model` holds decoders too.
        base = getattr(part, "base_model_prefix", None)
        child = getattr(part, base, None) if isinstance(base, str) and base not in ("", "model") else None
        if isinstance(child, nn.Module):
            yield _joined(name, str(base)), child


def _resolved(backbone: nn.Module, name: str) -> str:
    """A name as the user knows it, from the outermost module on."""
    named = dict(backbone.named_modules())
    for wrapper in _wrappers(backbone):
        for one in (name, name.removeprefix("backbone.")):
            path = _joined(wrapper, one)
            if path in named and path:
                if not _size(named[path]):
                    raise ValueError(f"module.encoder={name} ({type(named[path]).__name__}) has no parameters.")
                return path
    network = backbone.get_submodule(_wrappers(backbone)[-1])
    near = get_close_matches(name, [one for one, _ in network.named_modules() if one], n=1)
    parts = ", ".join(one for one, part in network.named_children() if _size(part))
    meant = f"did you mean {near[0]}? " if near else ""
    raise ValueError(
        f"module.encoder={name} is not a part of {type(network).__name__}; {meant}give auto, or the dotted name of a "
        f"part: it has {parts}."
    )


def _wrappers(backbone: nn.Module) -> list[str]:
    """The names of the network and of those that it merely wraps, the outermost, "", first."""
    names, whole = [""], _size(backbone)
    while True:
        children = backbone.get_submodule(names[-1]).named_children()
        inner = [name for name, child in children if _size(child) == whole and name == "backbone"]
        if not inner:
            return names
        names.append(_joined(names[-1], inner[0]))


def _joined(owner: str, name: str) -> str:
    return f"{owner}.{name}" if owner else name


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
