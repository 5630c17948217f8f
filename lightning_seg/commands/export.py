"""`lightning-seg-export`: writes a checkpoint as ONNX, as a program of torch.export, or as a folder for a model hub."""

from pathlib import Path

from omegaconf import DictConfig

from lightning_seg.checkpoint import load_module
from lightning_seg.commands import console
from lightning_seg.commands.own_packages import find_own_packages
from lightning_seg.export import push_to_hub, write_hub_folder, write_onnx, write_program
from lightning_seg.launch.composition import typed_words
from lightning_seg.launch.resolved import resolved
from lightning_seg.schema import Export, check_config
from lightning_seg.schema.types import text
from lightning_seg.schema.unused import EXPORT, given_options, unused
from lightning_seg.text import say

main = console.export


def export(composed: DictConfig) -> None:
    """Exports as `conf/export.yaml` composes to, and says what was compared."""
    check_config(composed, Export)
    config = resolved(composed)
    for line in unused(config, given_options(typed_words()), EXPORT):
        say(line)
    if config["trusted"]:
        find_own_packages(config["trusted"])
    checkpoint, output = config["checkpoint"], Path(config["output"]).expanduser()
    if str(checkpoint).endswith(".onnx"):
        raise ValueError(f"checkpoint={checkpoint} is an export already: name a .ckpt file.")
    if config["format"] == "hub":
        for name in ("argmax", "tolerance", "overwrite"):
            if config[name]:
                raise ValueError(f"{name}={text(config[name])} does not apply to format=hub: leave it out.")
        trusted = tuple(config["trusted"])
        write_hub_folder(checkpoint, output, half=config["half"], trusted=trusted, name=config["push"] or "")
        say(f"{output}: {_size(output)}, loaded by load_module({str(output)!r})")
        if config["push"]:
            say(push_to_hub(output, config["push"], private=config["private"]))
        return
    if config["push"]:
        raise ValueError(f"push={config['push']} uploads a folder of format=hub, and format is {config['format']}.")
    module = load_module(checkpoint, trusted=config["trusted"])
    write = write_onnx if config["format"] == "onnx" else write_program
    options = {name: config[name] for name in ("argmax", "half", "tolerance", "overwrite")}
    agreement = write(module, output, **options)
    say(f"{output}: {_size(output)}; {agreement}")


def _size(path: Path) -> str:
    files = [path] if path.is_file() else [file for file in path.iterdir() if file.is_file()]
    return f"{sum(file.stat().st_size for file in files) / 1e6:.1f} MB"
