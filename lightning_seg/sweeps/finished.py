"""Runs that have finished before, whose scores are given again instead of training once more."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_seg.launch.building import build
from lightning_seg.runs.contents import DATA
from lightning_seg.runs.data import Digests, changed_since, check_same_data, read_digests
from lightning_seg.runs.folder import finished_result, kept_config
from lightning_seg.runs.kept import as_kept
from lightning_seg.text import say

_digests: dict[str, Digests] = {}  # the jobs of a sweep have the same data, and all masks are read for it


def finished_before(folder: Path, config: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any] | None:
    """The scores of a run if it has finished, with the same configuration and data; None if it has not.

    Args:
        folder: the run's, which exists or not.
        config: composed and resolved.
        overrides: the command line.

    Raises:
        ValueError: it has finished with others.
    """
    result = finished_result(folder, config, overrides)
    if result is not None:
        _check_data(folder, config)
    return result


def _check_data(folder: Path, config: Mapping[str, Any]) -> None:
    kept, root = read_digests(folder), config["data"].get("root")
    is_moved = kept_config(folder)["data"].get("root") != as_kept(config)["data"].get("root")
    if not is_moved and (kept is None or root is None):
        return
    if not is_moved and not changed_since(Path(root).expanduser(), (folder / DATA).stat().st_mtime):
        return
    digests = _digests_of(config["data"])
    if kept is None or not digests:
        say(f"{folder} does not record its data, so {root} may not hold what it was trained on.")
    else:
        check_same_data(folder, kept, digests)


def _digests_of(config: Mapping[str, Any]) -> Digests:
    key = json.dumps(config, sort_keys=True, default=str)
    if key not in _digests:
        from lightning_seg.data.protocol import DescribesData  # imports Lightning, for seconds

        datamodule = build(config)
        if isinstance(datamodule, DescribesData):
            datamodule.prepare_data()  # type: ignore[attr-defined]
            datamodule.setup("fit")  # type: ignore[attr-defined]
            _digests[key] = datamodule.digests()
        else:
            _digests[key] = {}
    return _digests[key]
