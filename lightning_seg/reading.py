"""Reading files that may be a stranger's: nothing is waited for, and no more is read than was bargained for."""

import errno
import json
import os
import re
import stat
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import yaml  # type: ignore[import-untyped]

_DEPTH = 64  # of mappings and lists within each other; a configuration has about ten
_NO_REGULAR_FILE = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class StoredFile(ABC):
    """A file within another one, which stands for a `Path` where files are read; its `name` is for messages."""

    name: str

    @abstractmethod
    def read(self) -> bytes:
        """Its content."""

    @property
    def stem(self) -> str:
        """As of a path."""
        return self.name

    def __str__(self) -> str:
        return self.name

    def __fspath__(self) -> str:
        return self.name


def open_regular(path: "str | Path | StoredFile") -> BinaryIO:
    """A file, opened for reading its bytes. Links are followed.

    Raises:
        OSError: there is no such file (`FileNotFoundError`), it cannot be read, or it is a directory, a named pipe or
            a device, which would be waited for; in one line that names it.
    """
    if isinstance(path, StoredFile):
        return BytesIO(path.read())
    try:
        _refuse_irregular(path, os.stat(path))
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        raise in_words(path, error) from None
    try:
        _refuse_irregular(path, os.fstat(descriptor))  # it may have become another in between
    except OSError:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def read_bytes(path: str | Path, most: int) -> bytes:
    """The content of a file.

    Args:
        path: the file; see `open_regular`.
        most: bytes that it may hold.

    Raises:
        OSError: see `open_regular`.
        ValueError: it holds more.
    """
    with open_regular(path) as file:
        try:
            content = file.read(most + 1)
        except OSError as error:
            raise in_words(path, error) from None
    if len(content) > most:
        raise ValueError(f"{path} is larger than {most / 2**20:,.0f} MiB, which no file of its kind is.")
    return content


def read_text(path: str | Path, most: int = 2**24) -> str:
    """The content of a UTF-8 file, without the mark that some editors begin it with; see `read_bytes`."""
    content = read_bytes(path, most)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}.") from None


def read_json(path: str | Path, most: int = 2**24) -> Any:
    """What a JSON file holds.

    Raises:
        OSError: see `open_regular`.
        ValueError: it is larger than `most` bytes, or no JSON.
    """
    text = read_text(path, most)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read as JSON ({error}).") from None


def read_yaml(path: str | Path, most: int = 2**20) -> Any:
    """What a YAML file holds, as plain mappings, lists, texts, numbers and None; `${...}` stays text.

    A file may not refer to a part of itself (`*name`), of which a few lines can make more than any memory holds, nor
    name types (`!!binary`, `!!python/...`). Dates are texts, and `1e-3` is a number, as OmegaConf has them.

    Raises:
        OSError: see `open_regular`.
        ValueError: it is larger than `most` bytes, no YAML, or has what is not allowed.
    """
    text = read_text(path, most)
    try:
        _check_events(text)
        return yaml.load(text, Loader=_PlainLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read as YAML: {' '.join(str(error).split())}") from None


def as_yaml(content: Mapping[str, Any]) -> str:
    """What `read_yaml` and OmegaConf read as these mappings, lists, texts, numbers and None, in their order."""
    text: str = yaml.dump(content, Dumper=_PlainDumper, allow_unicode=True, default_flow_style=False, sort_keys=False)
    return text


def wrong_entries(entries: Sequence[zipfile.ZipInfo], size: int) -> str:
    """What of an archive's entries is not as `torch.save` writes them, and may be more than the file; "" if nothing.

    Args:
        entries: of the archive.
        size: of the file, in bytes.
    """
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        return "its entries are compressed, as torch.save never does"
    if len({entry.filename for entry in entries}) != len(entries) or sum(entry.file_size for entry in entries) > size:
        return "its entries overlap"
    return ""


def in_words(path: str | Path, error: OSError) -> OSError:
    """An error of the operating system as one line that names the file, of the same class."""
    if error.errno is None:
        return error
    if error.errno == errno.ENOENT:
        if os.path.islink(path):
            return FileNotFoundError(f"{path} is a link to {os.readlink(path)}, which does not exist.")
        return FileNotFoundError(f"{path} does not exist.")
    if error.errno == errno.ELOOP:
        return OSError(f"{path} is a link that leads back to itself.")
    reason = (error.strerror or str(error)).lower()
    return type(error)(f"{path} cannot be read: {reason}.")


def _refuse_irregular(path: str | Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _NO_REGULAR_FILE.get(stat.S_IFMT(status.st_mode), "something else")
        raise OSError(f"{path} is {kind}, not a file.")


def _check_events(text: str) -> None:
    """Refuses what would grow as it is built, before anything is."""
    depth = 0
    for event in yaml.parse(text, Loader=_PlainLoader):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError(f"line {event.start_mark.line + 1} refers to another part (*{event.anchor}).")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _DEPTH:
            raise ValueError(f"line {event.start_mark.line + 1} is nested more than {_DEPTH} deep.")


class _PlainLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Plain values only, and numbers as OmegaConf reads them."""

    yaml_constructors: ClassVar = {
        tag: build
        for tag, build in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.rpartition(":")[2] in ("null", "bool", "int", "float", "str", "seq", "map")
    }
    yaml_implicit_resolvers: ClassVar = {
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":timestamp", ":value", ":merge"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


class _PlainDumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """The same to write, which puts texts in quotes that would be read as numbers, and refers to no other part."""

    def ignore_aliases(self, data: Any) -> bool:
        """Called with each value; a list that stands in two places is written twice."""
        return True


for _plain in (_PlainLoader, _PlainDumper):
    _plain.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"[-+]?\d[\d_]*(\.[\d_]*)?[eE][-+]?\d+$"), list("-+0123456789")
    )
