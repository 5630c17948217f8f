"""Before torch is imported: what tests compute is small, and processes that share the cores take a thread each."""

import os

# Copies of a process whose library of threads has started others wait for these forever.
os.environ.setdefault("OMP_NUM_THREADS", "1")

pytest_plugins = ["tests.console"]
