"""A search for the best choices, with Optuna."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from lightning_seg.launch.building import build
from lightning_seg.launch.overrides import quoted
from lightning_seg.reading import open_regular
from lightning_seg.runs.contents import PRUNED
from lightning_seg.runs.folder import sweep_path
from lightning_seg.runs.identity import changed_machine
from lightning_seg.runs.kept import as_kept
from lightning_seg.runs.scores import score_text
from lightning_seg.sweeps.jobs import (
    Job,
    Status,
    SweptTask,
    check_launcher,
    compose_job,
    launch,
    report_failures,
    resolved_task,
    run_overrides,
)
from lightning_seg.sweeps.table import show_jobs
from lightning_seg.text import say

if TYPE_CHECKING:
    import optuna


_OTHER_STUDY = "move it away, or choose another run=NAME."


@contextmanager
def _read_in_one_line(database: Path) -> Iterator[None]:
    """Opens a study, if it is one.

    Raises:
        OSError: the file is none, or a link to one that does not exist.
        ValueError: it is damaged, or holds something else.
    """
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    if os.path.lexists(database):
        with open_regular(database):
            pass
    try:
        yield
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        first: BaseException = error
        while first.__cause__ is not None:
            first = first.__cause__
        reason = " ".join(str(first).split())
        raise ValueError(
            f"{database} cannot be read as the study of a search ({reason:.200}): {_OTHER_STUDY}"
        ) from error


class SearchSweeper(Sweeper):
    """Lets an Optuna study propose the jobs, which the launcher runs in batches.

    The study is kept in `<name>.db` beside the runs `<name>-<number of the trial>`, and the same command continues
    it up to `n_trials`: interrupted trials resume from their last checkpoint, failed ones are made
    up for by new ones. Trials that fall behind are stopped early.

    Args:
        n_trials: how many trials the study is to have.
        n_jobs: how many the launcher gets at once; below zero counts back from the number of cores, -1 is all.
        mode: `max` or `min`, what is best of the monitored value.
        seed: of the proposals.
        sampler: what proposes, as `_target_` with `seed` left open.
        pruner: what decides which trials are stopped early, as `_target_`.
        params: what is searched, in the syntax of Hydra's sweeps.
        params_when: what is searched only with some choices, by `key=value,…`.
    """

    def __init__(
        self,
        n_trials: int,
        n_jobs: int,
        mode: str,
        seed: int,
        sampler: DictConfig,
        pruner: DictConfig,
        params: Mapping[str, str],
        params_when: Mapping[str, Mapping[str, str]],
    ) -> None:
        if find_spec("optuna") is None:
            raise ValueError('a search needs Optuna: pip install "lightning-seg[search]".')
        self.n_trials = n_trials
        self.n_jobs = n_jobs if n_jobs > 0 else max(1, (os.cpu_count() or 1) + 1 + n_jobs)
        self.mode = mode
        self.seed = seed
        self.sampler = sampler
        self.pruner = pruner
        self.params = params
        self.params_when = params_when

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Sets the launcher up that was chosen in the configuration."""
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(hydra_context, SweptTask(task_function), config)

    def sweep(self, arguments: list[str]) -> list[Job]:
        """Runs trials until the study has as many as are wanted.

        Raises:
            ValueError: there is nothing to search, `resume=never`, or the study was started with other choices.
            JobError: a job failed.
        """
        assert self.hydra_context is not None
        assert self.config is not None
        assert self.launcher is not None
        from lightning_seg.sweeps.space import read_space  # Optuna takes a second that others need not wait.

        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides(arguments)
        if any(override.get_key_element() == "resume" and override.value() == "never" for override in overrides):
            raise ValueError("resume=never: a search continues its study; run=ANOTHER starts a new one.")
        self.space = read_space(parser, self.params, self.params_when, overrides)
        if not self.space.params:
            raise ValueError("there is nothing to search: every key of hydra.sweeper.params has a single value.")
        self.fixed = [str(one.input_line) for one in overrides if not one.is_sweep_override()]
        self.given = {one.get_key_element(): str(one.input_line) for one in overrides if one.is_sweep_override()}
        examples = [Job(Path(), self._command(choices), choices) for choices in self.space.examples(self._value)]
        for example in examples:
            compose_job(self.hydra_context, self.config, example)
        check_launcher(self.launcher, examples)
        self.path = sweep_path(self.config, arguments)
        self.study = self._open_study()

        trials = self.study.get_trials()
        jobs = {trial.number: self._known_job(trial) for trial in trials}
        left = [trial.number for trial in trials if not trial.state.is_finished()]
        wanted = self.n_trials - sum(job.status in ("finished before", "pruned", "diverged") for job in jobs.values())
        first = 0
        try:
            while first < wanted:
                batch: dict[int, Job] = {}
                while len(batch) < min(self.n_jobs, wanted - first):
                    number, job = self._next(left)
                    batch[number] = jobs[number] = job
                launch(self.launcher, list(batch.values()), first)
                for number, job in batch.items():
                    self._report(number, job)
                first += len(batch)
        finally:
            show_jobs([jobs[number] for number in sorted(jobs)], self.config.monitor, self.path)
        best = max(self._finished(jobs), default=None, key=lambda job: (job.value or 0) * self._sign)
        if best is not None:
            say(f"best: {self.config.monitor} {score_text(str(self.config.monitor), best.value or 0)} in {best.folder}")
        # That a trial diverges is an answer to the search.
        new = [job for number, job in jobs.items() if self._is_new(number, trials) and job.status != "diverged"]
        report_failures(new, self.path.name)
        return list(jobs.values())

    @property
    def _sign(self) -> int:
        return 1 if self.mode == "max" else -1

    def _finished(self, jobs: Mapping[int, Job]) -> list[Job]:
        return [job for job in jobs.values() if job.status in ("finished", "finished before")]

    def _is_new(self, number: int, before: Sequence["optuna.trial.FrozenTrial"]) -> bool:
        return number >= len(before) or not before[number].state.is_finished()

    def _open_study(self) -> "optuna.Study":
        import optuna

        from lightning_seg.callbacks.search_report import open_storage

        assert self.config is not None
        database = self.path.with_name(f"{self.path.name}.db")
        database.parent.mkdir(parents=True, exist_ok=True)
        self.storage = f"sqlite:///{database}"
        with _read_in_one_line(database):
            study = optuna.create_study(
                storage=open_storage(self.storage),
                study_name=self.path.name,
                direction="maximize" if self.mode == "max" else "minimize",
                load_if_exists=True,
            )
            study.get_trials(deepcopy=False)
        space = {"params": {**self.params, **self.given}, "params_when": _plain(self.params_when)}
        now = as_kept({**resolved_task(self.config), **space})
        before = study.user_attrs.get("begun_with")
        if before is not None and not isinstance(before, dict):
            raise ValueError(f"{database} does not say what its study was begun with: {_OTHER_STUDY}")
        if before is None:
            study.set_user_attr("begun_with", now)
        else:
            changed_machine(database, before, now, self.fixed)
        return study

    def _next(self, left: list[int]) -> tuple[int, Job]:
        """A trial that was stopped, as long as there are any, then a new one, and its job."""
        from lightning_seg.callbacks.search_report import open_trial

        assert self.config is not None
        # One seed would propose the same again to a study that is continued.
        self.study.sampler = build(self.sampler, seed=self.seed + len(self.study.get_trials(deepcopy=False)))
        trial = open_trial(self.study, left.pop(0)) if left else self.study.ask()
        choices = self.space.suggest(trial, self._value)
        folder = self._folder(trial.number)
        report = {
            "_target_": "lightning_seg.callbacks.search_report.SearchReport",
            "path": str(folder / PRUNED),
            "storage": self.storage,
            "study": self.path.name,
            "trial": trial.number,
            "monitor": str(self.config.monitor),
            "pruner": _plain(self.pruner),
        }
        overrides = [*run_overrides(self._command(choices), folder.name), f"+callbacks.search={_as_override(report)}"]
        return trial.number, Job(folder, overrides, choices)

    def _command(self, choices: Mapping[str, str]) -> list[str]:
        return [*self.fixed, *(f"{key}={value}" for key, value in choices.items())]

    def _report(self, number: int, job: Job) -> None:
        from optuna.trial import TrialState

        from lightning_seg.callbacks.search_report import open_trial

        if job.status == "finished" and (job.folder / PRUNED).exists():
            job.status = "pruned"
            self.study.tell(number, state=TrialState.PRUNED)
        elif job.status == "finished" and job.value is not None and not isnan(job.value):
            self.study.tell(number, job.value)
        elif job.status == "diverged":  # the sampler learns from it, as from other trials that are not worth finishing
            open_trial(self.study, number).set_user_attr("diverged", job.error)
            self.study.tell(number, state=TrialState.PRUNED)
        else:
            job.status, job.error = "failed", job.error or "the monitored value is not a number."
            open_trial(self.study, number).set_user_attr("error", job.error)
            self.study.tell(number, state=TrialState.FAIL)

    def _known_job(self, trial: "optuna.trial.FrozenTrial") -> Job:
        from optuna.trial import TrialState

        states: dict[TrialState, Status] = {
            TrialState.COMPLETE: "finished before",
            TrialState.PRUNED: "pruned",
            TrialState.FAIL: "failed",
        }
        choices = {key: str(value) for key, value in trial.params.items()}
        status: Status = "diverged" if "diverged" in trial.user_attrs else states.get(trial.state, "unfinished")
        error = trial.user_attrs.get("diverged", trial.user_attrs.get("error", ""))
        value = trial.value if status == "finished before" else None
        return Job(
            self._folder(trial.number),
            [],
            choices,
            status,
            error,
            value,
        )

    def _folder(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}-{number}")

    def _value(self, key: str) -> str:
        """What a key has that is not searched: the choice of a group, or a value."""
        assert self.config is not None
        choice = self.config.hydra.runtime.choices.get(key)
        return str(OmegaConf.select(self.config, key) if choice is None else choice)


def _plain(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def _as_override(value: Any) -> str:
    """A value in Hydra's grammar of overrides."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_as_override(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_as_override(item) for item in value) + "]"
    if isinstance(value, str):
        return quoted(value)
    return "null" if value is None else str(value)
