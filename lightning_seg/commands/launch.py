"""Several processes on one machine, each given the composed configuration and never the command line.

Lightning would start its processes by running the command again, so that under Hydra's multirun each of them would
start the whole sweep; here torch's elastic launcher starts them.
"""

import logging
import os
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

import torch
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

# Set by torchrun, by our own launcher and by SLURM's srun in each process that they start.
_RANK_VARIABLES = ("RANK", "SLURM_PROCID")


def run_on_processes(function: Callable[[dict[str, Any]], Any], config: dict[str, Any]) -> Any:
    """Calls `function(config)` in as many processes as `config["trainer"]` has devices; the value of rank zero.

    With one device, and in a process that a launcher has started already, it is called in this process.
    """
    processes = count_processes(config["trainer"])
    if processes == 1 or is_launched():
        return function(config)
    threads = max(1, (os.cpu_count() or 1) // processes)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    launch = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        start_method="spawn",
    )
    # The error that ends a process is raised here with its traceback; torch would print it before as well.
    logging.getLogger("torch.distributed.elastic.multiprocessing.api").setLevel(logging.CRITICAL)
    return elastic_launch(launch, function)(config)[0]


def is_launched() -> bool:
    """Whether this is one of several processes that a launcher has started."""
    return any(name in os.environ for name in _RANK_VARIABLES)


def process_rank() -> int:
    """This process's number among those that a launcher has started, 0 if none has."""
    return int(next((os.environ[name] for name in _RANK_VARIABLES if name in os.environ), 0))


def count_processes(trainer: Mapping[str, Any]) -> int:
    """How many processes a trainer's `accelerator` and `devices` ask for on this machine."""
    devices = trainer.get("devices", "auto")
    if isinstance(devices, list):
        return len(devices)
    if isinstance(devices, str) and "," in devices:
        return len([device for device in devices.split(",") if device.strip()])
    if devices not in ("auto", -1, "-1"):
        return int(devices)
    uses_gpu = trainer.get("accelerator", "auto") in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return torch.cuda.device_count() if uses_gpu else 1
