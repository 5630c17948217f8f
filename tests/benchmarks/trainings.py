"""Runs many commands of this package, each in a process of its own, several at a time."""

import os
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path


@dataclass(frozen=True)
class Command:
    """`lightning-seg-NAME ARGUMENTS`, as a user would call it."""

    name: str
    arguments: Sequence[str]


def run_all(steps: Iterable[Sequence[Command]], jobs: int, log: Path) -> None:
    """Runs steps side by side, the commands of each one after the other; they share the cores.

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
    os.environ["OMP_NUM_THREADS"] = str(max(1, len(os.sched_getaffinity(0)) // jobs))
    # What takes seconds to import is imported once, in the process that all others are copies of.
    context = get_context("forkserver")
    context.set_forkserver_preload(["lightning_seg.commands.train", "lightning_seg.commands.evaluate"])
    with ProcessPoolExecutor(jobs, mp_context=context, max_tasks_per_child=1) as pool:
        running = {pool.submit(_run, commands, log): commands for commands in left}
        for number, future in enumerate(as_completed(running), start=1):
            failed = future.result()
            if failed is not None:
                pool.shutdown(cancel_futures=True)
                sys.exit(f"lightning-seg-{failed.name} {' '.join(failed.arguments)} failed: {log} says why.")
            print(f"{number} of {len(left)}", flush=True)


def _run(commands: Sequence[Command], log: Path) -> Command | None:
    """The command that failed."""
    with log.open("a", buffering=1) as file, redirect_stdout(file), redirect_stderr(file):
        for command in commands:
            sys.argv = [f"lightning-seg-{command.name}", *command.arguments]
            try:
                import_module(f"lightning_seg.commands.{command.name}").main()
            except SystemExit as end:
                if end.code:
                    return command
    return None
