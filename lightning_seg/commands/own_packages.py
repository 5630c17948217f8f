"""Packages of the user's own, which lie where the command is called."""

import sys
from pathlib import Path


def find_own_packages() -> None:
    """Lets modules of the current folder be imported, after all that is installed.

    A training does it, whose configuration is the user's own; evaluation and prediction only where packages are trusted
    by name, since a folder may come from a stranger.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
