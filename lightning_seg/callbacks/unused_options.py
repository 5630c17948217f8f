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

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Called after the data module was set up for the stage."""
        find = getattr(trainer.datamodule, "unused_options", None)  # type: ignore[attr-defined]
        names = [name for name in find() if f"data.{name}" in self.given] if find and stage != "test" else []
        for name in names:
            self._say(trainer, f"data.{name}", "the data themselves say which images are of which split")

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Looks at the first step."""
        key = "module.auxiliary_weight"
        if key not in self.given or trainer.global_step > 1:
            return
        if "auxiliary" not in getattr(pl_module, "loss_terms", {"auxiliary": None}) and pl_module.auxiliary_weight:
            self._say(trainer, key, "the network returns no auxiliary logits")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Looks at whether an image was cut."""
        for key in ("module.margin", "module.tiling"):
            tile = getattr(pl_module, "tile", None)
            if key in self.given and tile is not None and not getattr(pl_module, "has_cut_tiles", True):
                self._say(trainer, key, f"no image is larger than module.tile={tile}, so that none is cut into tiles")

    def _say(self, trainer: Trainer, key: str, why: str) -> None:
        if trainer.is_global_zero:
            say(f"{key}={self.given[key]} is not used: {why}.")
