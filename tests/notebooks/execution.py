"""Runs the code of a notebook in this process, which need not import what it has imported: `FILE`."""

import sys

import nbformat
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance()
shell.history_manager.enabled = False
sys.argv = sys.argv[:2]
for cell in nbformat.read(sys.argv[1], as_version=4).cells:
    if cell.cell_type == "code":
        shell.run_cell(cell.source).raise_error()
