"""An import of this is what a first command costs a process more than others: for one that is copied."""

import gc
from contextlib import suppress
from importlib import import_module
from typing import Any

import torch
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

import tests.quick_configuration
import tests.quick_training  # noqa: F401
from lightning_seg.launch.building import build

# What a training imports while it runs.
LATER = [
    *("hydra._internal.logging_config", "torch.utils.serialization.config", "fsspec.implementations.chained"),
    *("lightning_seg.callbacks.progress", "lightning_seg.launch.slurm", "lightning_seg.data.kernels"),
    *("encodings.utf_8_sig", "rich._emoji_codes"),
]
# What most copies compose.
SMALL = ["~backbone", "+backbone={_target_:tests.runs.network.small_network}", "callbacks=no_pictures"]
CPU = [*SMALL, "trainer=cpu"]
CHOSEN = [[], SMALL, [*SMALL, "trainer=ddp_sim"], [*SMALL, "loss=focal_dice"], CPU, [*CPU, "loss=ce"]]

for name in LATER:
    with suppress(ImportError):  # of Numba, where it is missing
        import_module(name)
with initialize_config_module("lightning_seg.conf", version_base="1.3"):
    for choices in CHOSEN:
        composed = compose("train", ["data.num_train=1", "data.image_size=32", *choices])
        config: Any = OmegaConf.to_container(composed, resolve=True)
shapes = build(config["data"])
shapes.setup("fit")
shapes.train_set[0]  # Numba begins to work
with torch.no_grad():
    build(config["loss"])(torch.zeros(1, 6, 32, 32), torch.zeros(1, 32, 32, dtype=torch.int64))
gc.freeze()  # the copies leave alone what is there, whose pages they share
