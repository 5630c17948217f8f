"""The database of a search may be anybody's, or damaged."""

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("optuna")
import optuna

from lightning_seg.callbacks.search_report import open_storage
from lightning_seg.sweeps.search import _read_in_one_line


def create(database: Path) -> Any:
    storage = open_storage(f"sqlite:///{database}")
    return optuna.create_study(storage=storage, study_name="study", direction="maximize", load_if_exists=True)


def overwritten(database: Path) -> None:
    create(database)
    with sqlite3.connect(database) as connection:
        connection.execute("drop table trials")
        connection.execute("create table trials (name)")
    connection.close()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda path: path.write_bytes(b"text" * 1000),
            r"cannot be read as the study of a search \(file is not a data",
        ),
        (overwritten, r"cannot be read as the study of a search \(no such column: trials"),
        (os.mkfifo, "is a named pipe, not a file"),
        (os.mkdir, "is a directory, not a file"),
        (lambda path: path.symlink_to("/dev/zero"), "is a device, not a file"),
        (lambda path: path.symlink_to(path.with_name("elsewhere.db")), "elsewhere.db, which does not exist"),
    ],
)
def test_what_is_no_study_is_said_in_one_line(tmp_path: Path, spoil: Callable[[Path], Any], message: str) -> None:
    database = tmp_path / "study.db"
    spoil(database)
    with pytest.raises((ValueError, OSError), match=message) as refused, _read_in_one_line(database):
        create(database).get_trials(deepcopy=False)
    assert str(refused.value).startswith(str(database))
    assert "\n" not in str(refused.value)
    assert os.listdir(tmp_path) == ["study.db"]


def test_a_study_is_opened_again(tmp_path: Path) -> None:
    for _ in range(2):
        with _read_in_one_line(tmp_path / "study.db"):
            assert create(tmp_path / "study.db").get_trials() == []
