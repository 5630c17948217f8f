import errno
import fcntl
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lightning_seg.files import host_name
from lightning_seg.runs.lock import locked


@pytest.fixture
def holder(tmp_path: Path) -> Callable[[], int]:
    """Locks the folder in another process, whose id it gives."""

    def start() -> int:
        process = os.fork()
        if process == 0:
            with locked(tmp_path):
                (tmp_path / "locked").touch()
                time.sleep(60)
            os._exit(0)
        while not (tmp_path / "locked").exists():
            time.sleep(0.01)
        return process

    return start


def kill(process: int) -> None:
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)


def test_a_folder_in_use_is_refused_with_host_and_process_and_taken_over_from_the_dead(
    tmp_path: Path, holder: Callable[[], int], capsys: pytest.CaptureFixture[str]
) -> None:
    process = holder()
    used = rf"is in use by process {process} on {host_name()}, which trains there: wait"
    with pytest.raises(ValueError, match=used), locked(tmp_path):
        pass
    kill(process)
    with locked(tmp_path):
        assert f"was locked by process {process} on {host_name()}" in capsys.readouterr().out
        assert json.loads((tmp_path / ".lock").read_text()) == {"host": host_name(), "process": os.getpid()}
    assert not (tmp_path / ".lock").exists()
    with locked(tmp_path):
        assert capsys.readouterr().out == ""


def test_a_copy_of_the_process_does_not_hold_the_lock(tmp_path: Path, holder: Callable[[], int]) -> None:
    read, write = os.pipe()
    process = os.fork()
    if process == 0:
        with locked(tmp_path):
            copy = os.fork()
            if copy == 0:
                time.sleep(60)
            os.write(write, str(copy).encode())
            time.sleep(60)
    copy = int(os.read(read, 20))
    kill(process)
    with locked(tmp_path):
        os.kill(copy, signal.SIGKILL)


def test_a_file_system_without_locks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_locks(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", no_locks)
    with locked(tmp_path):
        assert "cannot lock files (No locks available); make sure" in capsys.readouterr().out
    for host, refused in ((host_name(), True), ("elsewhere", False)):
        (tmp_path / ".lock").write_text(json.dumps({"host": host, "process": os.getppid()}))
        if refused:
            with pytest.raises(ValueError, match="is in use by process"), locked(tmp_path):
                pass
        else:
            with locked(tmp_path):
                assert (
                    f"no other command, such as process {os.getppid()} on elsewhere, trains" in capsys.readouterr().out
                )


@pytest.mark.parametrize("content", ["", "{", "[]", "[" * 5000, '{"host": 1}', '{"host": "a", "process": "b"}'])
def test_a_lock_that_was_not_written_to_the_end_does_no_harm(tmp_path: Path, content: str) -> None:
    (tmp_path / ".lock").write_text(content)
    with locked(tmp_path):
        assert (tmp_path / ".lock").exists()


@pytest.mark.parametrize(
    "make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path), lambda path: os.symlink("new", path)]
)
def test_a_lock_that_is_no_file_is_neither_followed_nor_waited_for(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path / ".lock")
    said = r"\.lock is not a regular file, as the lock of a run is: remove it"
    with pytest.raises(ValueError, match=said), locked(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
