"""Measurements, run by hand: `python -m tests.benchmarks.losses` and `python -m tests.benchmarks.module`."""
