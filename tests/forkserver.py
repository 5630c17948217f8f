"""Processes that have the package imported when they begin: copies of one that has imported it.

Importing takes seconds, and is done once for all processes that the caller starts in this way.
"""

import os
import pickle
import signal
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from hydra.core.singleton import Singleton
from omegaconf import OmegaConf

if TYPE_CHECKING:
    from torch.distributed.launcher.api import LaunchConfig

PRELOADED = [
    *(f"lightning_seg.commands.{name}" for name in ("train", "evaluate", "predict", "report")),
    *("lightning_seg.metrics", "segmentation_models_pytorch", "submitit", "tests.warm"),
]
ROOT = Path(__file__).parents[1]
# Not what a test has set, which would be that of all tests after it.
ENVIRONMENT = dict(os.environ)


def forkserver(**environment: str) -> ForkServerContext:
    """Where such processes are made.

    Args:
        environment: of all of them, beside what it was when this module was imported; that of the first call counts.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    path = os.pathsep.join(filter(None, [str(ROOT), ENVIRONMENT.get("PYTHONPATH")]))  # of what is preloaded
    with patch.dict("os.environ", {**ENVIRONMENT, **environment, "PYTHONPATH": path}, clear=True):
        ensure_running()
    return context


def launch_copies(config: "LaunchConfig", entrypoint: Callable[..., Any]) -> Callable[..., Any]:
    """`elastic_launch`, whose processes are copies of this one instead of new ones.

    What new ones are given must be picklable, which is asked of it here too, and their signals are those of a new one,
    which has composed nothing.
    """
    import torch
    from torch.distributed.launcher.api import elastic_launch  # a second, which not every test needs

    def as_new(*arguments: Any) -> Any:
        for number in config.signals_to_handle.split(","):
            signal.signal(signal.Signals[number], signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        Singleton._instances.clear()
        OmegaConf.clear_resolvers()
        # Its pool of threads is made anew by the first that asks for it, and two at once find none.
        torch.set_num_threads(torch.get_num_threads())
        return entrypoint(*arguments)

    def launch(*arguments: Any) -> Any:
        assert pickle.dumps((entrypoint, arguments))
        if any(isinstance(argument, dict) and "data" in argument for argument in arguments):
            import_module("lightning_seg.data.warp").begin_kernels()
        return elastic_launch(replace(config, start_method="fork"), as_new)(*arguments)

    return launch
