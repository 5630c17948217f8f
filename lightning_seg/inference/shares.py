"""Files that several processes predict, each its share of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from torch import distributed

Value = TypeVar("Value")

_PATIENCE = timedelta(days=365)  # the first to end waits for the last, however long that takes


@dataclass(frozen=True)
class Share:
    """Which process of how many this one is; the only one by default.

    Attributes:
        rank: its number.
        processes: how many there are.
    """

    rank: int = 0
    processes: int = 1

    def planned(self, plan: Callable[[], Value]) -> Value:
        """What rank zero plans, in each process; nothing is written before all have it. What it raises ends all."""
        if self.processes == 1:
            return plan()
        values = [plan() if self.rank == 0 else None]
        distributed.broadcast_object_list(values)
        return values[0]  # type: ignore[return-value]

    def of(self, jobs: Sequence[Value]) -> Sequence[Value]:
        """The jobs of this process: they are dealt in turn, so that neighbors, often alike, are spread."""
        return jobs[self.rank :: self.processes]

    def gathered(self, value: Value) -> list[Value]:
        """What each process has, in each process."""
        if self.processes == 1:
            return [value]
        values: list[Value] = [value] * self.processes
        distributed.all_gather_object(values, value)
        return values


def join(processes: int) -> Share:
    """The share of this process, which `run_on_processes` started as one of so many."""
    if processes == 1:
        return Share()
    distributed.init_process_group("gloo", timeout=_PATIENCE)
    return Share(distributed.get_rank(), processes)
