"""What is monitored is logged."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from lightning_seg.runs.monitor import check_monitored


class MonitoredIsLogged(Callback):
    """Refuses to monitor what the validation that is tried before the training does not log.

    For modules of one's own, of which nothing else tells it.

    Args:
        config: composed and resolved.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config

    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compares the names."""
        check_monitored(self.config, list(trainer.callback_metrics))
