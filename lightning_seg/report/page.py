"""The page: its frame, its style, its script and the data, in one file."""

import json
from collections.abc import Sequence
from datetime import datetime
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from lightning_seg.files import atomic_write
from lightning_seg.report.contents import report_contents
from lightning_seg.report.runs import Job, Run

_SCRIPTS = ("dom.js", "tables.js", "charts.js", "page.js")


def write_report(path: str | Path, runs: Sequence[Run], jobs: Sequence[Job] = (), *, overwrite: bool = False) -> None:
    """Writes one HTML file that compares runs. It needs nothing else: no network, no other file.

    Args:
        path: the file; folders are made.
        runs: in any order.
        jobs: those of sweeps that have left no run.
        overwrite: replace what is there.

    Raises:
        FileExistsError: `path` exists and `overwrite` is false.
        ValueError: there are no runs.
    """
    page = report_page(runs, jobs)
    with atomic_write(path, overwrite=overwrite) as temporary:
        temporary.write_text(page, encoding="utf-8")


def report_page(runs: Sequence[Run], jobs: Sequence[Job] = ()) -> str:
    """The page as text.

    Raises:
        ValueError: there are no runs.
    """
    source = files("lightning_seg.report")
    title = f"{len(runs)} {'run' if len(runs) == 1 else 'runs'}"
    return Template((source / "page.html").read_text(encoding="utf-8")).substitute(
        title=escape(f"{title} compared" if len(runs) > 1 else title),
        made=escape(f"{datetime.now().astimezone():%Y-%m-%d %H:%M %Z}"),
        style=(source / "page.css").read_text(encoding="utf-8"),
        script="\n".join((source / name).read_text(encoding="utf-8") for name in _SCRIPTS),
        # Within a script element "<" alone could end it or hide what follows; in JSON it only occurs in strings.
        data=json.dumps(report_contents(runs, jobs), allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"),
    )
