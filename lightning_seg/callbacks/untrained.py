"""Names the parameters that a training leaves as they are."""

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import FSDPStrategy
from lightning.pytorch.utilities import rank_zero_warn

from lightning_seg.backbones.gradients import folded

_STEPS = 5
_MOST_NAMES = 8


class UntrainedParameters(Callback):
    """Warns once of trainable parameters that get no gradient in the first five steps, by name.

    It looks at no values, so that no GPU waits. Parameters that are sharded over processes (FSDP) are not looked at.
    """

    def __init__(self) -> None:
        self.waiting: set[str] | None = None
        self.steps = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins with all parameters."""
        self.steps = 0
        sharded = isinstance(trainer.strategy, FSDPStrategy)
        self.waiting = None if sharded else {name for name, _ in pl_module.named_parameters()}

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Looks at the first steps."""
        if not self.waiting:
            return
        self.steps += 1
        self.waiting -= {name for name, one in pl_module.named_parameters() if one.grad is not None}
        if self.steps == _STEPS:
            self._report(pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tells of a shorter training."""
        if self.waiting and self.steps:
            self._report(pl_module)

    def _report(self, module: LightningModule) -> None:
        assert self.waiting is not None
        parameters = {name: one for name, one in module.named_parameters() if one.requires_grad}
        names, self.waiting = [name for name in parameters if name in self.waiting], None
        if not names:
            return
        parts = folded(names, module)
        more = f" and {len(parts) - _MOST_NAMES} more" if len(parts) > _MOST_NAMES else ""
        rank_zero_warn(
            f"{sum(parameters[name].numel() for name in names):,} parameters of the network got no gradient in "
            f"{self.steps} steps, so they are not trained: {', '.join(parts[:_MOST_NAMES])}{more}. If they should be, "
            "let the network return what they give (auxiliary logits are trained by module.auxiliary_weight); if not, "
            "build the network without them, or freeze them (requires_grad=False)."
        )
