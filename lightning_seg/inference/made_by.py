"""What made the results in a folder, so that those of another checkpoint or of other options are not kept as these."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_seg.files import write_json
from lightning_seg.reading import read_json
from lightning_seg.text import text_logger

log = text_logger(__name__)

NAME = ".made_by.json"
_PARTS = ("config.json", "model.safetensors")  # of a folder of the Hub


def remember(output: Path, made_by: Mapping[str, Any], *, resume: bool, overwrite: bool, kept: int) -> None:
    """Writes what makes the results of a folder, beside them.

    Args:
        output: the folder.
        made_by: the checkpoints, by `digests`, and the options that change results.
        resume: results that are there are kept.
        overwrite: they are replaced.
        kept: how many are kept.

    Raises:
        ValueError: they would be kept, and something else made them.
    """
    path = output / NAME
    now: dict[str, Any] = json.loads(json.dumps(made_by, default=str))
    makers = _makers(path)
    for maker in makers if resume and kept else ():
        for name in sorted({*maker, *now}):
            if maker.get(name) != now.get(name):
                what = (
                    f"{name}={maker.get(name)!s:.80}, not {now.get(name)!s:.80}"
                    if name != "checkpoint"
                    else "other checkpoints"
                )
                raise ValueError(
                    f"resume=true would keep results in {output} that were made with {what}: name another output "
                    "folder, or set overwrite=true."
                )
    if resume and kept and not makers:
        log.warning("%s does not say what made the results in it that are kept.", output)
    makers = [now] if overwrite else [*(maker for maker in makers if maker != now), now]
    write_json(path, {"made_by": makers})


def digests(checkpoints: str | Sequence[str]) -> list[str]:
    """What tells checkpoints from others, whatever they are called; the address of one that is not here."""
    found = []
    for checkpoint in [checkpoints] if isinstance(checkpoints, str) else checkpoints:
        path = Path(checkpoint).expanduser()
        parts = [path / part for part in _PARTS] if path.is_dir() else [path]
        if not all(part.is_file() for part in parts):
            found.append(checkpoint)
            continue
        content = hashlib.sha256()
        for part in parts:
            with part.open("rb") as file:
                content.update(hashlib.file_digest(file, "sha256").digest())
        found.append(content.hexdigest())
    return found


def _makers(path: Path) -> list[dict[str, Any]]:
    try:
        makers = read_json(path)["made_by"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return makers if isinstance(makers, list) and all(isinstance(maker, dict) for maker in makers) else []
