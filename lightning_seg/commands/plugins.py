"""What this package adds to Hydra: its sweepers, the launcher of SLURM's jobs, and what to install for others."""

from collections.abc import Sequence
from typing import Any

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from lightning_seg.sweeps.grid import GridSweeper
from lightning_seg.sweeps.search import SearchSweeper

# Hydra takes plugins by names of this namespace only; a class must be pickled by where it really is.
_NAMESPACE = "hydra_plugins.lightning_seg"
_JOBLIB = "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher"  # which Hydra finds itself
_SWEEPERS: tuple[type[Sweeper], ...] = (GridSweeper, SearchSweeper)


def register_plugins() -> None:
    """Lets Hydra find what `conf/hydra/` names."""
    plugins = Plugins.instance()
    for sweeper in _SWEEPERS:
        plugins.register(sweeper)
        plugins.class_name_to_class[f"{_NAMESPACE}.{sweeper.__name__}"] = sweeper
    plugins.class_name_to_class[f"{_NAMESPACE}.SlurmLauncher"] = _slurm_launcher()
    plugins.class_name_to_class.setdefault(_JOBLIB, JoblibNotInstalled)


def _slurm_launcher() -> type[Launcher]:
    try:
        from lightning_seg.launch.slurm import SlurmLauncher
    except ImportError:
        return NotInstalled
    return SlurmLauncher


class NotInstalled(Launcher):
    """Says what to install, as soon as it is made."""

    needs = 'launcher=slurm needs hydra-submitit-launcher: pip install "lightning-seg[cluster]".'

    def __init__(self, **params: Any) -> None:
        raise ValueError(self.needs)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Never called."""
        raise NotImplementedError

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Never called."""
        raise NotImplementedError


class JoblibNotInstalled(NotInstalled):
    """The same of the launcher of processes."""

    needs = 'launcher=joblib needs hydra-joblib-launcher: pip install "lightning-seg[search]".'
