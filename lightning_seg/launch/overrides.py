"""Text in the grammar of Hydra's overrides: with quotes, which keep every character, and without."""

import re
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString

_QUOTED = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""


def quoted(text: str) -> str:
    """Text in quotes, so that Hydra reads all of its characters as they are."""
    return QuotedString(text, Quote.double).with_quotes()


def literal(value: Any) -> Any:
    """A value each text of which OmegaConf reads as it is: what looks as if it were to be computed is escaped."""
    if isinstance(value, dict):
        return {name: literal(one) for name, one in value.items()}
    if isinstance(value, list):
        return [literal(one) for one in value]
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", value) if isinstance(value, str) else value


def is_quoted(value: str) -> bool:
    """Whether the whole of a value stands in one pair of quotes."""
    return re.fullmatch(_QUOTED, value, re.DOTALL) is not None


def unquoted(value: str) -> str:
    """The text of a value: what the quotes hold if it stands in quotes, else the value itself."""
    return str(OverridesParser.create().parse_override(f"text={value}").value()) if is_quoted(value) else value


def split_list(values: str) -> list[str]:
    """The values of a sweep, which commas divide that stand in no quotes."""
    parts = re.findall(rf"((?:{_QUOTED}|[^,])*)(?:,|$)", values, re.DOTALL)
    return parts[:-1] if not values.endswith(",") and len(parts) > 1 else parts
