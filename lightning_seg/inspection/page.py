"""The page of an inspection: one HTML file without scripts, which needs nothing else."""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from html import escape
from importlib.resources import files
from string import Template
from typing import NamedTuple

from lightning_seg.inspection.plan import Choice
from lightning_seg.inspection.summary import SplitSummary, ValueSummary
from lightning_seg.text import number_of, printable

_SIZES = 12  # rows of the table of sizes
_SEVERAL = (
    "A pixel may have several labels or none: a class's share is of the pixels that are not void in its channel, the "
    "shares do not add up to 100 %, objects of different classes may overlap, and void is counted over all channels."
)
_FIRST = (
    "Here and below, of several labels of a pixel the first in the order of the classes is drawn; it hides the others."
)


class Figure(NamedTuple):
    """Pictures side by side, as texts for a page, and what is written below them."""

    pictures: Sequence[str]
    caption: str


class Inspected(NamedTuple):
    """All that the page shows.

    `title` and `summary`: of the data. `summaries`: by split. `problems`: one sentence each. `duplicates`: figures of
    some of them, and `duplicate_count` of how many. `samples`: figures by split, `augmented`: likewise of the training
    images. `worst`: those that a checkpoint gets most wrong. `plan`: choices, `plan_text`: the file. `colors`: of each
    mask value. `multilabel`: whether a pixel may have several labels.
    """

    title: str
    summary: str
    summaries: Mapping[str, SplitSummary]
    problems: Sequence[str]
    duplicates: Sequence[Figure]
    duplicate_count: int
    samples: Mapping[str, Sequence[Figure]]
    augmented: Sequence[Figure]
    worst: Sequence[Figure]
    plan: Sequence[Choice]
    plan_text: str
    colors: Sequence[Sequence[int]]
    multilabel: bool = False


def inspection_page(found: Inspected) -> str:
    """The page as text."""
    sections = {
        "Problems": _list(found.problems) if found.problems else "<p>None was found.</p>",
        "Plan": _plan(found) if found.plan else "",
        "Classes": (_note(_SEVERAL) if found.multilabel else "")
        + "".join(_classes(split, one, found.colors) for split, one in found.summaries.items()),
        "Images": _images(found.summaries),
        "Duplicates": _duplicates(found),
        "Samples": (_note(_FIRST) if found.multilabel else "")
        + "".join(f"<h3>{_text(split)}</h3>{_gallery(figures)}" for split, figures in found.samples.items()),
        "Augmented": _note("Each training image as it is, and twice as it is trained on.") + _gallery(found.augmented)
        if found.augmented
        else "",
        "Worst predictions": _note("Image, mask and prediction; the mean IoU of the image.") + _gallery(found.worst)
        if found.worst
        else "",
    }
    shown = {title: content for title, content in sections.items() if content}
    return Template((files("lightning_seg.inspection") / "page.html").read_text(encoding="utf-8")).substitute(
        title=_text(found.title),
        summary=_text(found.summary),
        made=_text(f"{datetime.now().astimezone():%Y-%m-%d %H:%M %Z}"),
        style=(files("lightning_seg.report") / "page.css").read_text(encoding="utf-8"),
        links="".join(f'<a href="#{_anchor(title)}">{title}</a>' for title in shown),
        sections="\n".join(
            f'<section id="{_anchor(title)}"><h2>{title}</h2>{content}</section>' for title, content in shown.items()
        ),
    )


def shown_number(value: float) -> str:
    """A number of at most four digits, or with a comma at each thousand; a dash for NaN."""
    if math.isnan(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _classes(split: str, summary: SplitSummary, colors: Sequence[Sequence[int]]) -> str:
    largest = max((value.share for value in summary.values), default=0) or 1
    rows = []
    for index, value in enumerate(summary.values):
        color = "#" + "".join(f"{int(part):02x}" for part in colors[index])
        bar = f'<span class="bar" style="width:{120 * value.share / largest:.1f}px"></span>'
        name = f'<span class="swatch" style="background:{color}"></span>{_text(value.name)}'
        rows.append([name, f"{100 * value.share:.3f} {bar}", *_numbers(value)])
    heads = ["class", "share of pixels, %", "pixels", "images", "objects", "area, pixels", "thickness, pixels"]
    caption = (
        f"{split}: {number_of(summary.images, 'image')}, {100 * summary.void_share:.2f} % of the pixels are void. "
        "Objects are connected components; area and thickness are those of the object that the median pixel lies in."
    )
    return _table(caption, heads, rows)


def _numbers(value: ValueSummary) -> list[str]:
    return [shown_number(number) for number in (value.pixels, value.images, value.objects, value.area, value.thickness)]


def _images(summaries: Mapping[str, SplitSummary]) -> str:
    rows = []
    for split, one in summaries.items():
        ratios = [width / height for height, width in one.sizes]
        between = " to ".join(dict.fromkeys(map(shown_number, (min(ratios), max(ratios))))) if ratios else "–"
        rows.append(
            [
                _text(split),
                str(one.images),
                ", ".join(f"{value:.3f}" for value in one.mean) or "–",
                ", ".join(f"{value:.3f}" for value in one.std) or "–",
                between,
                _text(", ".join(f"{kind} ({count})" for kind, count in one.stored.most_common()) or "–"),
            ]
        )
    heads = ["split", "images", "channel means", "channel deviations", "width : height", "stored as"]
    tables = _table("Values are in [0, 1], as the network gets them before normalization.", heads, rows)
    rows = [
        [_text(split), f"{height} × {width}", str(count)]
        for split, one in summaries.items()
        for (height, width), count in one.sizes.most_common(_SIZES)
    ]
    return tables + _table("Sizes, height by width; the commonest.", ["split", "size", "images"], rows)


def _duplicates(found: Inspected) -> str:
    if not found.duplicate_count:
        return "<p>No image occurs twice, nor looks like another.</p>"
    note = (
        f"{found.duplicate_count} pairs of images are equal or look the same by a perceptual hash; those of different "
        "splits come first."
    )
    return _note(note) + _gallery(found.duplicates)


def _plan(found: Inspected) -> str:
    rows = [[_text(choice.key), _text(choice.text), _text(choice.reason)] for choice in found.plan]
    return _table("", ["choice", "value", "reason"], rows, long=True) + f"<pre>{escape(found.plan_text)}</pre>"


def _gallery(figures: Iterable[Figure]) -> str:
    shown = []
    for figure in figures:
        pictures = " ".join(f'<img src="{escape(one)}" alt="">' for one in figure.pictures)
        shown.append(f"<figure>{pictures}<figcaption>{_text(figure.caption)}</figcaption></figure>")
    return f'<div class="gallery">{"".join(shown)}</div>'


def _table(caption: str, heads: Sequence[str], rows: Sequence[Sequence[str]], *, long: bool = False) -> str:
    """A table; the cells of `rows` are markup, and lines of them are broken if they are long."""
    kind = ' class="text"' if long else ""
    head = "".join(f'<th scope="col">{_text(one)}</th>' for one in heads)
    body = "".join("<tr>" + "".join(f"<td{kind}>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        f'<div class="scroll"><table><caption>{_text(caption)}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _list(lines: Iterable[str]) -> str:
    return f'<ul class="problems">{"".join(f"<li>{_text(line)}</li>" for line in lines)}</ul>'


def _note(text: str) -> str:
    return f'<p class="note">{_text(text)}</p>'


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")


def _text(text: object) -> str:
    """Text, which is never markup."""
    return escape(printable(text))
