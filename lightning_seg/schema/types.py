"""Whether a value of a configuration can be an argument of a type, and what that type is in words."""

import inspect
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, is_typeddict

_BUILT = "something with a _target_"


def fits(value: Any, hint: Any) -> bool:
    """Whether a value of a configuration can be an argument of a type."""
    if hint is Any or isinstance(hint, str):
        return True
    if hint is None or hint is type(None):
        return value is None
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return fits(value, arguments[0])
    if origin in (Union, types.UnionType):
        return any(fits(value, one) for one in arguments)
    if origin is Literal:
        return any(value == one and type(value) is type(one) for one in arguments)
    kind = origin or hint
    if not inspect.isclass(kind) or is_typeddict(kind):
        return True
    if kind is bool:
        return isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if issubclass(kind, str | Path):
        return isinstance(value, str | int | float) and not isinstance(value, bool)
    if isinstance(value, Mapping):
        return kind is not types.NoneType and not issubclass(kind, list | tuple)
    if isinstance(value, list):
        items = [one for one in arguments if one is not Ellipsis]
        inner = items[0] if len(set(items)) == 1 else Any
        return not _is_object(kind) and not issubclass(kind, Mapping) and all(fits(one, inner) for one in value)
    return kind is object


def _is_object(kind: type) -> bool:
    """Whether a type is one of things that a `_target_` builds, rather than of lists."""
    is_abstract = kind.__module__ == "collections.abc" and kind.__name__ != "Callable"
    return not (issubclass(kind, list | tuple | set) or is_abstract)


def words(hint: Any) -> str:
    """A type, as one says it."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return words(arguments[0])
    if origin in (Union, types.UnionType, Literal):
        return _alternatives(hint)
    kind = origin or hint
    if kind is type(None):
        return "null"
    if kind is bool:
        return "true or false"
    if kind is int:
        return "an integer"
    if kind is float:
        return "a number"
    if inspect.isclass(kind) and issubclass(kind, str | Path):
        return "text"
    if inspect.isclass(kind) and issubclass(kind, Mapping):
        return "a group of keys"
    if inspect.isclass(kind) and not _is_object(kind):
        items = {one for one in arguments if one is not Ellipsis}
        return f"a list of {_plural(words(items.pop()))}" if len(items) == 1 else "a list"
    return _BUILT


def _alternatives(hint: Any) -> str:
    """All that a union or a literal may be, between commas."""
    found: dict[str, None] = {}
    for one in get_args(hint):
        if get_origin(hint) is Literal:
            found[str(one)] = None
        else:
            found |= dict.fromkeys(words(one).replace(" or ", ", ").split(", "))
    if "a number" in found:
        found.pop("an integer", None)
    if len(found) > 1:
        found.pop(_BUILT, None)
    return listed(list(found))


def choices_of(hint: Any) -> list[str]:
    """The words that a type names."""
    if get_origin(hint) is Literal:
        return [one for one in get_args(hint) if isinstance(one, str)]
    is_union = get_origin(hint) in (Union, types.UnionType)
    return [name for one in get_args(hint) for name in choices_of(one)] if is_union else []


def listed(names: Sequence[str]) -> str:
    """`a, b or c`."""
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last


def _plural(name: str) -> str:
    known = {
        "a number": "numbers",
        "an integer": "integers",
        "text": "texts",
        "a list of integers": "lists of integers",
    }
    return known.get(name, name)


def text(value: Any) -> str:
    """A value as it is written on a command line."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{','.join(text(one) for one in value)}]"
    return "{...}" if isinstance(value, Mapping) else str(value)
