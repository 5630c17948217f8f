"""Libraries that only some networks need."""

from importlib import import_module
from types import ModuleType


def required(package: str) -> ModuleType:
    """A library that is installed with the extra of the same name.

    Raises:
        ImportError: it is not installed; the message says how to.
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise ImportError(f'this backbone needs {package}: pip install "lightning-seg[{package}]".') from error
