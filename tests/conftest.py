"""Before torch is imported: processes of tests that share the cores take a thread each."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

pytest_plugins = ["tests.console"]
