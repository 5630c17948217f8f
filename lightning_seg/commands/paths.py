"""Paths on a command line, of any characters."""

from collections.abc import Sequence

# Whose value is a path, and never a list of choices.
_PATHS = ("checkpoint", "input", "output", "data.root")
_QUOTES = ("'", '"')


def with_quoted_paths(arguments: Sequence[str]) -> list[str]:
    """Arguments of a command whose paths Hydra takes as they were typed, not as its grammar.

    A run's folder has `=` and `,` in its name, and folders of images have spaces and brackets.
    """
    return [_quoted(argument) for argument in arguments]


def _quoted(argument: str) -> str:
    name, equals, value = argument.partition("=")
    if name not in _PATHS or not equals or not value or value.startswith(_QUOTES) or value in ("null", "???"):
        return argument
    escaped = value.replace('"', '\\"')
    return f'{name}="{escaped}"'
