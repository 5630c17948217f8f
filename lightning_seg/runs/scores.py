"""The table of scores that ends a training or an evaluation."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from lightning_seg.csv_files import write_csv
from lightning_seg.reading import read_json
from lightning_seg.text import number_of, print_table, printable, say

COUNTS = ("images", "pixels")  # what was scored
# Shares, which are printed in percent; whatever else a module logs is printed as it is.
_TITLES = {"iou": "IoU, %", "dice": "Dice, %", "accuracy": "accuracy, %"}


def overall_names(scores: Mapping[str, float], stage: str) -> list[str]:
    """What was logged of all classes together, without the stage: `iou`, `dice`, `accuracy`, ..., `loss` last.

    Args:
        scores: by logged name, `<stage>/<name>` and `<stage>/<name>/<class>`.
        stage: `val` or `test`.
    """
    names = [name.removeprefix(f"{stage}/") for name in scores if name.startswith(f"{stage}/")]
    return sorted((name for name in names if "/" not in name), key=lambda name: name == "loss")


def print_scores(
    scores: Mapping[str, float],
    stage: str,
    class_names: Sequence[str],
    *,
    split: str | None = None,
    counts: Sequence[int] | None = None,
) -> None:
    """Prints the scores of each class and their means, and what else was logged of the stage.

    What was not logged, or is not defined since a class does not occur, has a dash.

    Args:
        scores: by logged name: `<stage>/iou`, `<stage>/iou/<class>` and so on.
        stage: `val` or `test`.
        class_names: rows of the table.
        split: what was scored, for the title. Default: the stage.
        counts: how many images and valid pixels were.
    """
    kinds = class_kinds(scores, stage, class_names)
    if kinds:
        table = Table(title=f"{split or stage} scores")
        table.add_column("class")
        for kind in kinds:
            table.add_column(_TITLES.get(kind, score_title(kind)), justify="right")
        for name, *values in score_rows(scores, stage, class_names):
            if name == "mean":
                table.add_section()
            table.add_row(printable(name), *(_text(kind, value) for kind, value in zip(kinds, values, strict=True)))
        print_table(table)
    others = [name for name in overall_names(scores, stage) if name not in kinds]
    texts = [f"{printable(name)} {score_text(name, scores[f'{stage}/{name}'])}" for name in others]
    if counts is not None:
        images, pixels = counts
        texts.append(f"of {number_of(images, 'image')} and {number_of(pixels, 'pixel')}")
    say(", ".join(texts) or f"no scores of {split or stage} were logged")


def scored_counts(module: Any) -> tuple[int, int] | None:
    """How many images and valid pixels a module's last evaluation has scored; None if it does not count them."""
    counts = getattr(getattr(module, "evaluation", None), "counts", None)
    return counts if counts and counts[0] else None


def write_scores(
    path: Path,
    scores: Mapping[str, float],
    stage: str,
    class_names: Sequence[str],
    counts: Sequence[int] | None = None,
) -> None:
    """Writes the table as CSV with the columns class, iou, dice, or whatever was logged, at full precision.

    Where it is known how many images and valid pixels were scored, the columns `images` and `pixels` say so, in the row
    of the mean.
    """
    *rows, mean = score_rows(scores, stage, class_names)
    columns: tuple[str, ...] = ("class", *_columns(scores, stage, class_names))
    if counts is None:
        write_csv(path, [columns, *rows, mean])
    else:
        write_csv(path, [(*columns, *COUNTS), *((*row, None, None) for row in rows), (*mean, *counts)])


def class_kinds(scores: Mapping[str, float], stage: str, class_names: Sequence[str]) -> list[str]:
    """The scores that were logged of single classes, without the stage, in the order of the log."""
    names = [name.removeprefix(f"{stage}/") for name in scores if name.startswith(f"{stage}/")]
    ends = tuple(f"/{name}" for name in class_names)
    found = {name.partition("/")[0]: None for name in names if name.endswith(ends)}
    return list(found)


def score_rows(
    scores: Mapping[str, float], stage: str, class_names: Sequence[str]
) -> list[tuple[str, *tuple[float, ...]]]:
    """The name and scores of each class, and last of all together as `mean`; NaN where there is none."""
    columns = _columns(scores, stage, class_names)
    names = class_names if class_kinds(scores, stage, class_names) else []
    rows: list[tuple[str, *tuple[float, ...]]]
    rows = [(name, *(scores.get(f"{stage}/{kind}/{name}", math.nan) for kind in columns)) for name in names]
    return [*rows, ("mean", *(scores.get(f"{stage}/{kind}", math.nan) for kind in columns))]


def _columns(scores: Mapping[str, float], stage: str, class_names: Sequence[str]) -> list[str]:
    return class_kinds(scores, stage, class_names) or overall_names(scores, stage)


def score_title(name: str) -> str:
    """What a column of such scores is called: `val/iou, %`."""
    return f"{printable(name)}{', %' if is_share(name) else ''}"


def is_share(name: str) -> bool:
    """Whether a logged score, `val/iou` or `test/dice/car`, is a share, which people read in percent."""
    stage, _, rest = name.partition("/")
    first, *others = (rest or stage).split("/")[0].split("_")
    return first in _TITLES and "loss" not in others


def score_text(name: str, score: float) -> str:
    """A score as it is printed by itself: `61.23 %`, or `0.1234` of what is not a share."""
    return f"{_text(name, score)}{' %' if is_share(name) and not math.isnan(score) else ''}"


def _text(name: str, score: float) -> str:
    if math.isnan(score):
        return "–"
    return f"{100 * score:.2f}" if is_share(name) else f"{score:.4f}"


def read_summary(path: Path) -> dict[str, Any]:
    """The summary of a test image by image: numbers, and `intervals`, with `low` and `high` of each score.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not what an evaluation writes.
    """
    content = read_json(path)
    intervals = content.get("intervals") if isinstance(content, dict) else None
    parts = [one for one in intervals.values() if isinstance(one, dict)] if isinstance(intervals, dict) else []
    numbers = [part.get(key) for part in parts for key in ("value", "low", "high")]
    others = [value for name, value in content.items() if name != "intervals"] if parts else []
    if len(parts) != len(intervals or [None]) or not all(map(is_plain_number, [*numbers, *others])):
        raise ValueError(
            f"{path} is not what a run writes; expected numbers, and `intervals` of them: remove it, or the run."
        )
    return dict(content)


def is_plain_number(value: Any) -> bool:
    """Whether a value of a file is a number that can be shown, or None."""
    return value is None or (type(value) in (int, float) and abs(value) < 2**63)
