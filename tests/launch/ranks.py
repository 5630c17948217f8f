"""What the processes of a launch do in its tests. They import no Lightning, which takes seconds."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from torch import distributed

from lightning_seg.launch.processes import run_on_processes


def count(config: dict[str, Any]) -> tuple[int, int, str, set[str]]:
    distributed.init_process_group("gloo")
    distributed.barrier()
    return distributed.get_rank(), distributed.get_world_size(), os.environ["OMP_NUM_THREADS"], listened_to()


def listened_to() -> set[str]:
    """The addresses that this process and the launcher listen on, in hexadecimal."""
    folders = [Path(f"/proc/{process}/fd") for process in ("self", os.getppid())]
    opened = {os.readlink(path) for folder in folders for path in folder.iterdir() if path.is_symlink()}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]:
            _, address, _, state, *rest = line.split()
            if state == "0A" and f"socket:[{rest[5]}]" in opened:
                found.add(address.split(":")[0])
    return found


def fail_before_the_rendezvous(config: dict[str, Any]) -> None:
    if os.environ["RANK"] == "1":
        raise LookupError("rank one has no such thing")
    distributed.init_process_group("gloo")


def be_killed_while_others_wait(config: dict[str, Any]) -> None:
    distributed.init_process_group("gloo")
    if distributed.get_rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    distributed.barrier()


def be_interrupted_while_others_wait(config: dict[str, Any]) -> None:
    distributed.init_process_group("gloo")
    if distributed.get_rank() == 1:
        os.kill(os.getpid(), signal.SIGINT)
    distributed.barrier()


def wait_forever(config: dict[str, Any]) -> None:
    distributed.init_process_group("gloo")
    Path(f"{os.environ['RANK']}.ready").touch()
    if distributed.get_rank() == 1:
        time.sleep(1000)
    distributed.barrier()  # deaf to signals


if __name__ == "__main__":
    run_on_processes(globals()[sys.argv[1]], {"trainer": {"devices": 2}})
