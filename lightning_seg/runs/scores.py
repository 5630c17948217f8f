"""The table of scores that ends a training or an evaluation."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from lightning_seg.files import atomic_write


def print_scores(scores: Mapping[str, float], stage: str, class_names: Sequence[str]) -> None:
    """Prints IoU and Dice of each class and their means, in percent; a class that does not occur has a dash.

    Args:
        scores: `<stage>/iou`, `<stage>/iou/<class>` and so on, in [0, 1].
        stage: `val` or `test`.
        class_names: rows of the table.
    """
    table = Table(title=f"{stage} scores, %")
    table.add_column("class")
    table.add_column("IoU", justify="right")
    table.add_column("Dice", justify="right")
    for name, iou, dice in score_rows(scores, stage, class_names):
        if name == "mean":
            table.add_section()
        table.add_row(name, _percent(iou), _percent(dice))
    console = Console()
    console.print(table)
    console.print(
        f"accuracy {_percent(scores[f'{stage}/accuracy'])} %, loss {scores[f'{stage}/loss']:.4f}", highlight=False
    )


def write_scores(path: Path, scores: Mapping[str, float], stage: str, class_names: Sequence[str]) -> None:
    """Writes the table as a CSV with the columns class, iou, dice, as fractions at full precision."""
    with atomic_write(path, overwrite=True) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["class", "iou", "dice"])
        writer.writerows(score_rows(scores, stage, class_names))


def score_rows(scores: Mapping[str, float], stage: str, class_names: Sequence[str]) -> list[tuple[str, float, float]]:
    """Name, IoU and Dice of each class, and last of their mean; NaN where a class does not occur."""
    rows = [(name, scores[f"{stage}/iou/{name}"], scores[f"{stage}/dice/{name}"]) for name in class_names]
    return [*rows, ("mean", scores[f"{stage}/iou"], scores[f"{stage}/dice"])]


def _percent(score: float) -> str:
    return "–" if score != score else f"{100 * score:.2f}"
