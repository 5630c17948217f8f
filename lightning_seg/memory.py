"""How much memory there is."""

from pathlib import Path

_GROUP = Path("/sys/fs/cgroup")


def available_memory() -> int | None:
    """Bytes that this process may still take, of the machine and of its container; None where nobody says."""
    known = [amount for amount in (_of_machine(), _of_group()) if amount is not None]
    return min(known, default=None)


def check_memory(needed: int, what: object) -> None:
    """Refuses what would not fit, before the system ends the process for it.

    Args:
        needed: bytes.
        what: for the message.

    Raises:
        MemoryError: there is less.
    """
    if needed < 2**28:  # not worth the look
        return
    available = available_memory()
    if available is not None and needed > available:
        raise MemoryError(f"{what} takes {needed / 2**30:.1f} GiB of memory, and {available / 2**30:.1f} are free.")


def _of_machine() -> int | None:
    for line in _lines(Path("/proc/meminfo")):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _of_group() -> int | None:
    limit = "".join(_lines(_GROUP / "memory.max"))
    used = "".join(_lines(_GROUP / "memory.current"))
    if not limit.isdigit() or not used.isdigit():
        return None
    cached = next((line for line in _lines(_GROUP / "memory.stat") if line.startswith("inactive_file ")), "x 0")
    return max(0, int(limit) - int(used) + int(cached.split()[1]))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return []
