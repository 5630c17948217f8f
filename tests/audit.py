"""What a piece of code opens, writes, connects to and starts, by Python's audit events."""

import os
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_ALWAYS = ("socket.connect", "socket.getaddrinfo", "socket.bind", "subprocess.Popen", "urllib.Request", "ctypes.dlopen")
_ALWAYS_OS = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "os.remove", "os.rename", "os.mkdir", "os.rmdir")
_PACKAGES = [str(Path(path).resolve()) for path in {*sys.path, *sysconfig.get_paths().values(), sys.prefix} if path]
_recorded: list[str] | None = None


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _recorded is None:
        return
    if event in _ALWAYS or event in _ALWAYS_OS or event.startswith("shutil."):
        _recorded.append(f"{event} {arguments!r}"[:300])
    elif event == "open" and isinstance(arguments[0], str | bytes):
        path, _, flags = arguments
        name = os.path.abspath(os.fsdecode(path))
        writes = bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)) and "__pycache__" not in name
        ours = name.startswith(("/proc/", "/sys/", "/etc/", "/dev/null", "/usr/", *_PACKAGES))
        if writes or not ours:
            _recorded.append(f"open {name} {'to write' if writes else 'to read'}")


sys.addaudithook(_hook)


@contextmanager
def audited(allowed: Path | None = None) -> Iterator[list[str]]:
    """The list of what happens in the block; importing installed packages is none of it, nor is reading `allowed`."""
    global _recorded
    found: list[str] = []
    _recorded = found
    try:
        yield found
    finally:
        _recorded = None
        if allowed is not None:
            found[:] = [event for event in found if event != f"open {allowed} to read"]
