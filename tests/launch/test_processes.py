import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch.distributed.elastic.multiprocessing.api import ProcessFailure
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from lightning_seg.launch import processes
from lightning_seg.launch.ending import ProcessError
from lightning_seg.launch.processes import _first_error, run_on_processes
from tests.forkserver import forkserver, launch_copies
from tests.launch import ranks

TWO = {"trainer": {"devices": 2}}


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[], set[int]]]:
    """Which processes live that this test has started, and those that they have started.

    New programs are told by their environment, copies of this process by a file that it has opened.
    """
    mark = f"STARTED_BY={tmp_path}"
    monkeypatch.setenv(*mark.split("="))
    opened = (tmp_path / "opened_by_copies").open("w")

    def find() -> set[int]:
        found = set()
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                is_ours = mark.encode() in (folder / "environ").read_bytes().split(b"\0")
                is_ours |= folder.name != str(os.getpid()) and opened.name in map(os.readlink, folder.glob("fd/*"))
                is_alive = (folder / "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
            except OSError:
                continue
            if is_ours and is_alive and b"resource_tracker" not in (folder / "cmdline").read_bytes():
                found.add(int(folder.name))
        return found

    yield find
    for pid in find():
        os.kill(pid, signal.SIGKILL)
    opened.close()


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks that have imported torch when they begin, which takes new ones seconds."""
    monkeypatch.setattr("lightning_seg.launch.processes.elastic_launch", launch_copies)


LOOPBACK = {"0100007F", "00000000000000000000000001000000"}


@pytest.mark.slow
def test_the_value_is_that_of_rank_zero_the_threads_are_shared_and_no_other_machine_is_listened_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    *values, addresses = run_on_processes(ranks.count, TWO)
    assert values == [0, 2, str(max(1, torch.get_num_threads() // 2))]
    assert addresses <= LOOPBACK
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert "OMP_NUM_THREADS" not in os.environ


@pytest.mark.slow
def test_a_rank_that_fails_before_the_rendezvous_ends_the_others_and_its_own_error_is_raised(
    copies: None, started: Callable[[], set[int]]
) -> None:
    with pytest.raises(ProcessError) as raised:
        run_on_processes(ranks.fail_before_the_rendezvous, TWO)
    assert raised.value.rank == 1
    assert "LookupError: rank one has no such thing" in str(raised.value)
    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)
    assert started() == set()


CONNECTION = "RuntimeError: [../gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:3151"


@pytest.mark.parametrize(
    ("exit_code", "errors", "expected"),
    [
        (-9, {0: CONNECTION}, "process 1 was ended by SIGKILL and raised no error"),
        (1, {0: CONNECTION}, "process 1 was ended and raised no error"),
        (1, {0: CONNECTION, 1: "LookupError: no"}, "process 0 failed:"),
        (1, {1: "LookupError: no", 0: CONNECTION}, "LookupError: no"),
        (3, {}, "process 1 ended with 3 and raised no error"),
    ],
)
def test_the_process_that_died_is_named_and_not_the_one_that_lost_it(
    tmp_path: Path, exit_code: int, errors: dict[int, str], expected: str
) -> None:
    for moment, (rank, text) in enumerate(errors.items()):
        path = tmp_path / f"attempt_0/{rank}/error.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"message": {"extraInfo": {"py_callstack": f"Traceback\n{text}\n"}}}))
        os.utime(path, (moment, moment))
    failure = ProcessFailure(local_rank=1, pid=1, exitcode=exit_code, error_file="")
    assert expected in str(_first_error(tmp_path, ChildFailedError("train", {1: failure}), 2))


@pytest.mark.slow
@pytest.mark.parametrize(
    "function", [ranks.be_killed_while_others_wait, ranks.be_interrupted_while_others_wait], ids=["KILL", "INT"]
)
def test_a_rank_that_a_signal_ends_ends_the_others(
    copies: None, function: Callable[[dict[str, object]], None], started: Callable[[], set[int]]
) -> None:
    with pytest.raises((ProcessError, SystemExit)):
        run_on_processes(function, TWO)
    assert started() == set()


def check_all_end(started: Callable[[], set[int]]) -> None:
    until = time.monotonic() + 30
    while started() and time.monotonic() < until:
        time.sleep(0.1)
    assert started() == set()


@pytest.mark.slow
def test_a_signal_to_the_command_ends_ranks_that_import(tmp_path: Path, started: Callable[[], set[int]]) -> None:
    command = subprocess.Popen(
        [sys.executable, "-m", "tests.launch.ranks", "wait_forever"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stderr=subprocess.PIPE,
    )
    while len(started()) < 3:
        assert command.poll() is None
        time.sleep(0.1)
    command.send_signal(signal.SIGTERM)
    _, printed = command.communicate(timeout=60)
    assert command.returncode == -signal.SIGTERM
    assert b"Traceback" not in printed
    check_all_end(started)


def wait_in_copies(folder: Path) -> None:
    """The same in a process that has imported torch already, of which the ranks are copies."""
    os.chdir(folder)
    os.open("opened_by_copies", os.O_RDONLY)
    os.dup2(os.open("printed", os.O_WRONLY | os.O_CREAT), 2)
    processes.elastic_launch = launch_copies
    run_on_processes(ranks.wait_forever, TWO)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_signal_to_the_command_ends_ranks_that_wait(
    number: signal.Signals, tmp_path: Path, started: Callable[[], set[int]]
) -> None:
    command = forkserver().Process(target=wait_in_copies, args=(tmp_path,))
    command.start()
    while len(list(tmp_path.glob("*.ready"))) < 2:
        assert command.is_alive()
        time.sleep(0.05)
    assert len(started()) == 3
    assert command.pid is not None
    os.kill(command.pid, number)
    command.join(60)
    assert command.exitcode == (128 + number if number == signal.SIGINT else -number)
    assert "Traceback" not in (tmp_path / "printed").read_text()
    check_all_end(started)
