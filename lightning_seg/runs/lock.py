"""One command at a time trains in the folder of a run."""

import errno
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from lightning_seg.files import host_name, is_running
from lightning_seg.runs.contents import LOCK
from lightning_seg.text import say

_IS_LOCKED = (errno.EACCES, errno.EAGAIN)
_CANNOT_LOCK = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL)


class Holder(NamedTuple):
    """The process that has locked a folder, or had when it ended."""

    host: str
    process: int

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}"

    @property
    def is_here(self) -> bool:
        """Whether it is one of this machine."""
        return self.host == host_name()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other commands from training in a folder until the block ends.

    The lock is one of the file system, on a file that names this machine and process. It ends with the process,
    however that ends, and the next command says from whom it takes over. Copies of the process, as those of a loader,
    do not hold it.

    Raises:
        ValueError: another process has locked it; the message names it. Or the lock is no regular file.
    """
    descriptor = _lock(folder / LOCK)
    try:
        left = _holder(descriptor)
        if left is not None:
            say(f"{folder} was locked by {left}, which ended without releasing it; this command takes over.")
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(Holder(host_name(), os.getpid())._asdict()).encode(), 0)
        yield
    finally:
        (folder / LOCK).unlink(missing_ok=True)
        os.close(descriptor)


def _lock(path: Path) -> int:
    """Opens the file and locks it; closing it, or another descriptor of it in this process, frees it."""
    while True:
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise ValueError(f"{path} is not a regular file, as the lock of a run is: remove it.")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
        try:
            # Unlike flock, this is not for copies of the process as well, and network file systems have it.
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = _holder(descriptor)
            unlockable = error.errno in _CANNOT_LOCK
            if error.errno in _IS_LOCKED or (unlockable and holder and holder.is_here and is_running(holder.process)):
                os.close(descriptor)
                gone = "" if holder is None or holder.is_here else f" (if that machine is gone, remove {path})"
                raise ValueError(
                    f"{path.parent} is in use by {holder or 'another process'}, which trains there: wait for it, or "
                    f"end it{gone}; run=ANOTHER trains elsewhere."
                ) from None
            if not unlockable:
                os.close(descriptor)
                raise
            other = "no other command" if holder is None else f"no other command, such as {holder},"
            say(
                f"{path.parent}: this file system cannot lock files ({os.strerror(error.errno or 0)}); make sure that "
                f"{other} trains there at the same time."
            )
            os.ftruncate(descriptor, 0)
            return descriptor
        if _is_there(path, descriptor):
            return descriptor
        os.close(descriptor)  # whoever had locked it has removed it in between


def _is_there(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _holder(descriptor: int) -> Holder | None:
    """Whom the file names; None if it is new, or was not written to the end."""
    try:
        content = json.loads(os.pread(descriptor, 1024, 0))
        return Holder(str(content["host"]), int(content["process"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
