"""`lightning-seg-report`: one HTML page that compares runs."""

import argparse
import sys
from pathlib import Path

from lightning_seg.launch.errors import one_line
from lightning_seg.text import number_of, say


def main() -> None:
    """The console command."""
    parser = argparse.ArgumentParser(
        prog="lightning-seg-report", description="Writes one HTML page that compares runs and opens without a network."
    )
    parser.add_argument(
        "folders", nargs="+", type=Path, metavar="FOLDER", help="a run, or a folder that holds runs at any depth"
    )
    parser.add_argument("--output", type=Path, default=Path("report.html"), help="the page (default: %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace a page that is there")
    arguments = parser.parse_args()
    try:
        report(arguments.folders, arguments.output.expanduser(), overwrite=arguments.overwrite)
    except (OSError, ValueError) as error:
        say(f"{parser.prog}: {one_line(error) or error}", error=True)
        sys.exit(1)


def report(folders: list[Path], output: Path, *, overwrite: bool) -> None:
    """Writes the page of all runs in some folders.

    Raises:
        OSError: a folder does not exist or holds no run, or `output` exists and `overwrite` is false.
        ValueError: all runs are damaged.
    """
    if output.is_dir():
        raise IsADirectoryError(f"{output} is a folder: give the name of a page, --output {output / 'report.html'}.")
    if output.exists() and not overwrite:
        raise FileExistsError(f"{output} exists: --overwrite replaces it, --output ANOTHER writes another.")
    from lightning_seg.report import read_runs, write_report  # takes seconds, which `--help` need not wait for

    runs, jobs = read_runs(folders)
    write_report(output, runs, jobs, overwrite=overwrite)
    finished = sum(run.status == "finished" for run in runs)
    damaged = [job for job in jobs if job.status == "damaged"]
    for job in damaged:
        say(f"left out: {job.error}", error=True)
    left = len(jobs) - len(damaged)
    left_none = f", and {number_of(left, 'job')} that left no run" if left else ""
    size = f"{output.stat().st_size / 1e6:.1f} MB"
    say(f"{output}: {number_of(len(runs), 'run')}, {finished} of them finished{left_none}, {size}")
