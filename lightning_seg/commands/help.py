"""What `--help` prints: the options of a command with their defaults and comments, from the files of `conf/`."""

import shutil
import textwrap
from collections.abc import Iterable, Iterator, Sequence

from lightning_seg.launch.composition import choices as available
from lightning_seg.schema.options import CONF, Option, choices, heading, options

_COLUMN = 32  # where comments begin
_START = (
    "Options are words key=value, in any order; ??? must be given, null is none. --cfg job shows all values without "
    "running anything, and HYDRA_FULL_ERROR=1 the traceback of an error."
)
_CHOICES = "choices, each with options of its own (loss=focal --help); several: callbacks=[default,ema]"


def help_text(name: str, arguments: Sequence[str] = ()) -> str:
    """The help of a command, as wide as the terminal.

    Args:
        name: of its file, such as `train`.
        arguments: of the command line; for each choice among them, such as `loss=focal`, its own options are listed.
    """
    path = CONF / f"{name}.yaml"
    parts = [[*_wrapped(f"lightning-seg-{heading(path).removeprefix('lightning-seg-')}")], [*_wrapped(_START)]]
    groups = choices(path)
    if groups:
        parts.append([_CHOICES, *_lines(map(_with_names, groups))])
    parts.append(["options:", *_lines(filter(_is_asked_for, options(path)))])
    if name == "inspect":
        parts.append([*_wrapped("All options of lightning-seg-train are options of this command too.")])
    for group, _, choice in (word.partition("=") for word in arguments):
        file = CONF / group / f"{choice}.yaml"
        if group.isidentifier() and choice.isidentifier() and file.is_file():
            parts.append(
                [f"{group}={choice}:", *_wrapped(heading(file), "  "), *_lines(filter(_is_asked_for, options(file)))]
            )
    return "\n\n".join("\n".join(part) for part in parts)


def _is_asked_for(option: Option) -> bool:
    """Whether it is for the command line: neither Hydra's, nor a value that another option sets."""
    return bool(option.value) and not option.path.startswith("hydra.") and not option.comment.startswith("set by")


def _with_names(choice: Option) -> Option:
    names = ", ".join(name for name in available(choice.path) if name != "shared")
    return Option(choice.path, choice.value, f"{choice.comment.partition(': ')[0]}: {names}")


def _lines(found: Iterable[Option]) -> Iterator[str]:
    for option in found:
        text = f"  {option.path}={option.value}"
        after = " " * _COLUMN
        lines = _wrapped(option.comment, after) if option.comment else [after]
        if len(text) < _COLUMN:
            yield (text.ljust(_COLUMN) + lines[0].removeprefix(after)).rstrip()
            yield from lines[1:]
        else:
            yield text
            yield from lines if option.comment else ()


def _wrapped(text: str, before: str = "") -> list[str]:
    width = min(shutil.get_terminal_size((100, 24)).columns, 120)
    return textwrap.wrap(text, width, initial_indent=before, subsequent_indent=before, break_on_hyphens=False)
