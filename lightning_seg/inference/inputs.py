"""Which files an input means: one, a folder, a pattern, or a list."""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from glob import glob
from pathlib import Path
from typing import NamedTuple

from lightning_seg.inference.made_by import NAME as MADE_BY
from lightning_seg.reading import in_words, read_text
from lightning_seg.text import text_logger

log = text_logger(__name__)


class FileKind(NamedTuple):
    """What is predicted."""

    noun: str
    """What one is called, with its article."""
    known: str
    """The suffixes of what is looked for in folders."""
    is_found: Callable[[Path], bool]
    """Whether a file of a folder is one."""
    is_named: Callable[[Path], bool]
    """Whether a file that is named, or matches a pattern, is one."""


def files_of(input: Path, output: Path, kind: FileKind) -> Sequence[tuple[Path, Path]]:
    """Files, each with its folder relative to the input.

    Args:
        input: a file, a folder, a pattern, or a `.txt` file with a path in each line.
        output: a folder whose files are not taken; nor are those of an earlier prediction below the input.
        kind: which are taken.

    Raises:
        FileNotFoundError: the input does not exist, or holds none.
        OSError: a folder cannot be read.
        ValueError: it is not one, or the output folder itself.
    """
    if not input.exists():
        if any(letter in str(input) for letter in "*?["):
            return _matching(input, output, kind)
        raise FileNotFoundError(f"input={input} does not exist.")
    if input.is_file():
        if input.suffix.lower() == ".txt":
            return _listed(input, kind)
        if not kind.is_named(input):
            raise ValueError(f"input={input} is not {kind.noun} file; expected a suffix of {kind.known}.")
        return [(input, Path())]
    if os.path.realpath(input) == os.path.realpath(output):
        raise ValueError(
            f"output={output} is the input folder, where masks would be mistaken for images: name another."
        )
    found = [
        (path, path.parent.relative_to(input))
        for path in _files(input, avoid=os.path.realpath(output))
        if kind.is_found(path)
    ]
    if not found:
        what = kind.noun.split()[-1]
        raise FileNotFoundError(f"input={input} holds no {what}; looked for {kind.known} in it and its sub-folders.")
    return sorted(found)


def _matching(pattern: Path, output: Path, kind: FileKind) -> Sequence[tuple[Path, Path]]:
    """Files of a pattern, each with its folder relative to the part of it without `*`, `?` and `[`."""
    plain = [part for part in pattern.parts if not any(letter in part for letter in "*?[")]
    start = Path(*pattern.parts[: next(i for i, part in enumerate(pattern.parts) if part not in plain)])
    avoid = os.path.realpath(output)
    holds_results = cache(_holds_results)
    found = [
        (path, path.parent.relative_to(start))
        for path in map(Path, glob(str(pattern), recursive=True))
        if path.is_file()
        and kind.is_named(path)
        and not os.path.realpath(path).startswith(f"{avoid}{os.sep}")
        and not any(holds_results(folder) for folder in path.parents if start in folder.parents)
    ]
    if not found:
        raise FileNotFoundError(f"input={pattern} matches no {kind.noun.split()[-1]}.")
    return sorted(found)


def _listed(path: Path, kind: FileKind) -> Sequence[tuple[Path, Path]]:
    """Files of a list, as `together` has them."""
    lines = [line.strip() for line in read_text(path).splitlines()]
    sources = [path.parent / Path(line).expanduser() for line in lines if line and not line.startswith("#")]
    if not sources:
        raise FileNotFoundError(f"input={path} lists no {kind.noun.split()[-1]}.")
    for source in sources:
        if not kind.is_named(source):
            raise ValueError(f"input={path} lists {source}, which is not {kind.noun} file.")
    return together(sources)


def together(sources: Sequence[Path]) -> list[tuple[Path, Path]]:
    """Files, each with its folder relative to the one that holds all of them."""
    whole = [Path(os.path.abspath(source)) for source in sources]
    common = Path(os.path.commonpath([one.parent for one in whole]))
    return [(source, one.parent.relative_to(common)) for source, one in zip(sources, whole, strict=True)]


def _files(folder: Path, avoid: str) -> Iterator[Path]:
    """The files in a folder and, through links, its sub-folders, none of them hidden; each folder once."""

    def refuse(error: OSError) -> None:
        raise in_words(error.filename, error) from None

    seen = {avoid, os.path.realpath(folder)}
    for parent, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        new = []
        for name in sorted(name for name in folders if not name.startswith(".")):
            real = os.path.realpath(Path(parent, name))
            if real not in seen and not _holds_results(Path(parent, name)):
                seen.add(real)
                new.append(name)
        folders[:] = new
        yield from (Path(parent, name) for name in names if not name.startswith("."))


def _holds_results(folder: Path) -> bool:
    """Whether an earlier prediction has written a folder, whose masks would be mistaken for images; it is said."""
    if not (folder / MADE_BY).is_file():
        return False
    log.warning("%s holds what a prediction has written, and is left out.", folder)
    return True
