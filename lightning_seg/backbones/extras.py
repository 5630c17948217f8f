"""Libraries that only some networks need."""

from importlib import import_module
from types import ModuleType


def required(module: str) -> ModuleType:
    """A module of a library that is installed with the extra of its name.

    Raises:
        ImportError: it is not installed; the message says how to.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = module.split(".")[0]
        raise ImportError(f'this backbone needs {package}: pip install "lightning-seg[{package}]".') from error
