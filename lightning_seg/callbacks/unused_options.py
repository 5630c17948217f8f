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
        typed = {key: self.given[key] for key in ("module.margin", "module.tiling") if key in self.given}
        line = unused_tiling(pl_module, typed, tile="module.tile")
        if line and trainer.world_size == 1 and pl_module.tile is not None:  # null is said before the training
            say(line)

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


def unused_tiling(module: Any, given: Mapping[str, Any], *, tile: str = "tile") -> str:
    """One line where options of tiles were given and no image was cut into any; "" elsewhere.

    Args:
        module: what has predicted.
        given: the options, by the names that were typed.
        tile: the name of the tile among them.
    """
    if not given or getattr(module, "has_cut_tiles", True):
        return ""
    options = " and ".join(f"{name}={value}" for name, value in given.items())
    why = f"{tile} is null" if module.tile is None else f"no image is larger than {tile}={module.tile}"
    return f"{options} changed nothing: {why}, so none was cut into tiles."
