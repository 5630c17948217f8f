"""What the processes of a launch do in its tests. They import no Lightning, which takes seconds."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from torch import distributed

from lightning_seg.launch.processes import run_on_processes


def count(config: dict[str, Any]) -> tuple[int, int, str]:
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    return rank, size, os.environ["OMP_NUM_THREADS"]


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
