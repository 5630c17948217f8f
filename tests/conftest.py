"""Before torch is imported: what tests compute is small, and processes that share the cores take a thread each."""

import gc
import os
import sys
from importlib import import_module

import pytest

import tests.quick_configuration  # noqa: F401

# Copies of a process whose library of threads has started others wait for these forever.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Half a million objects are imported; looking through them for garbage takes a twentieth of the time of tests.
gc.disable()

pytest_plugins = ["tests.console"]

# What takes longest is begun first, so that no worker waits for another at the end.
FIRST = [
    *("tests/export/test_families", "tests/cluster", "tests/notebooks", "tests/runs/test_resume", "tests/sweeps"),
    *("tests/losses/test_all_losses", "tests/losses/engine", "tests/commands", "tests/export", "tests/launch"),
    *("tests/callbacks/test_last_checkpoint", "tests/report", "tests/test_wheel", "tests/benchmarks"),
    *("tests/test_documentation", "tests/test_imports"),
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Orders the files of tests, and computes a gradient.

    The first gradient of a process counts its devices, to which `torch.export` adds a GPU that is not there. Threads
    are started for it, with which no copy of the process computes gradients; and tests copy theirs.
    """
    import torch

    torch.ones(1, requires_grad=True).sum().backward()

    def place(item: pytest.Item) -> int:
        return next((index for index, name in enumerate(FIRST) if item.nodeid.startswith(name)), len(FIRST))

    items.sort(key=place)
    if "lightning.pytorch" in sys.modules:
        import_module("tests.quick_training")
    gc.freeze()
    gc.set_threshold(5_000, 10, 10)
    gc.enable()
