"""Builds the reference of the package as a searchable site: `python -m tests.site FOLDER`."""

import pkgutil
import sys
from pathlib import Path

import pdoc

import lightning_seg

PACKAGE = "lightning_seg"


def rooms() -> list[str]:
    """The package and its parts, but for its configuration and what its own page shows."""
    parts = {part.name for part in pkgutil.iter_modules(lightning_seg.__path__)} - {"checkpoint", "conf", "module"}
    return [PACKAGE, *(f"{PACKAGE}.{part}" for part in sorted(parts))]


def build(folder: Path) -> None:
    """Writes the pages."""
    for name in lightning_seg.__all__:  # imported when they are used, and pdoc looks for them before
        setattr(lightning_seg, name, getattr(lightning_seg, name))
    pdoc.render.configure(docformat="google")
    pdoc.pdoc(*rooms(), output_directory=folder)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: python -m tests.site FOLDER\n{__doc__}")
    build(Path(sys.argv[1]))
