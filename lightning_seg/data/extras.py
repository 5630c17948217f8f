"""Libraries that only some data need."""

from importlib import import_module
from types import ModuleType


def required(module: str, what: str) -> ModuleType:
    """A module of a library that is installed with the extra `volumes`.

    Args:
        module: for example `monai.transforms`.
        what: needs it, for the message.

    Raises:
        ImportError: it is not installed; the message says how to.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = {"nrrd": "pynrrd"}.get(module, module.split(".")[0])
        raise ImportError(f'{what} needs {package}: pip install "lightning-seg[volumes]".') from error
