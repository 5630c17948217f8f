"""The rows that are measured: as CSV, and as tables on the terminal."""

import csv
import math
import os
import platform
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from datetime import date
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

BASELINE = "torch"
FLOOR = "three passes"
OURS = "ours"

NOT_SAME = {"differs": "≠", "another loss": "≠"}


@dataclass(frozen=True)
class Setting:
    """How was measured.

    Attributes:
        device: cpu or cuda.
        dtype: of the logits.
        buffers: how the C library's allocator was set (CPU).
        clock: wall, with all that Python does; cpu, the process's time; or device, the GPU's for a recorded graph.
    """

    device: str
    dtype: str
    buffers: str
    clock: str


@dataclass(frozen=True)
class Row:
    """One entry of a case.

    Attributes:
        rounds: in which it took its turn; 0 if it was timed in its first call only.
        seconds: median of forward and backward.
        ratio: median ratio to cross-entropy in the same round; least and most likewise.
        memory: peak memory beyond the logits and the target, over the size of the logits, gradient included.
        fresh: pages touched for the first time in a call, over the size of the logits, median.
        value: of a peer: whether value and gradient are ours ("same", "differs", "another loss").
        note: what the reader should know, or why there are no figures.
    """

    device: str
    dtype: str
    buffers: str
    clock: str
    shape: str
    void: bool
    threads: int
    loss: str
    entry: str
    rounds: int
    seconds: float | None
    ratio: float | None
    least: float | None
    most: float | None
    memory: float | None
    fresh: float | None
    value: str
    note: str

    @property
    def case(self) -> tuple[str, str, str, str, str, str, bool, int]:
        """What rows that took turns have in common."""
        return (self.device, self.dtype, self.buffers, self.clock, self.loss, self.shape, self.void, self.threads)


def machine() -> str:
    """What was measured on and when: processor, cores, and how many other processes wanted them."""
    names = [line.split(":", 1)[1].strip() for line in _cpu_lines() if line.startswith("model name")]
    processor = torch.cuda.get_device_name() if torch.cuda.is_available() else next(iter(names), platform.machine())
    return (
        f"{processor}, {len(os.sched_getaffinity(0))} cores, {torch.backends.cpu.get_cpu_capability()}, "
        f"torch {torch.__version__}, {date.today()}; load of the machine at the start {os.getloadavg()[0]:.1f}"
    )


def _cpu_lines() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def append_rows(path: Path, rows: Iterable[Row]) -> None:
    """Writes the rows of a case at once, so that none is there by half.

    Before the first stand the machine, in a line that begins with #, and the header.
    """
    new = not path.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, [column.name for column in fields(Row)])
        if new:
            file.write(f"# {machine()}\n")
            writer.writeheader()
        writer.writerows({name: _written(value) for name, value in asdict(row).items()} for row in rows)


def read_rows(path: Path) -> list[Row]:
    """The rows of a file."""
    with path.open(newline="") as file:
        return [_read(record) for record in csv.DictReader(line for line in file if not line.startswith("#"))]


def print_tables(rows: Iterable[Row], console: Console) -> None:
    """One table for each device, dtype, allocator, shape and void; a column of ratios for each number of threads."""

    rows = list(rows)
    for (device, clock, buffers, threads), speed in copy_bandwidth(rows).items():
        where = f"{buffers} buffers, {threads} threads" if device == "cpu" else device
        console.print(f"three passes, {where}, {clock} time: {speed / 1e9:.1f} GB/s", highlight=False)
    console.print()

    def place(row: Row) -> tuple[str, str, str, str, str, bool]:
        return row.device, row.dtype, row.buffers, row.clock, row.shape, row.void

    for (device, dtype, buffers, clock, shape, void), group in groupby(sorted(rows, key=place), place):
        here = list(group)
        where = "with void pixels" if void else "without void pixels"
        allocator = f", buffers {buffers}" if device == "cpu" else ""
        _print_table(f"{shape}, {where} ({device}, {dtype}{allocator}, {clock} time)", here, console)


def _print_table(title: str, rows: list[Row], console: Console) -> None:
    threads = sorted({row.threads for row in rows})
    table = Table(title=title, title_justify="left", header_style="bold")
    table.add_column("loss")
    table.add_column("by")
    for number in threads:
        table.add_column(f"{number} thread{'s' * (number > 1)}: ms", justify="right")
        table.add_column("ratio to cross-entropy", justify="right")
        table.add_column("× the fastest peer", justify="right")
    table.add_column("memory", justify="right")
    table.add_column("marks")
    notes: list[str] = []
    for loss, of_loss in _in_order(rows, "loss"):
        for entry, of_entry in _in_order(of_loss, "entry"):
            by_threads = {row.threads: row for row in of_entry}
            figures = [
                text
                for number in threads
                for text in (*_figures(by_threads.get(number)), _over_fastest(by_threads.get(number), of_loss))
            ]
            # The most of all numbers of threads.
            memory = max((row.memory for row in of_entry if row.memory is not None), default=None)
            marks = " ".join(dict.fromkeys(mark for row in of_entry for mark in _marks(row, notes)))
            style = "bold" if entry.startswith(OURS) else "dim" if entry in (BASELINE, FLOOR) else ""
            table.add_row(loss, entry, *figures, _number(memory), marks, style=style)
        table.add_section()
    console.print(table)
    console.print(
        "ratio: median (least to most) of the rounds; once: timed in its first call only. memory: peak beyond logits "
        "and target, over the logits, gradient included. ≠: not our value and gradient.",
        style="dim",
    )
    for number, note in enumerate(notes, 1):
        console.print(f"({number}) {note}", style="dim", markup=False)
    console.print()


def _in_order(rows: list[Row], key: str) -> list[tuple[str, list[Row]]]:
    """Groups by a column, in the order of their first rows."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(getattr(row, key), []).append(row)
    return list(groups.items())


def _figures(row: Row | None) -> tuple[str, str]:
    if row is None or row.seconds is None or row.ratio is None:
        return "", "-"
    spread = "once" if row.rounds == 0 else f"{row.least:.2f} to {row.most:.2f}"
    return f"{1000 * row.seconds:.1f}", f"{row.ratio:.2f} ({spread})"


def _over_fastest(row: Row | None, rows: list[Row]) -> str:
    """Our time over that of the fastest peer that gives our value and gradient."""
    if row is None or not row.entry.startswith(OURS) or not row.ratio:
        return ""
    peers = [
        other.ratio
        for other in rows
        if other.threads == row.threads and other.ratio and other.value == "same" and not other.entry.startswith(OURS)
    ]
    return f"{row.ratio / min(peers):.2f}" if peers else ""


def copy_bandwidth(rows: Iterable[Row]) -> dict[tuple[str, str, str, int], float]:
    """Bytes a second of the three passes, of which two read and one writes; median of all.

    By device, clock, buffers and threads.
    """
    found: dict[tuple[str, str, str, int], list[float]] = {}
    for row in rows:
        if row.entry == FLOOR and row.seconds:
            size = math.prod(map(int, row.shape.split("x"))) * (4 if row.dtype == "float32" else 2)
            found.setdefault((row.device, row.clock, row.buffers, row.threads), []).append(3 * size / row.seconds)
    return {key: statistics.median(values) for key, values in sorted(found.items())}


def _marks(row: Row, notes: list[str]) -> list[str]:
    marks = [NOT_SAME[row.value]] if row.value in NOT_SAME else []
    if row.note:
        note = f"{row.entry}: {row.note}"
        if note not in notes:
            notes.append(note)
        marks.append(f"({notes.index(note) + 1})")
    return marks


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _written(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else value


def _read(record: dict[str, str]) -> Row:
    values: dict[str, Any] = {}
    for column in fields(Row):
        text = record[column.name]
        if column.name in ("threads", "rounds"):
            values[column.name] = int(text)
        elif column.name == "void":
            values[column.name] = text == "True"
        elif column.type in (str,):
            values[column.name] = text
        else:
            values[column.name] = float(text) if text else None
    return Row(**values)
