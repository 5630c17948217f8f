"""What `-m` does: Hydra's sweepers of this package, every combination of choices or a search for the best."""

from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper

from lightning_seg.sweeps.grid import GridSweeper
from lightning_seg.sweeps.search import SearchSweeper

__all__ = ["GridSweeper", "SearchSweeper", "register_sweepers"]

_SWEEPERS: tuple[type[Sweeper], ...] = (GridSweeper, SearchSweeper)


def register_sweepers() -> None:
    """Lets Hydra find the sweepers that `conf/hydra/sweeper/` names."""
    plugins = Plugins.instance()
    for sweeper in _SWEEPERS:
        plugins.register(sweeper)
        # Hydra takes plugins by names of this namespace only; a class must be pickled by where it really is.
        plugins.class_name_to_class[f"hydra_plugins.lightning_seg.{sweeper.__name__}"] = sweeper
