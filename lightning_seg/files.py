"""Files that are either whole or not there."""

import errno
import json
import math
import os
import re
import secrets
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_PARTIAL = re.compile(r"\.(?P<host>[^.]+)-(?P<process>\d+)-[0-9a-f]+\.partial")
# Seconds after which what another machine began to write, and did not touch since, counts as left behind.
_ABANDONED = 3600
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # of a disk, a quota, or what a file may have


@contextmanager
def atomic_write(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A temporary name beside `path`, with its suffix, for writing; it becomes `path` when the block ends well.

    Folders are made. The name is of this machine and process alone and cannot be guessed, and the file is a new one:
    no file, and no link to one, that lay there is written to. What was written is on the disk before it becomes
    `path`. If the block fails, the temporary file is removed and `path` stays what it was.

    Raises:
        FileExistsError: `path` exists and `overwrite` is false.
    """
    with atomic_files([Path(path)], overwrite=overwrite) as (temporary,):
        yield temporary


@contextmanager
def atomic_files(paths: Sequence[Path], *, overwrite: bool = False) -> Iterator[list[Path]]:
    """The same of several files, none of which appears before all are on the disk.

    Raises:
        FileExistsError: one exists and `overwrite` is false.
        OSError: they cannot be written; where the disk is full it names a file, and never a temporary one.
    """
    for path in paths:
        if path.exists() and not overwrite:
            raise FileExistsError(f"{path} exists already; set overwrite=true to replace it.")
        path.parent.mkdir(parents=True, exist_ok=True)
    temporaries = [_partial(path) for path in paths]
    try:
        for temporary in temporaries:
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        yield temporaries
        for temporary in temporaries:
            _flush(temporary)
        for temporary, path in zip(temporaries, paths, strict=True):
            temporary.replace(path)
        for folder in {path.parent for path in paths}:
            _flush(folder)  # the new names, too
    except OSError as error:
        names = dict(zip(map(str, temporaries), map(str, paths), strict=True))
        if error.filename in names or (error.filename is None and error.errno in _FULL):
            error.filename = names.get(error.filename, str(paths[0]))
        raise
    finally:
        for temporary in temporaries:
            temporary.unlink(missing_ok=True)


def write_json(path: str | Path, content: Mapping[str, Any], *, indent: int | None = 1) -> None:
    """Writes a JSON file at once, over what was there; NaN and infinities, which JSON does not have, become null."""
    with atomic_write(path, overwrite=True) as temporary:
        text = json.dumps(_without_non_finite(content), indent=indent, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def remove_partials(folder: str | Path) -> None:
    """Removes what killed processes left of `atomic_write` in a folder, and nothing that is being written."""
    for partial in Path(folder).glob(".*.partial*"):
        if not _is_being_written(partial):
            partial.unlink(missing_ok=True)


def host_name() -> str:
    """This machine's name, without dots."""
    return socket.gethostname().replace(".", "-") or "unknown"


def is_running(process: int) -> bool:
    """Whether a process of this machine, by its id, is running."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # of another user
    return True


def _partial(path: Path) -> Path:
    # Of the stem no more than leaves room for the rest, where `path` has the longest name that there may be.
    return path.with_name(f".{path.stem[:20]}.{host_name()}-{os.getpid()}-{secrets.token_hex(8)}.partial{path.suffix}")


def _is_being_written(partial: Path) -> bool:
    found = _PARTIAL.search(partial.name)
    if found is None:
        return False
    if found["host"] == host_name():
        return int(found["process"]) != os.getpid() and is_running(int(found["process"]))
    try:
        return time.time() - partial.stat().st_mtime < _ABANDONED
    except FileNotFoundError:
        return False


def _flush(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:
        if path.is_dir():  # a folder that may be written and not read, or Windows, which opens none
            return
        raise
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):  # a file system that has no such thing
            raise
    finally:
        os.close(descriptor)


def _without_non_finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_non_finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_non_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
