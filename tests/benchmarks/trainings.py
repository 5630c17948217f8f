"""What the studies share: their command line, and many commands of this package at a time."""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from multiprocessing import parent_process
from pathlib import Path

from tests.forkserver import forkserver

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Command:
    """`lightning-seg-NAME ARGUMENTS`, as a user would call it."""

    name: str
    arguments: Sequence[str]


def study_parser(name: str, description: str, *, seeds: Sequence[int], epochs: int) -> argparse.ArgumentParser:
    """The part of a command line that all studies have.

    Args:
        name: of the study's module.
        description: shown by --help as it is.
        seeds: the default.
        epochs: the default.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m tests.benchmarks.{name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=list(seeds))
    parser.add_argument("--epochs", type=int, default=epochs)
    parser.add_argument("--output", type=Path, default=ROOT / "runs" / name, metavar="FOLDER")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="trainings at a time, which share the cores")
    parser.add_argument("--summarize", action="store_true", help="train nothing")
    parser.add_argument("overrides", nargs="*", help="of lightning-seg-train, for every training")
    return parser


def run_all(steps: Iterable[Sequence[Command]], jobs: int, log: Path) -> None:
    """Runs steps side by side, the commands of each one after the other; they share the cores, and end with the caller.

    Args:
        steps: what is to be done; a step without commands is none.
        jobs: how many at a time.
        log: what they print is appended to it.

    Raises:
        SystemExit: a command failed. Those that have begun are finished first, and no other is begun.
    """
    left = [tuple(commands) for commands in steps if commands]
    if not left:
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    server = forkserver(OMP_NUM_THREADS=str(max(1, len(os.sched_getaffinity(0)) // jobs)))
    with ProcessPoolExecutor(jobs, mp_context=server, max_tasks_per_child=1) as pool:
        running = {pool.submit(_run, commands, log): commands for commands in left}
        for number, future in enumerate(as_completed(running), start=1):
            failed = future.result()
            if failed is not None:
                pool.shutdown(cancel_futures=True)
                sys.exit(f"lightning-seg-{failed.name} {' '.join(failed.arguments)} failed: {log} says why.")
            print(f"{number} of {len(left)}", flush=True)


def _run(commands: Sequence[Command], log: Path) -> Command | None:
    """The command that failed."""
    threading.Thread(target=_end_with_study, daemon=True).start()
    with log.open("a", buffering=1) as file, redirect_stdout(file), redirect_stderr(file):
        for command in commands:
            sys.argv = [f"lightning-seg-{command.name}", *command.arguments]
            try:
                import_module(f"lightning_seg.commands.{command.name}").main()
            except SystemExit as end:
                if end.code:
                    return command
    return None


def _end_with_study() -> None:
    study = parent_process()
    assert study is not None
    study.join()
    os.kill(os.getpid(), signal.SIGKILL)
