"""Configurations that several tests read, each composed once: that takes a third of a second."""

from functools import cache

from hydra import compose, initialize_config_module
from omegaconf import DictConfig


@cache
def of_loss(name: str) -> DictConfig:
    """The configuration of a training with a loss, which is not to be changed."""
    with initialize_config_module("lightning_seg.conf", version_base="1.3"):
        return compose("train", [f"loss={name}"])
