"""The command line before Hydra reads it: options in any place, old names, and paths and names as they were typed."""

import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path

from lightning_seg.commands.renamed import with_current_names
from lightning_seg.launch.composition import choices as available
from lightning_seg.launch.overrides import is_quoted, quoted, split_list, unquoted

# Whose value is a path or a name, and never anything else of Hydra's grammar.
_AS_TYPED = (
    *("checkpoint", "input", "output", "details", "data.root", "data.path", "init_from", "run", "runs"),
    *("logger.save_dir", "trainer.default_root_dir"),
)
_PATHS = re.compile(r"callbacks\.\w+\.(?:path|folder|dirpath|filename)")  # likewise
# Parts of a pattern, which Hydra would read as the beginning of a mapping.
_PART = re.compile(r"\{\w+\}")
_WITHIN = re.compile(r"(?<=[:,\[])[^:,\[\]'\"]*\{\w+\}(?:[^:,{}\[\]'\"]|\{\w+\})*")
_SWEPT = re.compile(r"(?:choice|range|glob|sort|shuffle|tag)\(.*\)", re.DOTALL)
_MULTIRUN = ("-m", "--multirun")
# Groups of which one can do without, with the choice that says so; null says it as well.
_NOTHING = {"augment": "none", "callbacks": "none", "launcher": "basic", "logger": "none", "scheduler": "constant"}
_NEEDED = ("backbone", "data", "loss", "optimizer", "sweep", "trainer")
_FLAGS = (
    *("-h", "--help", "--hydra-help", "--version", "--resolve", "-r", "--run", *_MULTIRUN),
    *("-sc", "--shell-completion", "-i", "--info"),
)
_WITH_VALUE = (
    *("-c", "--cfg", "-p", "--package", "-cp", "--config-path", "-cn", "--config-name"),
    *("-cd", "--config-dir", "--experimental-rerun"),
)


def as_typed(arguments: Sequence[str]) -> list[str]:
    """Arguments of a command as Hydra is to read them.

    Options such as `-m` may stand between the choices, and the value of a path or a name is what was typed, whatever
    characters it has. In quotes of Hydra's own it is what these hold, unless a file is called so. In a sweep (`-m`),
    commas divide paths, unless a file is called so.

    Raises:
        ValueError: there is no such option.
    """
    options, choices = _divided(with_current_names(arguments))
    sweeps = any(option in _MULTIRUN for option in options)
    return [*options, *(_quoted(_chosen(choice), sweeps) for choice in choices)]


def value_of(name: str, arguments: Sequence[str]) -> str | None:
    """The path that was given as `name=PATH`, the last one; None if there is none."""
    values = [value for key, equals, value in (word.partition("=") for word in arguments) if key == name and equals]
    return unquoted(values[-1]) if values and values[-1] not in ("null", "???", "", '""', "''") else None


def _divided(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Hydra's options, each with its value, and all else."""
    options: list[str] = []
    choices: list[str] = []
    words = iter(arguments)
    for word in words:
        name, equals, _ = word.partition("=")
        if not word.startswith("-"):
            choices.append(word)
        elif name in _FLAGS:
            options.append(word)
        elif name in _WITH_VALUE:
            options += [word] if equals else [word, *_next(words)]
        else:
            raise ValueError(f"{name} is not an option: {_instead(name.lstrip('-'))}")
    return options, choices


def _next(words: Iterator[str]) -> list[str]:
    return [word for word in (next(words, None),) if word is not None]


def _instead(name: str) -> str:
    close = get_close_matches(f"--{name}", [*_FLAGS, *_WITH_VALUE], n=1)
    meant = f"did you mean {close[0]}? A" if close else "a"
    return f"{meant} choice is written {name.replace('-', '_') or 'key'}=value, without dashes."


def _chosen(argument: str) -> str:
    """A choice of a group, where `null` chooses nothing, and a number no file.

    Raises:
        ValueError: one cannot do without the group, or it holds one choice only.
    """
    group, equals, value = argument.partition("=")
    if group in _NOTHING and value.lower() == "null":
        return f"{group}={_NOTHING[group]}"
    if group == "logger" and value.startswith("[") and "," in value:
        raise ValueError(f"{argument} names several loggers, and a run has one; curves.csv is written in any case.")
    if equals and group in (*_NOTHING, *_NEEDED) and re.fullmatch(r"null|true|false|[\d.]*", value, re.IGNORECASE):
        raise ValueError(f"{argument} is not one of {', '.join(available(group))}.")
    return argument


def _quoted(argument: str, sweeps: bool) -> str:
    name, equals, value = argument.partition("=")
    is_pattern = name.lstrip("+").startswith("data.") and _PART.search(value) is not None
    is_path = name.lstrip("+") in _AS_TYPED or _PATHS.fullmatch(name.lstrip("+")) is not None
    if not (is_pattern or is_path) or not equals or value in ("null", "???"):
        return argument
    if is_pattern and value.startswith(("[", "{")) and not _PART.match(value):
        return f"{name}={_WITHIN.sub(lambda found: quoted(found[0]), value)}"
    if name == "checkpoint" and value.startswith("[") and value.endswith("]") and not _exists(value):
        listed = [one.strip() for one in split_list(value[1:-1])]  # of an ensemble
        return f"{name}=[{','.join(one if is_quoted(one) else quoted(one) for one in listed)}]"
    if _exists(value):
        values = [quoted(value)]
    elif sweeps and _SWEPT.fullmatch(value):
        return argument
    else:
        listed = split_list(value) if sweeps else [value]
        values = [one if is_quoted(one) else quoted(one) for one in listed]
    return f"{name}={','.join(values)}"


def _exists(value: str) -> bool:
    try:
        return bool(value) and Path(value).expanduser().exists()
    except (OSError, RuntimeError, ValueError):  # too long a name, no such user, a null character
        return False
