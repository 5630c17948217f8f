"""Configurations that several tests read, each composed once: that of a training takes a third of a second."""

import warnings
from copy import deepcopy
from functools import cache

from hydra import compose, initialize_config_module
from omegaconf import DictConfig, open_dict


@cache
def of_choice(group: str, name: str) -> DictConfig:
    """The configuration of a training with one choice of a group, which is not to be changed."""
    with initialize_config_module("lightning_seg.conf", version_base="1.3"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", f"In '{group}/.*missing `_self_`")  # as of one that is composed by itself
        chosen = compose(f"{group}/{name}")[group]
    training = deepcopy(_training())
    with open_dict(training):
        training[group] = chosen
    return training


@cache
def _training() -> DictConfig:
    with initialize_config_module("lightning_seg.conf", version_base="1.3"):
        return compose("train")
