"""Says which options of the command line change nothing, where only data and network tell."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from lightning_seg.text import say


class UnusedOptions(Callback):
    """Says of options of random splits, auxiliary heads and tiles that there are none.

    Args:
        given: what was typed, by key.
    """

    def __init__(self, given: Mapping[str, str]) -> None:
        self.given = given
        self._has_looked = False  # at a step

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Called after the data module was set up for the stage."""
        lines = [] if stage == "test" else unused_of_data(trainer.datamodule, self.given)  # type: ignore[attr-defined]
        for line in lines if trainer.is_global_zero else []:
            say(line)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Looks at the first step."""
        key = "module.auxiliary_weight"
        if key not in self.given or self._has_looked:
            return
        self._has_looked = True
        if "auxiliary" not in getattr(pl_module, "loss_terms", {"auxiliary": None}) and pl_module.auxiliary_weight:
            self._say(trainer, key, "the network returns no auxiliary logits")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Looks at whether an image was cut, unless other processes have tested other images."""
        if trainer.world_size > 1:
            return
        for key in ("module.margin", "module.tiling"):
            tile = getattr(pl_module, "tile", None)
            if key in self.given and tile is not None and not getattr(pl_module, "has_cut_tiles", True):
                self._say(trainer, key, f"no image is larger than module.tile={tile}, so that none is cut into tiles")

    def _say(self, trainer: Trainer, key: str, why: str) -> None:
        if trainer.is_global_zero:
            say(f"{key}={self.given[key]} is not used: {why}.")


def unused_of_data(datamodule: Any, given: Mapping[str, str]) -> list[str]:
    """One line for each option of random splits that was given for data that are divided already.

    Args:
        datamodule: the data; only those of this package tell it.
        given: what was typed, by key.
    """
    find = getattr(datamodule, "unused_options", None)
    keys = [f"data.{name}" for name in find()] if find else []
    why = "the data themselves say which images are of which split"
    return [f"{key}={given[key]} is not used: {why}." for key in keys if key in given]
