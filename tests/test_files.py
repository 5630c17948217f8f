import json
import math
import multiprocessing
import os
import re
import time
from pathlib import Path

import pytest

from lightning_seg.files import atomic_write, host_name, remove_partials, write_json


def test_a_partial_file_has_a_name_of_this_machine_and_process_that_is_never_used_twice(tmp_path: Path) -> None:
    names = []
    for _ in range(2):
        with atomic_write(tmp_path / "best.ckpt", overwrite=True) as partial:
            partial.write_text("new")
            names.append(partial.name)
            assert not (tmp_path / "best.ckpt").exists() or len(names) == 2
    assert names[0] != names[1]
    assert all(re.fullmatch(rf"\.best\.{host_name()}-{os.getpid()}-\w+\.partial\.ckpt", name) for name in names)
    assert [path.name for path in tmp_path.iterdir()] == ["best.ckpt"]


def test_what_becomes_a_file_was_flushed_to_the_disk_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    flush, replace = os.fsync, Path.replace

    def noting_flush(descriptor: int) -> None:
        done.append(f"flush {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")
        flush(descriptor)

    def noting_replace(self: Path, target: Path) -> Path:
        done.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", noting_flush)
    monkeypatch.setattr(Path, "replace", noting_replace)
    with atomic_write(tmp_path / "a.txt") as partial:
        partial.write_text("a")
    assert done == [f"flush {partial.name}", "rename", f"flush {tmp_path.name}"]


def test_only_what_nobody_writes_any_more_is_removed(tmp_path: Path) -> None:
    ended = multiprocessing.get_context("spawn").Process(target=int)
    ended.start()
    ended.join()
    old = time.time() - 7200
    left = [
        ".last.123.partial.ckpt",  # as earlier versions wrote it
        f".last.{host_name()}-{ended.pid}-0a1b2c3d.partial.ckpt",
        ".last.elsewhere-1-0a1b2c3d.partial.ckpt",
    ]
    written = [f".last.{host_name()}-{os.getppid()}-0a1b2c3d.partial.ckpt", ".last.elsewhere-2-0a1b2c3d.partial.ckpt"]
    for name in (*left, *written, "last.ckpt"):
        (tmp_path / name).touch()
    os.utime(tmp_path / left[2], (old, old))
    remove_partials(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*written, "last.ckpt"}


def test_json_has_null_for_what_json_does_not_have(tmp_path: Path) -> None:
    def refuse(name: str) -> float:
        raise AssertionError(name)

    write_json(tmp_path / "a.json", {"best": -math.inf, "test": {"iou": math.nan, "dice": [0.5, math.inf]}, "n": 1})
    read = json.loads((tmp_path / "a.json").read_text(), parse_constant=refuse)
    assert read == {"best": None, "test": {"iou": None, "dice": [0.5, None]}, "n": 1}
