"""The key that was probably meant."""

from collections.abc import Iterator, Sequence
from difflib import get_close_matches

from omegaconf import DictConfig, Node

# What people call our keys.
_SYNONYMS = {
    "lr": "optimizer.lr",
    "learning_rate": "optimizer.lr",
    "epochs": "trainer.max_epochs",
    "max_epoch": "trainer.max_epochs",
    "steps": "trainer.max_steps",
    "model": "backbone",
    "network": "backbone",
    "arch": "backbone",
    "architecture": "backbone",
    "encoder": "backbone.encoder_name",
    "pretrained": "backbone.encoder_weights",
    "checkpoint": "run=NAME resume=auto",
    "ckpt": "run=NAME resume=auto",
    "ckpt_path": "run=NAME resume=auto",
    "load_from": "init_from",
    "finetune_from": "init_from",
    "pretrained_weights": "init_from",
    "auto_lr_find": "find_learning_rate",
    "lr_find": "find_learning_rate",
    "gpus": "trainer.devices",
    "amp": "trainer.precision",
    "fp16": "trainer.precision",
    "workers": "data.num_workers",
    "classes": "data.num_classes",
    "crop": "augment.crop_size",
    "dataset": "data",
    "path": "data.root",
    "name": "run",
    "output": "runs",
    "output_dir": "runs",
    "criterion": "loss",
}


def did_you_mean(key: str, composed: DictConfig) -> str:
    """How a message about an unknown key ends: with the nearest one, or with what there is beside it."""
    name = key.split(".")[-1]
    hidden = ("hydra.", "module.backbone.", "module.loss.")
    keys = [one for one, _ in nodes(composed) if one != key and not one.startswith((*hidden, f"{key}."))]
    siblings = [one for one in keys if one.rpartition(".")[0] == key.rpartition(".")[0]]
    near = nearest(name, [one.split(".")[-1] for one in siblings])
    if key in _SYNONYMS or (name in _SYNONYMS and not near):
        return f": did you mean {_SYNONYMS[name]}?"
    if near:
        return f": did you mean {key.removesuffix(name)}{near[0]}?"
    same = [one for one in keys if one.split(".")[-1] == name]
    near = get_close_matches(name, [one.split(".")[-1] for one in keys], n=1, cutoff=0.7)
    found = same or [one for one in keys if near and one.split(".")[-1] == near[0]]
    if found:
        return f": did you mean {found[0]}?"
    part, beside = key.rpartition(".")[0], [one.split(".")[-1] for one in siblings]
    if not part or not beside:
        return "."
    added = f"; +{key}=VALUE adds what its class takes beyond them." if "_target_" in beside else "."
    return f": {part} has {', '.join(one for one in beside if not one.startswith('_')) or 'no keys'}{added}"


def nearest(word: str, names: Sequence[str]) -> list[str]:
    """The name that was probably meant, by its letters or as the beginning of it; none where nothing is near."""
    word = word.lower()
    begun = [name for name in names if len(word) > 2 and name.startswith(word)]
    return (get_close_matches(word, names, n=1) or begun)[:1]


def nodes(config: DictConfig, key: str = "") -> Iterator[tuple[str, Node]]:
    """Every node of a configuration with its key, with dots, inner ones too; none is resolved."""
    if config._is_none() or config._is_missing() or config._is_interpolation():
        return
    for name in config:
        node = config._get_node(name)
        assert isinstance(node, Node)
        path = f"{key}.{name!s}" if key else str(name)
        yield path, node
        if isinstance(node, DictConfig):
            yield from nodes(node, path)
