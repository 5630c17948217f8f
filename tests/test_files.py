import json
import math
import multiprocessing
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lightning_seg.csv_files import write_csv
from lightning_seg.files import atomic_write, host_name, remove_partials, write_json
from lightning_seg.launch.errors import one_line
from lightning_seg.report import Run, write_report
from lightning_seg.runs.folder import _write_config
from tests.file_limit import file_limit


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


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "new" / "a.png") as temporary:
        temporary.write_text("half")
        assert temporary.suffix == ".png"
        assert not (tmp_path / "new" / "a.png").exists()
        temporary.write_text("whole")
    assert (tmp_path / "new" / "a.png").read_text() == "whole"
    assert names(tmp_path / "new") == ["a.png"]


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("old")

    def write_half() -> None:
        with atomic_write(tmp_path / "a.png", overwrite=True) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert (tmp_path / "a.png").read_text() == "old"
    assert names(tmp_path) == ["a.png"]


@pytest.mark.parametrize(
    "write",
    [
        lambda path: write_json(path, {"a": "b" * 9000}),
        lambda path: write_csv(path, [("a", "b" * 9000)]),
        lambda path: write_report(path, [Run(path.parent, {"seed": 0, "trainer": {}}, "unfinished")], overwrite=True),
        lambda path: _write_config(path.parent, {"a": "b" * 9000}, overwrite=True),
    ],
    ids=["result.json", "curves.csv", "report", "config.yaml"],
)
def test_a_full_disk_is_one_line_that_names_the_file_and_leaves_what_was_there(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("old")
    with file_limit(4096), pytest.raises(OSError, match="File too large") as raised:
        write(path)
    assert (
        one_line(raised.value) == f"{path}: the file is larger than the limit allows: raise it (ulimit -f unlimited)."
    )
    assert (names(tmp_path), path.read_text()) == (["config.yaml"], "old")


def test_temporary_names_differ_each_time_and_do_not_follow_a_planted_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = set()
    for _ in range(20):
        with atomic_write(tmp_path / "a.png", overwrite=True) as temporary:
            seen.add(temporary.name)
    assert len(seen) == 20
    monkeypatch.setattr("secrets.token_hex", lambda size: "ab")
    (tmp_path / "victim").write_text("precious")
    (tmp_path / f".a.{host_name()}-{os.getpid()}-ab.partial.png").symlink_to("victim")
    with pytest.raises(FileExistsError), atomic_write(tmp_path / "a.png", overwrite=True) as temporary:
        temporary.write_text("harm")
    assert (tmp_path / "victim").read_text() == "precious"


def test_a_link_in_the_place_of_the_file_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "a").symlink_to("victim")
    with atomic_write(tmp_path / "a", overwrite=True) as temporary:
        temporary.write_text("mine")
    assert (tmp_path / "victim").read_text() == "precious"
    assert (tmp_path / "a").read_text() == "mine"


def test_the_longest_name_that_a_file_system_takes_is_written(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 251 + ".png")
    with atomic_write(path) as temporary:
        temporary.write_text("whole")
    assert path.read_text() == "whole"


def test_a_file_has_the_rights_that_a_new_file_has(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    with atomic_write(tmp_path / "a") as temporary:
        temporary.write_text("")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "plain").stat().st_mode
