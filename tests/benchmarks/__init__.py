"""Measurements, run by hand: `python -m tests.benchmarks.NAME` with `losses`, `data`, `module` or `few_labels`."""
