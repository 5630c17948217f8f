"""Compares every loss, forward and backward, with cross-entropy and with the same loss elsewhere.

    python -m tests.benchmarks.losses                                     # the default selection, about half an hour
    python -m tests.benchmarks.losses --losses dice focal --shapes 2x21x512x512 --rounds 9 --buffers fresh
    python -m tests.benchmarks.losses --device cuda --dtype float32 bfloat16 --clock device wall
    python -m tests.benchmarks.losses --summarize runs/benchmarks/losses.csv

Each loss is measured in a process of its own, in rounds in which cross-entropy, the floor of three passes over the
logits, ours and the peers take turns in random order. Rows are written to the CSV file as soon as a case is
measured, below a line about the machine; --resume continues where a run stopped. At the end stands which floor is not
met.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import groupby, product
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.benchmarks.cases import CUDA_SHAPES, LOSSES, SHAPES, Case, Shape, cases
from tests.benchmarks.floors import print_floors
from tests.benchmarks.table import Row, Setting, append_rows, print_tables, read_rows

ROOT = Path(__file__).resolve().parents[2]

# Freed memory stays with the process and no block is mapped afresh: after a warm-up no call waits for new pages.
REUSED_BUFFERS = {"MALLOC_TRIM_THRESHOLD_": str(1 << 34), "MALLOC_MMAP_THRESHOLD_": str(1 << 34)}


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.losses",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--losses", nargs="+", choices=list(LOSSES), default=list(LOSSES), metavar="NAME")
    parser.add_argument("--shapes", nargs="+", type=_shape, metavar="NxCxHxW", help="one channel is the binary task")
    parser.add_argument("--void", nargs="+", choices=("no", "yes"), default=["no", "yes"], help="without, with void")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], help="of the CPU")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="on one entry of a case, then it leaves the rounds")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--dtype", nargs="+", choices=("float32", "bfloat16"), default=["float32"], help="of the logits"
    )
    parser.add_argument(
        "--buffers",
        nargs="+",
        choices=("fresh", "reused"),
        default=["fresh", "reused"],
        help="whether the C library maps large tensors afresh, as it does by default, or keeps what was freed",
    )
    parser.add_argument(
        "--clock",
        nargs="+",
        choices=("wall", "cpu", "device"),
        default=["wall"],
        help="cpu: the process's CPU time, for one thread on a machine that others use; device: the time of a GPU, "
        "without what Python takes to start its work",
    )
    parser.add_argument("--all", action="store_true", help="every loss on every shape, with void, at all threads")
    parser.add_argument("--output", type=Path, default=ROOT / "runs" / "benchmarks" / "losses.csv", metavar="FILE.csv")
    parser.add_argument("--resume", action="store_true", help="leave out the cases that are in the file")
    parser.add_argument("--summarize", type=Path, metavar="FILE.csv", help="only print what this file says")
    return parser.parse_args(arguments)


def _shape(text: str) -> Shape:
    return tuple(int(size) for size in text.split("x"))


def jobs(selected: Iterable[Case]) -> Iterator[tuple[str, list[Case]]]:
    """The cases of one process, whose imports take longer than many a case: those of a loss."""
    order = list(LOSSES)
    for loss, group in groupby(sorted(selected, key=lambda case: order.index(case.loss)), lambda case: case.loss):
        yield loss, list(group)


def place(setting: Setting, case: Case) -> tuple[str, str, str, str, str, str, bool, int]:
    """What `Row.case` is of the rows of a case."""
    shape = "x".join(map(str, case.shape))
    return setting.device, setting.dtype, setting.buffers, setting.clock, case.loss, shape, case.void, case.threads


def run(job: dict[str, Any], environment: dict[str, str]) -> Iterator[dict[str, Any]]:
    """What a worker says, line by line, as it says it."""
    with tempfile.TemporaryFile("w+") as complaints:
        command = [sys.executable, "-m", "tests.benchmarks.worker", json.dumps(job)]
        with subprocess.Popen(
            command, cwd=ROOT, env=os.environ | environment, stdout=subprocess.PIPE, stderr=complaints, text=True
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("{"):
                    yield json.loads(line)
        if process.returncode:
            complaints.seek(0)
            last = (complaints.read().strip().splitlines() or ["no message"])[-1]
            yield {"skipped": f"{job['loss']}: the process ended with {process.returncode}: {last}"}


def main() -> None:
    """Measures, writes and prints."""
    options = parse()
    # A pipe or a file has no width of its own.
    console = Console() if sys.stdout.isatty() else Console(width=160)
    if options.summarize is not None:
        rows = read_rows(options.summarize)
        print_tables(rows, console)
        print_floors(rows, console)
        return
    cuda = options.device == "cuda"
    if "cpu" in options.clock and (cuda or options.threads != [1]):
        raise SystemExit("--clock=cpu measures one thread of the CPU: add --device cpu --threads 1.")
    if "device" in options.clock and not cuda:
        raise SystemExit("--clock=device measures a GPU: add --device cuda.")
    output = options.output
    # One process for all clocks, so that data are made once.
    settings = [
        [Setting(options.device, *kind, clock) for clock in options.clock]
        for kind in product(options.dtype, ["fresh"] if cuda else options.buffers)
    ]
    if output.exists() and not options.resume:
        raise SystemExit(f"{output} exists: continue it with --resume, or choose another --output.")
    known = {row.case for row in read_rows(output)} if output.exists() else set()
    shapes = options.shapes or [*SHAPES, *(CUDA_SHAPES if cuda else ())]
    # What is chosen by name is wanted at every shape chosen.
    everything = options.all or cuda or options.shapes is not None
    threads = [max(options.threads)] if cuda else options.threads
    chosen = list(cases(options.losses, shapes, [void == "yes" for void in options.void], threads, everything))
    all_jobs = [
        (clocks, *job)
        for clocks in settings
        for job in jobs(case for case in chosen if any(place(setting, case) not in known for setting in clocks))
    ]
    start = time.monotonic()
    for number, (clocks, loss, group) in enumerate(all_jobs, 1):
        environment = {"OMP_NUM_THREADS": str(max(threads))} | (REUSED_BUFFERS if clocks[0].buffers == "reused" else {})
        begun = time.monotonic()
        job = {
            "settings": [asdict(setting) for setting in clocks],
            "loss": loss,
            "places": [{"shape": case.shape, "void": case.void, "threads": case.threads} for case in group],
            "rounds": options.rounds,
            "seconds": options.seconds,
        }
        for said in run(job, environment):
            if "rows" in said:
                append_rows(output, [Row(**row) for row in said["rows"]])
            else:
                console.print(f"skipped {said['skipped']}", style="yellow", markup=False)
        now = time.monotonic()
        console.print(
            f"{number}/{len(all_jobs)}  {loss}, {clocks[0].buffers} buffers: {now - begun:.1f} s, "
            f"{(now - start) / 60:.1f} min in all",
            style="dim",
            highlight=False,
        )
    if output.exists():
        rows = read_rows(output)
        print_tables(rows, console)
        print_floors(rows, console)
        console.print(f"written to {output}", markup=False)


if __name__ == "__main__":
    main()
