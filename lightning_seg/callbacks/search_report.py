"""The link between a training and the search that it is a trial of."""

from pathlib import Path

import optuna
from lightning.pytorch import Callback, LightningModule, Trainer

from lightning_seg.files import atomic_write


class SearchReport(Callback):
    """Reports the monitored value to an Optuna study after each validation, and stops a training that falls behind.

    The study is opened through its storage, so that the trials of one search may run in any number of processes. Of a
    training on several processes the first one reports, and all of them stop. A stopped training ends like any other,
    with its best checkpoint tested; a note in its folder says that it was stopped.

    Args:
        path: the note.
        storage: the URL of the study's database.
        study: the study's name.
        trial: the trial's number.
        monitor: the name of the value.
        pruner: what decides which trials are stopped.
    """

    def __init__(
        self, path: str | Path, storage: str, study: str, trial: int, monitor: str, pruner: optuna.pruners.BasePruner
    ) -> None:
        self.path = Path(path)
        self.storage = storage
        self.study = study
        self.trial = trial
        self.monitor = monitor
        self.pruner = pruner
        self._opened: optuna.Trial | None = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reports, and asks whether to continue."""
        metrics = trainer.callback_metrics  # on every process, since reading it may reduce over all of them
        if trainer.sanity_checking or self.monitor not in metrics:
            return
        is_last = trainer.max_epochs is not None and trainer.current_epoch + 1 >= trainer.max_epochs > 0
        hopeless = False
        if trainer.is_global_zero:
            hopeless = self._report(float(metrics[self.monitor]), trainer.current_epoch) and not is_last
        if trainer.strategy.broadcast(hopeless):
            trainer.should_stop = True
            if trainer.is_global_zero:
                with atomic_write(self.path, overwrite=True) as temporary:
                    temporary.write_text(
                        f"stopped by the search after epoch {trainer.current_epoch}\n", encoding="utf-8"
                    )

    def _report(self, value: float, epoch: int) -> bool:
        if self._opened is None:
            study = optuna.load_study(study_name=self.study, storage=open_storage(self.storage), pruner=self.pruner)
            self._opened = open_trial(study, self.trial)
        if epoch not in self._opened.study.trials[self.trial].intermediate_values:  # a resumed epoch may be there
            self._opened.report(value, epoch)
        return self._opened.should_prune()


def open_storage(url: str) -> optuna.storages.RDBStorage:
    """The database of a study, shared by the processes of a search."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # SQLite lets one process write at a time, and the others wait this many seconds.
    return optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": {"timeout": 60}})


def open_trial(study: optuna.Study, number: int) -> optuna.Trial:
    """A trial that another process has asked the study for."""
    return optuna.Trial(study, study.get_trials(deepcopy=False)[number]._trial_id)
