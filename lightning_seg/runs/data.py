"""Whether a run that is resumed still has its data: a copy elsewhere is the same, other data are another run."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightning_seg.files import write_json
from lightning_seg.reading import read_json
from lightning_seg.runs.contents import DATA

Digests = Mapping[str, Mapping[str, Any]]


def read_digests(folder: Path) -> Digests | None:
    """What a run keeps of its data, by split; None if it keeps nothing, as runs of earlier versions.

    Raises:
        ValueError: the file is damaged.
    """
    path = folder / DATA
    if not path.is_file():
        return None
    content = read_json(path)
    if not isinstance(content, dict) or not all(isinstance(part, dict) for part in content.values()):
        raise ValueError(f"{path} is not the digest of a run's data: remove it, and the current data will be recorded.")
    return content


def keep_digests(folder: Path, digests: Digests) -> None:
    """Keeps what a run's data are, if they are what they were.

    Args:
        folder: the run's.
        digests: by split, as `lightning_seg.data.DescribesData` gives them.

    Raises:
        ValueError: they are other data.
    """
    before = read_digests(folder) or {}
    check_same_data(folder, before, digests)
    if digests and dict(digests) != before:
        write_json(folder / DATA, {**before, **digests})


def check_same_data(folder: Path, before: Digests, now: Digests) -> None:
    """Refuses other data than a run's own.

    Raises:
        ValueError: a split has other images or masks.
    """
    for split in now:
        was, has = before.get(split), now[split]
        if was is not None and was != has:
            counts = f"{was.get('images')} and now {has.get('images')}"
            if was.get("images") == has.get("images"):
                counts = f"{has.get('images')} as now, but with other names, sizes or masks"
            raise ValueError(
                f"{folder} was trained on different data: its images of the {split} split were {counts}. "
                "Different data needs a run of its own, run=ANOTHER; a copy of the same data elsewhere is accepted."
            )


def changed_since(root: Path, moment: float) -> bool:
    """Whether a file or folder below one was changed, added or removed since a moment, as the file system tells."""

    def is_younger(path: str) -> bool:
        status = os.stat(path)
        return max(status.st_mtime, status.st_ctime) > moment

    folders = os.walk(root)
    with suppress(FileNotFoundError):
        return any(is_younger(os.path.join(folder, name)) for folder, _, files in folders for name in (".", *files))
    return True
