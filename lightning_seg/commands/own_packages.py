"""Packages of the user's own, which lie where the command is called."""

import sys
from pathlib import Path


def find_own_packages() -> None:
    """Lets modules of the current folder be imported, after all that is installed."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
