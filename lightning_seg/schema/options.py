"""The options that the files of `conf/` list: what they are called, their defaults, and the comments on them."""

import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

# Beside the package in a checkout, within it once it is installed.
CONF = Path(str(resources.files("lightning_seg.conf")))


@dataclass(frozen=True)
class Option:
    """An option of a file: its path with dots, its value as written, and its comment."""

    path: str
    value: str
    comment: str


def heading(path: Path) -> str:
    """The comment that a file starts with."""
    lines = path.read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if not line.startswith("# @package")]
    end = next((index for index, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return " ".join(line.removeprefix("#").strip() for line in lines[:end])


def _package(path: Path) -> str:
    """What the options of a file are below, on the command line."""
    text = path.read_text(encoding="utf-8")
    group = path.parent.relative_to(CONF).as_posix()
    return "" if group in (".", "callbacks") or "# @package _global_" in text else group.replace("/", ".")


def options(path: Path) -> list[Option]:
    """The options of a file that have a value, in its order."""
    found: list[Option] = []
    above: list[tuple[int, str]] = []
    prefix = "callbacks" if path.parent.name == "callbacks" else _package(path)
    for line in path.read_text(encoding="utf-8").splitlines():
        code, _, comment = line.partition(" # ")
        match = re.match(r"( *)([^\s#-][^#]*?):(?: (.*))?$", code)
        if not match or match[2] == "defaults":
            continue
        indent, name, value = len(match[1]), match[2], (match[3] or "").strip()
        above = [parent for parent in above if parent[0] < indent]
        key = ".".join([*([prefix] if prefix else []), *(parent for _, parent in above), name])
        above.append((indent, name))
        found.append(Option(key, value, comment.strip()))
    return found


def choices(path: Path) -> list[Option]:
    """The groups that a file chooses from, with the default of each."""
    lines = path.read_text(encoding="utf-8").splitlines()
    matches = (re.match(r"  - (?:optional )?(\w+): (\S+)(?: +# (.*))?$", line) for line in lines)
    return [Option(match[1], match[2], match[3] or "") for match in matches if match]
