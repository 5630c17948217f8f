"""One HTML page that compares runs: scores over seeds, differences, curves, resource usage, confusions, images.

.. include:: README.md
"""

from lightning_seg.report.page import write_report
from lightning_seg.report.runs import Job, Run, read_runs

__all__ = ["Job", "Run", "read_runs", "write_report"]
