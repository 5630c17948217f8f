"""The command in a process of its own: this imports no pytest, which takes each of them as long as a short training."""

import multiprocessing
import os
import sys
from pathlib import Path

from hydra._internal.hydra import Hydra

from lightning_seg.commands import train
from lightning_seg.launch import processes
from tests.forkserver import launch_copies
from tests.one_composition import get_mode


def call(folder: Path, arguments: list[str]) -> None:
    """Runs the command in this process, which writes what it prints to `log`."""
    multiprocessing.set_start_method(None, force=True)  # that of a process of the console
    os.chdir(folder)
    log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.argv = ["lightning-seg-train", *arguments]
    processes.elastic_launch = launch_copies
    Hydra.get_mode = get_mode
    train.main()
