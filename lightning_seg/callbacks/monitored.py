"""What is monitored is logged."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from lightning_seg.runs.monitor import COUNTERS, monitored


class MonitoredIsLogged(Callback):
    """Refuses to monitor what the validation that is tried before the training does not log.

    Args:
        config: composed and resolved.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.names = monitored(config)

    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compares the names."""
        logged = sorted(trainer.callback_metrics)
        for key, name in self.names.items():
            if logged and not name.startswith("train/") and name not in (*logged, *COUNTERS):
                raise ValueError(f"{key}={name} is not logged; the validation logs {', '.join(logged)}.")
