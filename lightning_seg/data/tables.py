"""Tables: CSV files with a row for each image, `data.table=table.csv`."""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from lightning_seg.data.patterns import Found, Pattern
from lightning_seg.data.splits import USUAL_SPLITS
from lightning_seg.reading import read_text

COLUMNS = ("image", "mask", "split", "group")
_MOST = 2**28  # bytes of a table

Rows = Sequence[tuple[int, dict[str, str]]]  # each with the number of its line


def read_rows(path: Path) -> tuple[Rows, list[str]]:
    """The rows of a CSV file, numbered, and its columns.

    Raises:
        OSError: the file cannot be read.
        ValueError: it has no row, or one of another length than its header.
    """
    text = read_text(path, _MOST).removeprefix("\ufeff")
    first = text.splitlines()[:1]
    delimiter = next((one for one in (",", ";", "\t") if first and one in first[0]), ",")
    reader = csv.DictReader(io.StringIO(text), delimiter=delimiter)
    header = [name.strip() for name in reader.fieldnames or []]
    reader.fieldnames = header
    rows = []
    for row in reader:
        if None in row or None in row.values():
            raise ValueError(f"line {reader.line_num} of {path} has a different number of values than its header.")
        rows.append((reader.line_num, {name: value.strip() for name, value in row.items()}))
    if not rows:
        raise ValueError(f"{path} has no line below its header.")
    return rows, header


def called_columns(
    path: Path, header: Sequence[str], columns: Mapping[str, str | None], *, has_patterns: bool
) -> dict[str, str]:
    """What each of `COLUMNS` is called in a table.

    Args:
        path: of the table, for messages.
        header: its columns.
        columns: the names that are given.
        has_patterns: whether patterns find the masks, so that the table need not name them.

    Raises:
        ValueError: a column that is needed, or given, is not there.
    """
    called = {name: name for name in COLUMNS} | {key: name for key, name in columns.items() if name is not None}
    for name, column in called.items():
        is_needed = name == "image" or (name == "mask" and not has_patterns) or column != name
        if column not in header and is_needed:
            raise ValueError(
                f"{path} has no column {column}, for {name}s: it has {', '.join(header)}; say which is meant with "
                f"data.columns.{name}=COLUMN."
            )
    return called


def images_of_rows(path: Path, root: Path, rows: Rows, column: str, images: Pattern | None) -> list[Found]:
    """The image of each row, with the row and what the pattern names as its parts.

    Raises:
        ValueError: the pattern does not fit an image.
    """
    found = []
    for number, row in rows:
        parts = dict(row)
        if images is not None:
            matched = images.match(row[column])
            if matched is None:
                raise ValueError(f"line {number} of {path} names {row[column]}, which is not of data.images.")
            parts |= matched
        found.append(Found(root / row[column], parts))
    return found


def check_named(path: Path, number: int, root: Path, files: Sequence[Path]) -> None:
    """Refuses files of a row that do not exist, or lie elsewhere than below the root."""
    for file in files:
        if not _is_within(root, file):
            raise ValueError(
                f"line {number} of {path} names {file}, which is not below data.root={root}: give the folder "
                "above all of the files as data.root."
            )
        if not file.is_file():
            raise ValueError(f"line {number} of {path} names {file}, which does not exist.")


def split_of_row(
    path: Path, number: int, row: Mapping[str, str], column: str, given_splits: Mapping[str, Sequence[str]]
) -> str | None:
    """The split of a row, None if it names none.

    Raises:
        ValueError: it is neither one of those given nor, where none are, a usual name.
    """
    text = row.get(column, "").strip()
    if not text:
        return None
    given = {one: split for split, names in given_splits.items() for one in names}
    usual = {one: split for split, names in USUAL_SPLITS.items() for one in names}
    split = given.get(text) if given else usual.get(text.lower())
    if split is None:
        raise ValueError(
            f"line {number} of {path} has the {column} {text}, which is not known: say which split it is with "
            f"data.splits.train={text}, for example."
        )
    return split


def _is_within(root: Path, file: Path) -> bool:
    return Path(os.path.abspath(file)).is_relative_to(os.path.abspath(root))
