"""`launcher=slurm`: each job of a sweep is one of SLURM's, with the resources that its own trainer asks for."""

import json
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import submitit
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, filter_overrides
from hydra.types import HydraContext, TaskFunction
from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher as SubmititLauncher
from omegaconf import DictConfig, OmegaConf

from lightning_seg.files import atomic_write
from lightning_seg.launch.cluster import make_tasks_visible
from lightning_seg.launch.errors import JobError
from lightning_seg.reading import open_regular, read_json
from lightning_seg.runs.plain import PlainUnpickler
from lightning_seg.text import text_logger

log = text_logger(__name__)

_RESULTS_EVERY = 1.0  # seconds
_STATES_EVERY = 10.0  # SLURM's controller is everybody's
_PATIENCE = 15.0  # seconds that a network's file system takes to show what another machine has written
_ACCELERATORS = ("cpu", "gpu", "cuda")
# Other states are those of a job that is going to run, is running, or is requeued.
_OVER = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED"),
    *("NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT"),
}
_MAY_HAVE_WRITTEN = ("COMPLETED", "FAILED", "gone")
_MOST_TASKS = 100_000
_RESULTS = {"hydra.core.utils": {"JobReturn", "JobStatus"}}  # what a result may name


class SlurmLauncher(SubmititLauncher):  # type: ignore[misc]
    """Sends jobs to SLURM by submitit, and waits for them.

    Jobs that ask for the same resources are an array of SLURM's. In the state that SLURM gives a job it says whether it
    failed. The state is asked of SLURM's controller, which needs no accounting.

    Args:
        params: the keys of `conf/hydra/launcher/slurm.yaml`, with the names of hydra-submitit-launcher.
    """

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """As Hydra asks.

        Raises:
            ValueError: this machine has no sbatch, or SLURM does not answer.
        """
        if shutil.which("sbatch") is None:
            raise ValueError("launcher=slurm sends jobs by sbatch, which this machine does not have.")
        try:
            _ask_states()
        except (OSError, subprocess.SubprocessError) as error:
            raise ValueError(
                f"launcher=slurm sends jobs by SLURM, which does not answer here: {_said(error)}. Wait until squeue "
                "--me does, or train on this machine, launcher=basic."
            ) from None
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def check(self, job_overrides: Iterable[Sequence[str]]) -> None:
        """Refuses jobs that do not say which resources they need, before anything is sent.

        Raises:
            ValueError: the trainer of one does not.
        """
        for overrides in job_overrides:
            _check_trainer(self._composed(overrides).trainer)

    def _composed(self, overrides: Sequence[str]) -> Any:
        assert self.hydra_context is not None
        return self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))

    def __call__(self, *args: Any, **kwargs: Any) -> JobReturn:
        """Runs one job, in each of its tasks.

        Raises:
            Exception: the job failed. SLURM sees the exit code, and ends the other tasks.
        """
        make_tasks_visible()
        returned: JobReturn = super().__call__(*args, **kwargs)
        if returned.status != JobStatus.COMPLETED:
            # submitit writes the error for the sweep; then leaving may wait for the other tasks.
            watchdog = threading.Timer(20, os._exit, [1])
            watchdog.daemon = True
            watchdog.start()
            raise returned._return_value
        # Nobody reads the configurations, and without them the result names no class but its own.
        returned.cfg = returned.hydra_cfg = None
        returned.overrides = [str(override) for override in returned.overrides or ()]
        returned.return_value = float(returned.return_value)
        return returned

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Sends all jobs and waits for them; what each returned, or how it failed, in their order.

        A job that an earlier command has sent for the same folder, and that SLURM still has, is not sent again.

        Raises:
            RuntimeError: sbatch refuses a job.
        """
        assert self.config is not None
        jobs: dict[int, submitit.Job[JobReturn]] = {}
        runs: dict[int, str] = {}
        groups: dict[str, list[int]] = {}
        states = _states() or {}
        for index, overrides in enumerate(job_overrides):
            composed = self._composed(overrides)
            asked: Any = OmegaConf.to_container(composed.hydra.launcher, resolve=True)
            runs[index] = str(Path(composed.runs, str(composed.run)).expanduser().absolute())
            job = _sent_before(asked["submitit_folder"], runs[index], states)
            if job is None:
                groups.setdefault(json.dumps(asked), []).append(index)
            else:
                jobs[index] = job
                log.info("SLURM job %s is running it already: %s", job.job_id, runs[index])

        try:
            for asked_as_text, indices in groups.items():
                asked = json.loads(asked_as_text)
                singletons = Singleton.get_state()
                arguments = [
                    (list(job_overrides[index]), "hydra.sweep.dir", initial_job_idx + index, f"job_{index}", singletons)
                    for index in indices
                ]
                try:
                    sent = _executor(asked).map_array(self, *zip(*arguments, strict=True))
                except submitit.core.utils.FailedJobError as error:
                    raise RuntimeError(f"SLURM refuses the job: {' '.join(str(error).split())}") from None
                _note_sent(asked["submitit_folder"], dict(zip((runs[index] for index in indices), sent, strict=True)))
                for index, job in zip(indices, sent, strict=True):
                    jobs[index] = job
                    what = " ".join(filter_overrides(job_overrides[index]))
                    log.info("SLURM job %s: %s, log %s", job.job_id, what, job.paths.folder)
            _wait(list(jobs.values()))
        except KeyboardInterrupt:
            numbers = " ".join(sorted({job.job_id.split("_")[0] for job in jobs.values()}))
            log.warning(
                "the jobs continue, and the same command waits for them again; to end them: scancel %s", numbers
            )
            raise
        return [_outcome(jobs[index], job_overrides[index]) for index in sorted(jobs)]


def processes(trainer: Mapping[str, Any]) -> int | None:
    """How many tasks a trainer needs on each node; None if its `devices` are to be counted where it runs."""
    devices = trainer["devices"]
    if devices in ("auto", -1, "-1"):
        return None
    from lightning_seg.launch.processes import requested_devices  # imports torch, for seconds

    return requested_devices({"devices": list(devices) if OmegaConf.is_list(devices) else devices})


def gpus(trainer: Mapping[str, Any]) -> int | None:
    """How many GPUs a trainer needs on each node; None for none."""
    return processes(trainer) if trainer["accelerator"] in ("gpu", "cuda") else None


def cpus(data: Mapping[str, Any]) -> int:
    """How many cores a task needs: for itself, and for the processes that load its images."""
    return 1 + int(data.get("num_workers") or 0)


for _name, _function in {"processes": processes, "gpus": gpus, "cpus": cpus}.items():
    OmegaConf.register_new_resolver(f"lightning_seg.{_name}", _function, replace=True)


def _check_trainer(trainer: Mapping[str, Any]) -> None:
    if trainer["accelerator"] not in _ACCELERATORS:
        raise ValueError(
            f"launcher=slurm must know whether a job needs GPUs, and trainer.accelerator={trainer['accelerator']} "
            f"is not one of {', '.join(_ACCELERATORS)}: choose trainer=cpu, trainer=gpu or trainer=ddp."
        )
    if processes(trainer) is None:
        raise ValueError(
            f"launcher=slurm must know how many processes a job needs, and trainer.devices={trainer['devices']} "
            "depends on the machine: give a number."
        )


def _executor(asked: Mapping[str, Any]) -> submitit.AutoExecutor:
    shared = set(OmegaConf.structured(BaseQueueConf).keys())
    executor = submitit.AutoExecutor(asked["submitit_folder"], cluster="slurm")
    executor.update_parameters(
        **{
            name if name in shared else f"slurm_{name}": value
            for name, value in asked.items()
            if value is not None and name not in ("_target_", "submitit_folder")
        }
    )
    return executor


def _sent_before(submitit_folder: str, run: str, states: Mapping[str, str]) -> submitit.Job[JobReturn] | None:
    """The job that was sent for a run and is not over, if there is one."""
    job, tasks = _sent(submitit_folder).get(run, ("", 0))
    if states.get(job, "COMPLETED") in _OVER:
        return None
    return submitit.SlurmJob(submitit_folder, job, list(range(tasks)))  # one of squeue --me, and so this user's own


def _note_sent(submitit_folder: str, jobs: Mapping[str, submitit.Job[JobReturn]]) -> None:
    noted = {**_sent(submitit_folder), **{run: (job.job_id, job.num_tasks) for run, job in jobs.items()}}
    with atomic_write(_sent_path(submitit_folder), overwrite=True) as temporary:
        temporary.write_text(json.dumps(noted, indent=1), encoding="utf-8")


def _sent(submitit_folder: str) -> dict[str, tuple[str, int]]:
    path = _sent_path(submitit_folder)
    if not path.is_file():
        return {}
    content = read_json(path)
    if not isinstance(content, dict) or not all(_is_job(entry) for entry in content.values()):
        raise ValueError(f"{path} is not the list of jobs that were sent to SLURM: remove it.")
    return {run: (job, tasks) for run, (job, tasks) in content.items()}


def _is_job(entry: object) -> bool:
    """Whether this is the number of a job, as text, and of its tasks."""
    if not isinstance(entry, list) or len(entry) != 2:
        return False
    job, tasks = entry
    is_number = isinstance(job, str) and re.fullmatch(r"[0-9]{1,12}(_[0-9]{1,9})?", job) is not None
    return is_number and type(tasks) is int and 0 < tasks <= _MOST_TASKS


def _sent_path(submitit_folder: str) -> Path:
    return Path(submitit_folder).parent / "sent.json"


def _wait(jobs: Sequence[submitit.Job[JobReturn]]) -> None:
    """Returns when every job has written its results, or cannot do so any more."""
    waiting = list(jobs)
    asked = time.monotonic()
    while waiting := [job for job in waiting if not _has_results(job)]:
        if time.monotonic() - asked >= _STATES_EVERY:
            states = _states()
            if states is not None:
                waiting = [job for job in waiting if states.get(job.job_id, "COMPLETED") not in _OVER]
            asked = time.monotonic()
        time.sleep(_RESULTS_EVERY)


def _states() -> dict[str, str] | None:
    """The states of this user's jobs, those that ended lately included; None if SLURM does not answer."""
    try:
        return _ask_states()
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("SLURM does not report the states of its jobs: %s", _said(error))
        return None


def _ask_states() -> dict[str, str]:
    command = ["squeue", "--me", "--states=all", "--array", "--noheader", "--format=%i %T"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    return dict(line.split(maxsplit=1) for line in done.stdout.splitlines())


def _said(error: OSError | subprocess.SubprocessError) -> str:
    """The last line of what a command has said; what happened to it where it said nothing."""
    said = getattr(error, "stderr", None)
    lines = said.strip().splitlines() if isinstance(said, str) else []  # bytes where it took too long
    return (lines or [str(error)])[-1].rstrip(".")


def _tasks(job: submitit.Job[JobReturn]) -> list[submitit.Job[JobReturn]]:
    return [job.task(number) for number in range(job.num_tasks)]


def _has_results(job: submitit.Job[JobReturn], enough: Callable[[Iterable[bool]], bool] = all) -> bool:
    return enough(task.paths.result_pickle.exists() for task in _tasks(job))


def _outcome(job: submitit.Job[JobReturn], overrides: Sequence[str]) -> JobReturn:
    """What rank zero returned; if any task failed, its error, or the first of them."""
    state = "" if _has_results(job) else (_states() or {}).get(job.job_id, "gone")
    end = time.monotonic() + _PATIENCE
    enough = any if state == "FAILED" else all  # of tasks that were ended by the failure of one
    while state in _MAY_HAVE_WRITTEN and not _has_results(job, enough) and time.monotonic() < end:
        time.sleep(_RESULTS_EVERY)
    written = [task for task in _tasks(job) if task.paths.result_pickle.exists()]
    for task in sorted(written, key=lambda task: task.paths.result_pickle.stat().st_mtime_ns):
        outcome, result = read_outcome(task.paths.result_pickle)
        if outcome == "error":
            return _failed(overrides, f"{_message(result)} (SLURM job {job.job_id}, log {task.paths.stdout})")
    if len(written) < job.num_tasks:
        log_file = job.task(0).paths.stdout
        return _failed(overrides, f"SLURM job {job.job_id} is {state} and has no result; log {log_file}")
    returned: JobReturn = read_outcome(job.task(0).paths.result_pickle)[1]
    return returned


def read_outcome(path: Path) -> tuple[str, Any]:
    """What submitit has written of a task: `success` and what it returned, or `error` and its traceback.

    The file lies where others may write; it may hold nothing but that.

    Raises:
        ValueError: it holds anything else, or is damaged.
    """
    try:
        with open_regular(path) as file:
            outcome, result = PlainUnpickler(file, _RESULTS).load()
    except Exception as error:  # whatever pickle makes of a damaged or a hostile file
        raise ValueError(f"{path} is not the result of a job of this package: {error}.") from None
    if not (outcome == "error" and isinstance(result, str) and result.strip()) and not isinstance(result, JobReturn):
        raise ValueError(f"{path} is not the result of a job of this package: it holds a {type(result).__name__}.")
    return outcome, result


def _message(traceback: str) -> str:
    """The last line of a traceback; of an error that a sweep reports in one line, that line."""
    last = traceback.strip().splitlines()[-1]
    return last.removeprefix(f"{JobError.__module__}.{JobError.__qualname__}: ")


def _failed(overrides: Sequence[str], message: str) -> JobReturn:
    returned = JobReturn(overrides=list(overrides), status=JobStatus.FAILED)
    returned.return_value = JobError(message)
    return returned
