"""Measures one loss, in a process of its own; the rows of a case go to standard output, a line of JSON."""

import argparse
import json
import random
import statistics
import sys
import time
import types
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from itertools import product
from pathlib import Path

import torch
from torch import Tensor

from tests.benchmarks import measure as benchmark_measure
from tests.benchmarks.cases import Batch, Case, NotLandedError, Shape, make_batch
from tests.benchmarks.measure import (
    Call,
    Run,
    recorded,
    same,
    timed,
    timed_on_device,
    timed_with_memory,
    value_and_gradient,
)
from tests.benchmarks.peers import PEERS, Peer, UnableError, cross_entropy, three_passes
from tests.benchmarks.table import BASELINE, FLOOR, OURS, Row, Setting


@dataclass
class Entry:
    """What takes turns with the others of its case."""

    name: str
    call: Call | None
    replay: Call | None = None
    peer: Peer | None = None
    note: str = ""
    value: str = ""
    memory: float | None = None
    first: Run | None = None
    runs: list[Run] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)

    @property
    def always_runs(self) -> bool:
        return self.name in (BASELINE, FLOOR)

    def turn(self, logits: Tensor) -> Run:
        """Takes its turn."""
        assert self.call is not None
        return timed(self.call, logits) if self.replay is None else timed_on_device(self.replay)


def entries_of(loss: str, batch: Batch) -> Iterator[Entry]:
    """Cross-entropy, the floor, ours, and the peers."""
    yield Entry(BASELINE, cross_entropy(batch))
    yield Entry(FLOOR, three_passes(batch))
    ours = batch.ours(loss)
    yield Entry(OURS, lambda: ours(batch.logits, batch.labels))
    default = getattr(ours, "method", None)
    for method in ("sort", "histogram"):
        if default is not None and method != default:
            other = batch.ours(loss, method=method)
            yield Entry(f"{OURS} ({method})", lambda other=other: other(batch.logits, batch.labels))
    for name, build in PEERS.get(loss, {}).items():
        try:
            peer = build(batch)
            yield Entry(name, peer.step, peer=peer, note=peer.note)
        except UnableError as reason:
            yield Entry(name, None, note=f"cannot: {reason}")
        except ImportError as reason:
            yield Entry(name, None, note=f"not installed: {reason}")


def measure(case: Case, setting: Setting, rounds: int, seconds: float, checked: bool) -> Iterator[Row]:
    """The rows of a case.

    Args:
        case: what is measured.
        setting: on what.
        rounds: how often each takes its turn.
        seconds: of time spent on one entry, after which it leaves the rounds; one that alone takes longer is timed in
            its first call only.
        checked: whether to compare the values of the peers with ours.
    """
    torch.set_num_threads(case.threads)
    batch = _batch(case.shape, case.void, setting.device, getattr(torch, setting.dtype))
    entries = list(entries_of(case.loss, batch))
    for entry in entries:
        _first_call(entry, batch, seconds, checked)
        if setting.clock == "device":
            _record(entry, batch.logits)
    _take_turns([entry for entry in entries if entry.call is not None], batch, rounds, seconds)
    baseline = statistics.median(run.seconds for run in entries[0].runs)
    for entry in entries:
        yield _row(entry, case, setting, baseline)


@lru_cache(maxsize=1)
def _batch(shape: Shape, void: bool, device: str, dtype: torch.dtype) -> Batch:
    return make_batch(shape, void, device, dtype)


def _first_call(entry: Entry, batch: Batch, seconds: float, checked: bool) -> None:
    """Measures the memory, warms up, and looks at the value."""
    if entry.call is None:
        return
    call, logits, losses = entry.call, batch.logits, []

    def keeping_the_loss() -> Tensor:
        losses.append(call())
        return losses[-1]

    try:
        if entry.name.startswith(OURS):
            timed(call, logits)  # which may compile a kernel, once on a machine
        entry.first, entry.memory = timed_with_memory(keeping_the_loss, logits)
        if checked and entry.peer is not None:
            assert logits.grad is not None
            entry.value = _compared(entry.peer, losses[0].detach().double(), logits.grad, batch)
        losses.clear()
        if entry.first.seconds < seconds / 2 or entry.always_runs:
            timed(call, logits)
    except Exception as error:  # a failing peer is a result
        logits.grad = None
        message = (str(error).splitlines() or [""])[0]
        entry.call, entry.note = None, f"fails: {type(error).__name__}: {message[:120]}"


def _record(entry: Entry, logits: Tensor) -> None:
    if entry.call is None:
        return
    try:
        entry.replay = recorded(entry.call, logits)
    except RuntimeError:
        entry.call, entry.note = None, "makes the host wait, so that it has no device time"


def _compared(peer: Peer, loss: Tensor, gradient: Tensor, batch: Batch) -> str:
    if peer.same is None:
        return "another loss"
    ours = value_and_gradient(lambda: peer.same(batch.logits, batch.labels), batch.logits)
    return "same" if same(ours, (loss, gradient)) else "differs"


def _take_turns(entries: list[Entry], batch: Batch, rounds: int, seconds: float) -> None:
    order = random.Random(0)
    for _ in range(rounds):
        turn = {}
        for entry in order.sample(entries, len(entries)):
            assert entry.first is not None
            spent = sum(run.seconds for run in entry.runs)
            if entry.always_runs or spent + entry.first.seconds <= seconds:
                turn[entry.name] = entry.turn(batch.logits)
                entry.runs.append(turn[entry.name])
        for entry in entries:
            if entry.name in turn:
                entry.ratios.append(turn[entry.name].seconds / turn[BASELINE].seconds)


def _row(entry: Entry, case: Case, setting: Setting, baseline: float) -> Row:
    runs, ratios = entry.runs, entry.ratios
    if entry.call is not None and entry.first is not None and not runs:
        runs, ratios = [entry.first], [entry.first.seconds / baseline]
    return Row(
        **asdict(setting),
        **asdict(case) | {"shape": "x".join(map(str, case.shape))},
        entry=entry.name,
        rounds=len(entry.runs),
        seconds=statistics.median(run.seconds for run in runs) if runs else None,
        ratio=statistics.median(ratios) if ratios else None,
        least=min(ratios, default=None),
        most=max(ratios, default=None),
        memory=entry.memory,
        fresh=statistics.median(run.fresh for run in runs) if runs else None,
        value=entry.value,
        note=entry.note,
    )


def import_losses_alone() -> None:
    """Makes `lightning_seg.losses` importable without the package around it: Lightning takes seconds to import."""
    package = types.ModuleType("lightning_seg")
    package.__path__ = [str(Path(__file__).resolve().parents[2] / "lightning_seg")]
    sys.modules["lightning_seg"] = package


def main() -> None:
    """Reads what to do as JSON from its argument."""
    parser = argparse.ArgumentParser()
    parser.add_argument("job")
    job = json.loads(parser.parse_args().job)
    warnings.simplefilter("ignore")
    import_losses_alone()
    values: dict[tuple[Shape, bool, str], str] = {}
    for place, setting in product(job["places"], [Setting(**setting) for setting in job["settings"]]):
        benchmark_measure.clock = time.process_time if setting.clock == "cpu" else time.perf_counter
        case = Case(job["loss"], tuple(place["shape"]), place["void"], place["threads"])
        first = not any((shape, void) == (case.shape, case.void) for shape, void, _ in values)
        try:
            rows = list(measure(case, setting, job["rounds"], job["seconds"], checked=first))
        except (NotLandedError, TypeError, ValueError) as reason:
            print(json.dumps({"skipped": f"{case.loss}: {reason}"}), flush=True)
            continue
        # The values depend neither on the number of threads nor on the clock, and looking takes time.
        valued = [
            asdict(row) | {"value": values.setdefault((case.shape, case.void, row.entry), row.value)} for row in rows
        ]
        print(json.dumps({"rows": valued}), flush=True)


if __name__ == "__main__":
    main()
