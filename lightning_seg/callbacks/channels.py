"""Whether a network is built for the channels that its images have."""

from collections.abc import Mapping
from copy import copy
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from lightning_seg.data.datamodule import SegmentationDataModule

_KNOWN = ("lightning_seg", "lightning", "lightning_fabric", "torch", "builtins", "abc", "typing")


class ChannelsFit(Callback):
    """Refuses a network for another number of channels than images have, before anything is computed.

    Args:
        config: resolved; of the backbone it reads `in_channels`, or `config.num_channels`, as networks of transformers
            have it.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        backbone = config["module"].get("backbone") or {}
        inner = backbone.get("config")
        self.key, self.channels = "backbone.in_channels", backbone.get("in_channels")
        if self.channels is None and isinstance(inner, Mapping):
            self.key, self.channels = "backbone.config.num_channels", inner.get("num_channels")

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Reads one training image, not augmented.

        Raises:
            ValueError: it has other channels than the network, or than `mean` has numbers.
        """
        if any(name in vars(kind) for kind in _own_classes(pl_module) for name in ("unpack", "forward")):
            return  # which may give the network other channels
        datamodule = trainer.datamodule  # type: ignore[attr-defined]
        if stage != "fit" or not isinstance(datamodule, SegmentationDataModule) or datamodule.train_set is None:
            return
        dataset: Any = copy(datamodule.train_set)
        if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "augment"):
            return
        dataset.augment = None
        channels = len(dataset[0]["image"])
        if type(self.channels) is int and self.channels != channels:
            raise ValueError(
                f"images have {channels} channels, and {self.key}={self.channels}: use {self.key}={channels}, or name "
                "the channels that are meant with data.channels."
            )
        mean = getattr(pl_module, "mean", None)
        if mean is not None and len(mean) != channels:
            raise ValueError(
                f"images have {channels} channels, and data.mean and data.std have {len(mean)} numbers: give "
                f"{channels}, or data.mean=auto data.std=auto to measure them."
            )


def _own_classes(module: Any) -> list[type]:
    """The classes of a module that are not of this package, Lightning or torch."""
    return [kind for kind in type(module).__mro__ if kind.__module__.split(".")[0] not in _KNOWN]
