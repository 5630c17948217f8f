"""A pretrained encoder that is not trained at first."""

from typing import Any

import lightning
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim import Optimizer

from lightning_seg.backbones.encoder import find_encoder


class FreezeEncoder(Callback):
    """Trains the rest of a network alone for so many epochs, and then all of it.

    A fresh head sends large gradients at first, which would spoil what a pretrained encoder knows. While it is frozen
    its weights stay bit for bit: no gradient, and so neither a step, momentum nor weight decay. Its norms are in
    evaluation mode, so that they use and keep the statistics that they came with. All of this follows from the epoch,
    so that a resumed training continues as one that never stopped.

    The optimizer holds the encoder's parameters from the beginning, and its learning-rate schedule runs on. On one
    device no gradient of the encoder is computed; on several (DDP) it is, and is left out.

    Args:
        epochs: so many epochs, from the first on; -1 for all.
        encoder: the part of the module's `backbone`, see `lightning_seg.backbones.encoder_names`. Default: as the
            module says, `module.encoder`.

    Raises:
        ValueError: `epochs` is not such a number.
    """

    def __init__(self, epochs: int, encoder: str | list[str] | None = None) -> None:
        if epochs < -1:
            raise ValueError(f"epochs={epochs} must be 0 or more, or -1 to freeze the encoder in all epochs.")
        self.epochs = epochs
        self.encoder = encoder
        self._parameters: list[nn.Parameter] = []
        self._norms: list[nn.Module] = []
        self._without_gradients = False

    def setup(self, trainer: lightning.Trainer, pl_module: LightningModule, stage: str) -> None:
        """Finds the encoder, before anything is trained.

        Raises:
            ValueError: there is none, or the strategy shards it.
        """
        if stage != "fit":
            return
        if not isinstance(trainer.strategy, SingleDeviceStrategy | DDPStrategy):
            raise ValueError(
                f"callbacks.freeze works on one device and with DDP, not with {type(trainer.strategy).__name__}, which "
                "joins frozen parameters with others: use trainer=ddp, or module.encoder_learning_rate_factor=0."
            )
        self._find(pl_module)

    def on_train_start(self, trainer: lightning.Trainer, pl_module: LightningModule) -> None:
        """Keeps what is to be frozen, after a strategy has put norms of its own in the place of the module's."""
        encoder = self._find(pl_module)
        self._parameters = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
        self._norms = [part for part in encoder.modules() if isinstance(part, _NormBase) and part.training]
        self._without_gradients = isinstance(trainer.strategy, SingleDeviceStrategy)

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Freezes or thaws, whatever an epoch's start, a validation or a resume has set before."""
        frozen = self._is_frozen(trainer)
        for norm in self._norms:
            norm.train(not frozen)
        if self._without_gradients:
            for parameter in self._parameters:
                parameter.requires_grad_(not frozen)

    def on_before_optimizer_step(
        self, trainer: lightning.Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Leaves out gradients of the frozen part, also those that were accumulated, before they are clipped."""
        if self._is_frozen(trainer):
            for parameter in self._parameters:
                parameter.grad = None

    def on_fit_end(self, trainer: lightning.Trainer, pl_module: LightningModule) -> None:
        """Leaves the module as it was."""
        for norm in self._norms:
            norm.train(pl_module.training)
        for parameter in self._parameters:
            parameter.requires_grad_(True)

    def _find(self, pl_module: LightningModule) -> nn.Module:
        names = getattr(pl_module, "encoder", "auto") if self.encoder is None else self.encoder
        return find_encoder(getattr(pl_module, "backbone", pl_module), names)

    def _is_frozen(self, trainer: lightning.Trainer) -> bool:
        return self.epochs == -1 or trainer.current_epoch < self.epochs
