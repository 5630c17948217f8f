"""Folders of the Hugging Face Hub that hold a trained module: `config.json` and `model.safetensors`."""

import re
from importlib import import_module
from pathlib import Path
from typing import Any

from lightning_seg.reading import open_regular, read_json

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
ADDRESS = "hf://"
_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")


def require(name: str) -> Any:
    """A package of the extra `export`.

    Raises:
        ImportError: it is missing.
    """
    try:
        return import_module(name)
    except ImportError:
        raise ImportError(f'{name} is missing: pip install "lightning-seg[export]"') from None


def downloaded(address: str) -> Path:
    """The folder of `hf://owner/name`, or `hf://owner/name@revision`, with the two files that are read of it.

    Raises:
        ImportError: the extra `export` is missing.
        OSError: it cannot be fetched.
        ValueError: it is not such an address.
    """
    name, _, revision = address.removeprefix(ADDRESS).partition("@")
    if not is_repository(name):
        raise ValueError(f"{address} is not a model's address: write hf://owner/name or hf://owner/name@revision.")
    hub = require("huggingface_hub")
    try:
        return Path(hub.snapshot_download(name, revision=revision or None, allow_patterns=[CONFIG, WEIGHTS]))
    except Exception as error:  # of classes of its own, and those of several libraries of the network
        raise OSError(f"{address} cannot be fetched: {one_line(error)}") from error


def read_hub_folder(folder: Path) -> dict[str, Any]:
    """The content of a folder as that of a checkpoint.

    Raises:
        FileNotFoundError: one of the two files is missing.
        ImportError: the extra `export` is missing.
        ValueError: they cannot be read.
    """
    content = read_json(folder / CONFIG)
    safetensors = require("safetensors.torch")
    with open_regular(folder / WEIGHTS):
        pass
    try:
        state = safetensors.load_file(folder / WEIGHTS)
    except Exception as error:  # of a class of its own
        raise ValueError(f"{folder / WEIGHTS} cannot be read as safetensors: {one_line(error)}") from error
    return {**(content if isinstance(content, dict) else {}), "state_dict": state}


def is_repository(name: str) -> bool:
    """Whether a text is `owner/name`."""
    return bool(_NAME.fullmatch(name))


def one_line(error: Exception) -> str:
    """What an error says first."""
    return (next((line.strip() for line in str(error).splitlines() if line.strip()), "") or type(error).__name__)[:300]
