"""An import of this is what a first command costs a process more than others: for one that is copied."""

import gc
from contextlib import suppress
from importlib import import_module

from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

import tests.quick_configuration  # noqa: F401

# What a training imports while it runs.
LATER = [
    *("hydra._internal.logging_config", "torch.utils.serialization.config", "fsspec.implementations.chained"),
    *("lightning_seg.callbacks.progress", "lightning_seg.launch.slurm", "lightning_seg.data.kernels"),
]

for name in LATER:
    with suppress(ImportError):  # of Numba, where it is missing
        import_module(name)
with initialize_config_module("lightning_seg.conf", version_base="1.3"):
    OmegaConf.to_container(compose("train", ["folder=."]), resolve=True)
gc.collect()
gc.freeze()  # the copies leave alone what is there, whose pages they share
