"""The jobs of a sweep: what each is, and how it ended."""

import multiprocessing
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict

from lightning_seg.launch.ending import ProcessError, end_with
from lightning_seg.launch.errors import JobError, one_line
from lightning_seg.launch.overrides import quoted
from lightning_seg.launch.resolved import from_environment
from lightning_seg.runs.contents import DIVERGED, read_result
from lightning_seg.runs.kept import FROM_ENVIRONMENT
from lightning_seg.runs.monitor import check_monitored
from lightning_seg.schema import Train, check_config
from lightning_seg.text import say_lines

Status = Literal["unfinished", "finished before", "finished", "pruned", "diverged", "failed"]


@dataclass
class Job:
    """One run of a sweep.

    Attributes:
        folder: where the run is kept.
        overrides: the command line that the launcher gets.
        choices: the swept parameters and what this job has of them.
        status: how it ended; unfinished until it has.
        error: one line if it failed.
        value: the best monitored value that it returned.
    """

    folder: Path
    overrides: Sequence[str]
    choices: Mapping[str, str]
    status: Status = "unfinished"
    error: str = ""
    value: float | None = None


class SweptTask:
    """A command's task as a job of a sweep: its errors are reported in one line, and it ends with the sweep.

    Args:
        task: what the command does with a composed configuration.
    """

    def __init__(self, task: Callable[[DictConfig], Any]) -> None:
        self.task = getattr(task, "__wrapped__", task)  # not as a single run, which keeps its error for the end
        self.sweep = os.getpid()

    def __call__(self, composed: DictConfig) -> Any:
        """The task's value.

        Raises:
            JobError: the task failed; of a defect the traceback has been printed.
        """
        if os.getppid() == self.sweep:  # a process that the launcher has started on this machine
            end_with(self.sweep)
        if multiprocessing.get_start_method() not in multiprocessing.get_all_start_methods():
            # That of joblib's workers is unknown to the processes that these start.
            multiprocessing.set_start_method(multiprocessing.get_all_start_methods()[0], force=True)
        try:
            return self.task(composed)
        except Exception as error:
            line = one_line(error)
            if line is None:
                say_lines(str(error) if isinstance(error, ProcessError) else traceback.format_exc(), error=True)
                line = _last_line(error)
            raise JobError(line) from None


def run_overrides(overrides: Sequence[str], name: str) -> list[str]:
    """The command line of a job that is kept in the folder `name`, and that resumes there unless told otherwise."""
    others = [override for override in overrides if override.split("=")[0] != "run"]
    resume = [] if any(override.split("=")[0] == "resume" for override in others) else ["resume=auto"]
    return [*others, f"run={quoted(name)}", *resume]


def compose_job(context: HydraContext, config: DictConfig, job: Job) -> dict[str, Any]:
    """The configuration of a job, resolved; this finds a wrong choice before anything has started.

    Args:
        context: Hydra's.
        config: of the whole sweep.
        job: what is to be composed.
    """
    composed = context.config_loader.load_sweep_config(config, list(job.overrides))
    check_config(composed, Train)
    task = resolved_task(composed)
    check_monitored(task)
    return task


def resolved_task(config: DictConfig) -> dict[str, Any]:
    """What a task gets of a configuration, without Hydra's own part."""
    config = config.copy()
    with open_dict(config):
        del config["hydra"]
    container = OmegaConf.to_container(config, resolve=True)
    assert isinstance(container, dict)
    return {**{str(name): value for name, value in container.items()}, FROM_ENVIRONMENT: from_environment(config)}


def check_launcher(launcher: Launcher, jobs: Sequence[Job]) -> None:
    """Refuses jobs that a launcher cannot run, before any of them has started.

    Raises:
        ValueError: the launcher says why.
    """
    check = getattr(launcher, "check", None)  # one of ours
    if check is not None:
        check([job.overrides for job in jobs])


def launch(launcher: Launcher, jobs: Sequence[Job], first: int) -> None:
    """Runs jobs and notes in each how it ended; a failure of one, or of the launcher, is noted too and not raised.

    Args:
        launcher: Hydra's, which has been set up.
        jobs: those to run now.
        first: how many were run before.
    """
    returns: Sequence[JobReturn] = []
    error = ""
    try:
        returns = launcher.launch([list(job.overrides) for job in jobs], initial_job_idx=first)
    except Exception as failure:  # of the launcher itself: a worker was killed, a scheduler is not there
        error = one_line(failure) or _last_line(failure)
        if one_line(failure) is None:
            say_lines("".join(traceback.format_exception(failure)), error=True)
    for job, returned in zip(jobs, returns, strict=False):
        value = returned._return_value  # `return_value` would raise it
        if returned.status == JobStatus.COMPLETED:
            job.status, job.value = "finished", float(value)
        else:
            job.status, job.error = "failed", str(value)
    for job in jobs[len(returns) :]:
        result = read_result(job.folder)
        if result is None:
            job.status, job.error = "failed", error or "the launcher returned nothing for it."
        else:
            job.status, job.value = "finished", float(result["best"])
    for job in jobs:
        if job.status == "failed" and (job.folder / DIVERGED).is_file():
            job.status = "diverged"


def _last_line(error: BaseException) -> str:
    if isinstance(error, ProcessError) and error.callstack:
        return error.callstack.strip().splitlines()[-1]
    return " ".join(f"{type(error).__name__}: {error}".split())


def report_failures(jobs: Sequence[Job], sweep: str) -> None:
    """Ends a sweep whose jobs did not all succeed.

    Raises:
        JobError: at least one of them failed.
    """
    counts = {status: sum(job.status == status for job in jobs) for status in ("failed", "diverged")}
    ended = " and ".join(f"{number} {status}" for status, number in counts.items() if number)
    if ended:
        sys.stdout.flush()
        first, _, rest = ended.partition(" ")
        raise JobError(f"{first} of {len(jobs)} jobs of {sweep} {rest}: the table says why.")
