"""Tables as CSV files, in which a name is never a formula."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from lightning_seg.files import atomic_write
from lightning_seg.reading import read_text
from lightning_seg.text import is_number, printable

# A spreadsheet computes what begins with one of these, in their wide forms too.
_FORMULA = re.compile(r"'*[=+\-@＝＋－＠]")
_SEPARATORS = re.compile(r"[,;\t|\"]")  # of any country's spreadsheet


def write_csv(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """Writes a table, the first row of which is its header; what is there is replaced, at once.

    Numbers have their full precision and None is empty. A text that a spreadsheet would compute gets an apostrophe
    before it, by which spreadsheets, too, mark a text; `read_csv` takes it away.
    """
    with atomic_write(path, overwrite=True) as temporary:
        lines = (",".join(map(_cell, row)) + "\r\n" for row in rows)
        temporary.write_text("".join(lines), encoding="utf-8", newline="")


def read_csv(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """The columns of a table and its rows; a cell that a row lacks is empty.

    Raises:
        OSError: see `lightning_seg.reading.open_regular`.
        ValueError: it is not a table in UTF-8, or a row has more cells than there are columns.
    """
    try:
        rows = [row for row in csv.reader(io.StringIO(read_text(path), newline=""), strict=True) if row]
    except csv.Error as error:
        raise ValueError(f"{path} cannot be read as CSV ({error}).") from None
    if not rows:
        return [], []
    columns = [_text(cell) for cell in rows[0]]
    for number, row in enumerate(rows, 1):
        if len(row) > len(columns):
            raise ValueError(f"{path} has {len(row)} cells in row {number} and {len(columns)} columns.")
    empty = dict.fromkeys(columns, "")
    return columns, [empty | dict(zip(columns, map(_text, row), strict=False)) for row in rows[1:]]


def _cell(value: object) -> str:
    text = "" if value is None else printable(value)
    if _FORMULA.match(text) and not is_number(text):
        text = f"'{text}"
    return '"{}"'.format(text.replace('"', '""')) if _SEPARATORS.search(text) else text


def _text(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell
