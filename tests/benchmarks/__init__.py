"""Measurements, run by hand: `python -m tests.benchmarks.NAME` with `losses`, `module` or `few_labels`."""
