"""What the losses must show (issue 15), read from the rows."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from tests.benchmarks.cases import BEYOND_ONE_PASS, CUDA_SHAPES
from tests.benchmarks.table import BASELINE, FLOOR, OURS, Row

# Run-to-run noise of a shared machine: no smaller difference between two losses is trusted.
NOISE = 1.3

ENGINE = ("cross_entropy", "dice", "ce_dice", "focal")
PIXEL_AND_REGION = (
    *("cross_entropy", "focal", "poly", "dice", "ce_dice", "focal_dice", "jaccard", "tversky", "focal_tversky"),
    *("generalized_dice", "log_cosh_dice", "mcc"),
)
# Where Lovász' histograms are small beside the logits.
LARGE = ("2x21x512x512", "1x150x512x512")
LOVASZ = ("lovasz_softmax", "lovasz_hinge", "ce_lovasz")


@dataclass(frozen=True)
class Finding:
    """A figure and where it was measured."""

    figure: float
    where: str


@dataclass(frozen=True)
class Floor:
    """A bound that every finding must keep.

    Attributes:
        name: what is asked.
        bound: the figure to keep; None if there is only a distance to tell.
        at_least: whether figures must be at least the bound (faster than a peer), or at most.
        findings: what was measured.
        timed: whether the figure is a time, with noise.
    """

    name: str
    bound: float | None
    at_least: bool
    findings: tuple[Finding, ...]
    timed: bool = True

    @property
    def worst(self) -> Finding:
        return (min if self.at_least else max)(self.findings, key=lambda finding: finding.figure)

    @property
    def best(self) -> Finding:
        return (max if self.at_least else min)(self.findings, key=lambda finding: finding.figure)

    @property
    def verdict(self) -> str:
        """Met, not met, or not measured."""
        if not self.findings:
            return "not measured"
        if self.bound is None:
            return ""
        shortfall = self.bound / self.worst.figure if self.at_least else self.worst.figure / self.bound
        if shortfall <= 1:
            return "met"
        return "not met, within noise" if self.timed and shortfall < NOISE else "not met"


@dataclass(frozen=True)
class Measured:
    """The rows of one case, by entry."""

    rows: dict[str, Row]

    @property
    def ours(self) -> Row:
        return self.rows[OURS]

    @property
    def where(self) -> str:
        row = self.ours
        void = ", void" if row.void else ""
        place = (
            f"{row.threads} thread{'s' * (row.threads > 1)}, {row.buffers}"
            if row.device == "cpu"
            else f"{row.device}, {row.clock} time"
        )
        return f"{row.loss} {row.shape}{void}, {row.dtype}, {place}"

    def over(self, entry: str) -> Finding | None:
        """Our time over that of an entry; of none that is not the same loss or could not run."""
        row = self.rows.get(entry)
        if row is None or not row.ratio or not self.ours.ratio or row.value in ("differs", "another loss"):
            return None
        return Finding(self.ours.ratio / row.ratio, f"{self.where} ({entry})")

    def faster_than(self, *entries: str) -> Iterator[Finding]:
        """How many times faster ours is than the fastest of these."""
        found = [finding for finding in map(self.over, entries) if finding is not None]
        if found:
            slowest = max(found, key=lambda finding: finding.figure)
            yield Finding(1 / slowest.figure, slowest.where)

    @property
    def peers(self) -> tuple[str, ...]:
        return tuple(name for name in self.rows if name not in (BASELINE, FLOOR) and not name.startswith(OURS))


def floors(rows: Iterable[Row]) -> list[Floor]:
    """The floors of the issue's table, and its goals for a GPU, with what the rows say of each."""
    grouped: dict[object, dict[str, Row]] = {}
    for row in rows:
        grouped.setdefault(row.case, {})[row.entry] = row
    measured = [Measured(group) for group in grouped.values() if OURS in group and group[OURS].ratio is not None]
    on_cpu = [case for case in measured if (case.ours.device, case.ours.dtype) == ("cpu", "float32")]
    on_cuda = [case for case in measured if case.ours.device == "cuda"]
    return [*_on_cpu(on_cpu), *_memory(on_cpu, on_cuda), *_on_cuda(on_cuda), *_goals(measured)]


def _on_cpu(measured: list[Measured]) -> Iterator[Floor]:
    def faster(name: str, bound: float, losses: Sequence[str], *peers: str) -> Floor:
        here = [case for case in measured if case.ours.loss in losses]
        findings = tuple(found for case in here for found in case.faster_than(*(peers or case.peers)))
        return Floor(name, bound, True, findings)

    yield faster("per pixel and region: no slower than any peer", 1.0, PIXEL_AND_REGION)
    yield faster("CE + Dice: 2 × faster than MONAI", 2.0, ("ce_dice",), "monai")
    large = [case for case in measured if case.ours.shape in LARGE]
    others = [case for case in measured if case.ours.shape not in LARGE]
    yield _at_most(f"Lovász-Softmax {' and '.join(LARGE)}: ≤ 2 × CE", 2.0, large, "lovasz_softmax")
    yield _at_most("Lovász-Softmax elsewhere: ≤ 3 × CE", 3.0, others, "lovasz_softmax")
    yield _at_most("Lovász hinge: ≤ 2 × CE", 2.0, measured, "lovasz_hinge")


def _memory(on_cpu: list[Measured], on_cuda: list[Measured]) -> Iterator[Floor]:
    for device, everything in (("CPU", on_cpu), ("CUDA", on_cuda)):
        here = [case for case in everything if case.ours.loss not in BEYOND_ONE_PASS]
        for name, bound, wanted in (("per pixel and region", 1.3, False), ("Lovász", 1.5, True)):
            findings = tuple(
                Finding(case.ours.memory, case.where)
                for case in here
                if case.ours.memory is not None and (case.ours.loss in LOVASZ) == wanted
            )
            yield Floor(f"{device}, memory, {name}: ≤ {bound} × logits", bound, False, findings, timed=False)


def _on_cuda(measured: list[Measured]) -> Iterator[Floor]:
    # What Python takes to start small kernels is hidden behind the network's in a training.
    measured = [case for case in measured if case.ours.clock == "device"]
    named = ["x".join(map(str, shape)) for shape in CUDA_SHAPES]
    here = [case for case in measured if case.ours.shape in named]
    yield _at_most("CUDA, CE + Dice: ≤ 0.9 × CE", 0.9, here, "ce_dice")
    yield _at_most("CUDA, Lovász-Softmax: ≤ 3 × CE", 3.0, here, "lovasz_softmax")
    findings = tuple(found for case in here if case.ours.loss in ENGINE and (found := case.over(FLOOR)) is not None)
    yield Floor("CUDA, engine: ≤ 1.3 × three passes", 1.3, False, findings)


def _goals(measured: list[Measured]) -> Iterator[Floor]:
    for loss in dict.fromkeys(case.ours.loss for case in measured):
        here = [case for case in measured if case.ours.loss == loss]
        ahead = tuple(found for case in here for found in case.faster_than(*case.peers))
        if ahead:
            yield Floor(f"goal, {loss}: ahead of every peer that is the same", 1.0, True, ahead)
        floor = tuple(found for case in here if (found := case.over(FLOOR)) is not None)
        yield Floor(f"goal, {loss}: time over three passes", None, False, floor)


def _at_most(name: str, bound: float, measured: list[Measured], loss: str) -> Floor:
    here = [case for case in measured if case.ours.loss == loss]
    findings = tuple(Finding(case.ours.ratio, case.where) for case in here if case.ours.ratio is not None)
    return Floor(name, bound, False, findings)


def print_floors(rows: Iterable[Row], console: Console) -> None:
    """Each floor: whether it is met, the worst figure and where, and the best; at the end, which are not met."""
    rows = list(rows)
    table = Table(title="Floors and goals", title_justify="left", header_style="bold")
    for heading in ("floor", "verdict", "worst", "best", "worst at"):
        table.add_column(heading)
    styles = {"met": "green", "not met": "red", "not met, within noise": "yellow"}
    for floor in floors(rows):
        if not floor.findings:
            table.add_row(floor.name, floor.verdict, "", "", "", style="dim")
            continue
        worst, best = floor.worst, floor.best
        style = styles.get(floor.verdict, "") if not floor.name.startswith("goal") else ""
        figures = (f"{worst.figure:.2f}", f"{best.figure:.2f}")
        table.add_row(floor.name, f"[{style}]{floor.verdict}[/]" if style else floor.verdict, *figures, worst.where)
    console.print(table)
    console.print(
        f"Within noise: by less than {NOISE} ×. Faster figures are peer over ours, the fastest peer that gives our "
        "value; the rest ours over what is named.",
        style="dim",
    )
    missed = [
        floor for floor in floors(rows) if floor.verdict.startswith("not met") and not floor.name.startswith("goal")
    ]
    for floor in missed:
        console.print(f"{floor.verdict}: {floor.name}: {floor.worst.figure:.2f} at {floor.worst.where}", markup=False)
    if not missed:
        console.print("No floor that was measured is missed.")
