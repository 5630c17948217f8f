"""Processes that something else started: SLURM's srun, or torchrun. Each finds the same folder, or all end."""

import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

from lightning_seg.text import say

# Shells within a job, and what Lightning takes for one, so that it would not see the other tasks.
_SHELLS = ("bash", "interactive")


def is_launched() -> bool:
    """Whether a launcher started this process, as the only one of a training or as one of several."""
    return _by_torchrun() or _by_srun()


def process_rank() -> int:
    """This process's number among those that a launcher has started, 0 if none has."""
    return int(os.environ["RANK" if _by_torchrun() else "SLURM_PROCID"]) if is_launched() else 0


def world_size() -> int:
    """How many processes the launcher of this one has started, 1 if none has."""
    return int(os.environ["WORLD_SIZE" if _by_torchrun() else "SLURM_NTASKS"]) if is_launched() else 1


def is_submitted() -> bool:
    """Whether this is a job that `launcher=slurm` has sent."""
    return os.environ.get("SUBMITIT_EXECUTOR") == "slurm"


def check_processes(trainer: Mapping[str, Any], devices: int) -> None:
    """Refuses processes, or nodes, of another number than the trainer asks for: they would not train together.

    Args:
        trainer: the trainer's configuration.
        devices: how many processes its `devices` asks for on each node.

    Raises:
        ValueError: the numbers differ, or several nodes are asked for and no launcher started this process.
    """
    nodes = int(trainer["num_nodes"])
    wanted = (
        f"trainer.devices={trainer['devices']} with trainer.num_nodes={nodes} is {_count(devices * nodes, 'process')}"
    )
    if not is_launched():
        tasks = int(os.environ.get("SLURM_NTASKS", 1)) if "SLURM_JOB_ID" in os.environ else 1
        if nodes > 1 or tasks not in (1, devices):
            started = f"in a SLURM job of {_count(tasks, 'task')}" if tasks > 1 else "alone"
            raise ValueError(
                f"{wanted}, and this one was started {started}: "
                f"start {_srun(devices, nodes)}, or torchrun on each node, or use launcher=slurm."
            )
        return
    count = world_size()
    if _by_torchrun():
        per_node = int(os.environ.get("LOCAL_WORLD_SIZE", count))
        if (count, per_node) != (devices * nodes, devices):
            raise ValueError(
                f"{wanted}, but torchrun started {count}, {per_node} on this node: "
                f"use trainer.devices={per_node} trainer.num_nodes={max(1, count // per_node)}, "
                f"or torchrun --nproc-per-node={devices} --nnodes={nodes}."
            )
        return
    srun_nodes = int(os.environ["SLURM_NNODES"])
    layout = os.environ.get("SLURM_STEP_TASKS_PER_NODE", "")  # 2(x4), or 3,1 if it is uneven
    if (count, srun_nodes) != (devices * nodes, nodes) or "," in layout:
        raise ValueError(
            f"{wanted}, but srun started {_count(count, 'task')} on {_count(srun_nodes, 'node')} ({layout} on each): "
            f"use trainer.devices={max(1, count // srun_nodes)} trainer.num_nodes={srun_nodes}, "
            f"or {_srun(devices, nodes)}."
        )


def shared_name(name: str, resume: str) -> str:
    """The name of the run that all processes of this launch have in common, and that a requeued job finds again.

    Args:
        name: what was chosen, the same in all processes.
        resume: `auto` resumes the run of that name; otherwise each launch is a run of its own.

    Raises:
        ValueError: nothing identifies this launch.
    """
    if resume == "auto":
        return name
    if "SLURM_JOB_ID" in os.environ:
        return f"{name}-job{os.environ['SLURM_JOB_ID']}"
    launch = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    if launch == "none":
        raise ValueError(
            "torchrun started several processes, which need one folder: "
            "give run=NAME, or start torchrun with --standalone or --rdzv-id=NAME."
        )
    return f"{name}-{launch}"


def make_tasks_visible() -> None:
    """Lets Lightning see the tasks of srun.

    In a job named `bash` or `interactive` it would not, and `srun --ntasks=2` it would refuse; that the tasks are where
    they should be, `check_processes` checks.
    """
    if not _by_srun():
        return
    if os.environ.get("SLURM_JOB_NAME") in _SHELLS:
        os.environ["SLURM_JOB_NAME"] = "lightning-seg-train"
    per_node = int(os.environ["SLURM_NTASKS"]) // int(os.environ["SLURM_NNODES"])
    os.environ.setdefault("SLURM_NTASKS_PER_NODE", str(per_node))


def end_all_processes() -> NoReturn:
    """Ends this process, which has failed and said so, and with it the others, which would wait for it for long.

    torchrun ends the others when one fails. srun does with --kill-on-bad-exit; without, SLURM is asked to.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    if not _by_torchrun() and _by_srun():
        step = f"{os.environ['SLURM_JOB_ID']}.{os.environ['SLURM_STEP_ID']}"
        try:
            subprocess.run(["scancel", "--signal=KILL", step], timeout=30, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            say(f"the other tasks of step {step} may be left waiting: {error}", error=True)
    os._exit(1)  # leaving in the usual way may wait for the others


def _by_torchrun() -> bool:
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def _by_srun() -> bool:
    # The script of a job is not a task, and neither is an interactive shell.
    if "SLURM_STEP_ID" not in os.environ or "SLURM_PROCID" not in os.environ:
        return False
    return int(os.environ["SLURM_NTASKS"]) > 1 or os.environ.get("SLURM_JOB_NAME") not in _SHELLS


def _srun(devices: int, nodes: int) -> str:
    return f"srun --nodes={nodes} --ntasks-per-node={devices}"


def _count(number: int, thing: str) -> str:
    plural = f"{thing}es" if thing.endswith("s") else f"{thing}s"
    return f"{number} {thing if number == 1 else plural}"
