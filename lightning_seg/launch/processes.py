"""Several processes on one machine, each given the composed configuration and never the command line.

Lightning would start its processes by running the command again, so that under Hydra's multirun each of them would
start the whole sweep; here torch's elastic launcher starts them.
"""

import json
import logging
import multiprocessing
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any
from uuid import uuid4

import torch
from torch import distributed
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from lightning_seg.launch.cluster import is_launched
from lightning_seg.launch.ending import ProcessError, end_with
from lightning_seg.text import print_any_character

# The launcher passes them on to the processes, of which the training answers all but SIGQUIT with a checkpoint.
_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1)
# The exit codes of a process that has written it.
_INTERRUPTED = tuple(128 + number for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGINT))


# What a process says when another one is gone.
_LOST = re.compile(r"connection (closed|reset|refused)|broken pipe|remote process|peer|recvValue", re.IGNORECASE)
_KILLED = "the system kills processes that use too much memory."


def run_on_processes(
    function: Callable[[dict[str, Any]], Any], config: dict[str, Any], processes: int | None = None
) -> Any:
    """Calls `function(config)` in as many processes as `config["trainer"]` has devices; the value of rank zero.

    With one device, and in a process that a launcher has started already, it is called in this process. Whatever ends
    this process or one of the others ends them all. `processes` says their number where there is no trainer.

    Raises:
        ProcessError: a process failed, with the error of the one that failed first.
    """
    processes = requested_devices(config["trainer"]) if processes is None else processes
    if processes == 1 or is_launched():
        return function(config)
    with TemporaryDirectory(prefix="lightning-seg-") as folder:
        launch = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id=uuid4().hex,
            rdzv_backend="c10d",
            # The default store listens to other machines, and what it is sent is unpickled.
            rdzv_endpoint=str(Path(folder, "store")),
            rdzv_configs={"store_type": "file"},
            max_restarts=0,
            start_method="spawn",
            signals_to_handle=",".join(number.name for number in _SIGNALS),
            logs_specs=DefaultLogsSpecs(log_dir=folder),
        )
        # The error that ends a process is raised here with its traceback; torch would print it before as well.
        for name in ("torch.distributed.elastic", "torch.multiprocessing.spawn"):  # which says whom it ended then
            logging.getLogger(name).setLevel(logging.CRITICAL)
        with _as_before(), _environment(processes), _interrupts_passed_on(processes):
            try:
                return elastic_launch(launch, _call_as_rank)(function, config, os.getpid(), str(Path(folder, "ranks")))[
                    0
                ]
            except ChildFailedError as error:
                code = error.get_first_failure()[1].exitcode
                if code in _INTERRUPTED:
                    raise SystemExit(code) from None
                raise _first_error(Path(folder), error, processes) from None
            except SignalException as received:
                ended_by = received.sigval
    os.kill(os.getpid(), ended_by)  # what was to happen before the launcher took the signal
    sys.exit(128 + ended_by)


def requested_devices(trainer: Mapping[str, Any]) -> int:
    """How many processes a trainer's `accelerator` and `devices` ask for on this machine."""
    devices = trainer.get("devices", "auto")
    if isinstance(devices, list):
        return len(devices)
    if isinstance(devices, str) and "," in devices:
        return len([device for device in devices.split(",") if device.strip()])
    if devices not in ("auto", -1, "-1"):
        return int(devices)
    uses_gpu = trainer.get("accelerator", "auto") in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return torch.cuda.device_count() if uses_gpu else 1


def available_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _call_as_rank(function: Callable[[dict[str, Any]], Any], config: dict[str, Any], parent: int, store: str) -> Any:
    end_with(parent)
    _stay_on_this_machine(store)
    print_any_character()
    with suppress(OSError):  # it leads a group already
        os.setsid()  # a terminal then sends Ctrl-C to the launcher alone, which passes it on, and not twice
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        return function(config)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)  # torch takes an interrupted process for one that is still at work


def _stay_on_this_machine(store: str) -> None:
    """Lets the processes meet in a file and talk over the loopback interface, where no other machine reaches them.

    The store that torch would make instead listens on all interfaces. `init_process_group` takes no other by an
    environment variable, and it is Lightning that calls it.

    Args:
        store: the file, in a folder that is this user's alone.
    """
    interfaces = [name for _, name in socket.if_nameindex()]
    for name in ("lo", "lo0"):
        if name in interfaces:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
            os.environ.setdefault("NCCL_SOCKET_IFNAME", name)
    initialize, numbers = distributed.init_process_group, count()

    def init_process_group(*args: Any, **kwargs: Any) -> None:
        if len(args) < 2 and not kwargs.keys() & {"init_method", "store"}:
            size = int(os.environ["WORLD_SIZE"])
            file = distributed.FileStore(f"{store}{next(numbers)}", size)  # type: ignore[attr-defined]
            kwargs = {**kwargs, "store": file, "rank": int(os.environ["RANK"]), "world_size": size}
        initialize(*args, **kwargs)

    distributed.init_process_group = init_process_group


@contextmanager
def _as_before() -> Iterator[None]:
    """Gives the signals back to whom they had, and leaves no process behind."""
    before = multiprocessing.active_children()
    handlers = {number: signal.getsignal(number) for number in (*_SIGNALS, signal.SIGINT)}
    try:
        yield
    finally:
        for child in multiprocessing.active_children():
            if child not in before:  # a signal that comes while they are being started leaves some of them
                child.kill()
                child.join()
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                signal.signal(number, handler)


@contextmanager
def _interrupts_passed_on(processes: int) -> Iterator[None]:
    """Passes Ctrl-C on to the processes, and waits for what they make of it; the second one ends all at once.

    The processes are started with SIGINT blocked, since a terminal would send it to them in the middle of their
    imports.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = multiprocessing.active_children()
    received = 0

    def pass_on(signum: int, frame: FrameType | None) -> None:
        nonlocal received
        received += 1
        started = [child for child in multiprocessing.active_children() if child not in before]
        if received == 1 and len(started) < processes:
            raise KeyboardInterrupt
        for child in started:
            if child.pid is not None:
                os.kill(child.pid, signal.SIGINT if received == 1 else signal.SIGKILL)
        if received > 1:
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)

    signal.signal(signal.SIGINT, pass_on)
    ended = threading.Event()
    # It takes the signal that the main thread blocks; the handler is called in the main thread all the same.
    taker = threading.Thread(target=ended.wait, name="take_interrupts", daemon=True)
    taker.start()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        ended.set()
        taker.join()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@contextmanager
def _environment(processes: int) -> Iterator[None]:
    """Gives each process its share of the threads that this one may use, and keeps the launcher from listening."""
    values = {
        "OMP_NUM_THREADS": str(max(1, torch.get_num_threads() // processes)),
        # Else it makes a store for the processes on all interfaces, where these have a file.
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
    }
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _first_error(folder: Path, error: ChildFailedError, processes: int) -> ProcessError:
    """The error of the process that failed first; the others lose their connection to it and fail too."""
    rank, failure = error.get_first_failure()
    if failure.exitcode < 0:
        return ProcessError(rank, "", f"was ended by {failure.signal_name()} and raised no error; {_KILLED}")
    written = sorted(folder.rglob("error.json"), key=lambda path: path.stat().st_mtime_ns)
    silent = sorted(set(range(processes)) - {int(path.parent.name) for path in written})
    for path in written:
        message = json.loads(path.read_text(encoding="utf-8"))["message"]
        callstack = message["extraInfo"]["py_callstack"]
        if silent and _LOST.search(callstack.strip().splitlines()[-1]):
            which = str(silent[0]) if len(silent) == 1 else f"one of {', '.join(map(str, silent))}"
            return ProcessError(silent[0], "", f"was ended and raised no error; {_KILLED}", which)
        return ProcessError(int(path.parent.name), callstack, "failed:")
    return ProcessError(rank, "", f"ended with {failure.exitcode} and raised no error; {_KILLED}")
