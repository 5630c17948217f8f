"""Every combination of the choices on the command line."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.errors import ConfigCompositionException
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from lightning_seg.launch.overrides import unquoted
from lightning_seg.runs.folder import run_name, sweep_path
from lightning_seg.sweeps.finished import finished_before
from lightning_seg.sweeps.jobs import (
    Job,
    SweptTask,
    check_launcher,
    compose_job,
    launch,
    report_failures,
    run_overrides,
)
from lightning_seg.sweeps.table import show_jobs


class GridSweeper(Sweeper):
    """Runs every combination, each in a folder of its own, and ends with one table of all.

    A job that fails does not end the sweep. The same command again skips the jobs that have finished and continues
    the others from their last checkpoint, unless `resume=never` is given. `run=NAME` is put before the folders' names.

    Args:
        max_batch_size: how many jobs the launcher gets at once; None for all.
        params: more of the command line: a key, and its values with commas between them.
    """

    def __init__(self, max_batch_size: int | None, params: Mapping[str, str] | None) -> None:
        self.max_batch_size = max_batch_size
        self.params = params or {}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Sets the launcher up that was chosen in the configuration."""
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(hydra_context, SweptTask(task_function), config)

    def sweep(self, arguments: list[str]) -> list[Job]:
        """Runs the jobs.

        Raises:
            ValueError: two jobs would have the same folder.
            JobError: a job failed.
        """
        assert self.hydra_context is not None
        assert self.config is not None
        assert self.launcher is not None
        arguments = [*(f"{key}={values}" for key, values in self.params.items()), *arguments]
        overrides = OverridesParser.create(config_loader=self.hydra_context.config_loader).parse_overrides(arguments)
        path = sweep_path(self.config, arguments)
        name = None if self.config.run is None else path.name
        jobs = combine(overrides, path.parent, name)
        composed = [compose_job(self.hydra_context, self.config, job) for job in jobs]
        check_launcher(self.launcher, jobs)
        for job, config in zip(jobs, composed, strict=True):
            try:
                if config["resume"] == "auto" and finished_before(job.folder, config, job.overrides) is not None:
                    job.status = "finished before"
            except ValueError as error:
                job.status, job.error = "failed", str(error)

        left = [job for job in jobs if job.status == "unfinished"]
        size = self.max_batch_size or max(1, len(left))
        try:
            for first in range(0, len(left), size):
                launch(self.launcher, left[first : first + size], first)
        finally:
            show_jobs(jobs, self.config.monitor, path)
        report_failures(jobs, path.name)
        return jobs


def combine(overrides: Sequence[Override], runs: Path, run: str | None) -> list[Job]:
    """One job for every combination of the swept values.

    Args:
        overrides: of the command line; the last one of a key counts.
        runs: the folder of all runs.
        run: the name that the user gave the sweep.

    Raises:
        ConfigCompositionException: an interval is not a list of values.
        ValueError: two jobs would have the same folder.
    """
    values: dict[str, list[str]] = {}
    swept: set[str] = set()
    for override in overrides:
        key = override.get_key_element()
        if override.is_sweep_override():
            if not override.is_discrete_sweep():
                raise ConfigCompositionException(
                    f"{override.input_line} is an interval, not a list of values: sweep=NAME searches it."
                )
            swept.add(key)
            values[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
        else:
            swept.discard(key)
            values[key] = [str(override.input_line)]
    jobs = []
    for combination in product(*values.values()):
        chosen = dict(zip(values, combination, strict=True))
        own = [chosen[key] for key in values if key in swept]
        if "run" in swept:
            name = unquoted(chosen["run"].split("=", 1)[1])
        elif run is not None:
            name = f"{run},{run_name(own, swept)}" if own else run
        else:
            name = run_name(combination, swept)
        choices = {key: unquoted(chosen[key].split("=", 1)[1]) for key in values if key in swept}
        jobs.append(Job(runs / name, run_overrides(combination, name), choices))
    folder, number = Counter(job.folder for job in jobs).most_common(1)[0]
    if number > 1:
        raise ValueError(f"{number} jobs of this sweep would be kept in {folder}: each needs a folder of its own.")
    return jobs
