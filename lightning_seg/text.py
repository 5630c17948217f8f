"""Names are text: what a terminal gets to see of class names, file names and messages that hold them.

Everything that the package prints or logs goes through here, so that a name can neither move the cursor, color the
screen, begin a line of its own, nor vanish because it looks like markup.
"""

import io
import logging
import os
import sys
from typing import TextIO

from rich.console import Console
from rich.table import Table

_WIDTH_OF_A_FILE = 200  # which has no edge: a long name is better there than one that is cut


def printable(text: object) -> str:
    """A text on one line, with an escape (`\\n`, `\\x1b`, `\\u202e`) for each character that is not to be seen.

    These are control characters, line ends, marks that change the direction of writing, and the bytes of a file name
    that is no UTF-8.
    """
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape", "surrogatepass").decode()
        for character in str(text)
    )


def number_of(number: int, noun: str) -> str:
    """`1 image`, `1,200 images`, `2 classes`."""
    plural = "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}{'' if number == 1 else plural}"


def is_number(text: str) -> bool:
    """Whether a text is one number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def say(text: object, *, error: bool = False) -> None:
    """Prints one line, to stderr if it is about an error."""
    stream = sys.stderr if error else sys.stdout
    try:
        print(printable(text), file=stream, flush=True)
    except BrokenPipeError:
        _read_by_nobody(stream)


def _read_by_nobody(stream: TextIO) -> None:
    """Lets a command go on whose output is read no longer, as behind `| head`: a training must not end by that."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class _Tables(Console):
    def on_broken_pipe(self) -> None:
        _read_by_nobody(sys.stdout)  # Rich would end the process


def say_lines(text: str, *, error: bool = False) -> None:
    """Prints a text of several lines, such as a traceback."""
    for line in text.splitlines():
        say(line, error=error)


def print_table(table: Table) -> None:
    """Prints a table without `[markup]` or `:emoji:`, whose cells are to be `printable`; where a cell has no room it
    goes on in the next line, so that no digit is lost.
    """
    console = _Tables(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, _WIDTH_OF_A_FILE)
    for column in table.columns:
        column.overflow = "fold"
    console.print(table)


def text_logger(name: str) -> logging.Logger:
    """A logger each of whose messages is one printable line."""
    logger = logging.getLogger(name)
    logger.addFilter(_as_text)
    return logger


def _as_text(record: logging.LogRecord) -> bool:
    record.msg, record.args = printable(record.getMessage()), None
    return True


def print_any_character() -> None:
    """Lets what the terminal's encoding lacks be printed as an escape, so that a class name cannot end a training."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
