"""The configuration of a run, as Hydra groups; importable as `pkg://lightning_seg.conf`.

.. include:: README.md
"""

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig

import lightning_seg.runs.monitor  # noqa: F401  (what the files call as ${lightning_seg.mode:...})

# A file that begins with `defaults: [/any_keys@_here_, _self_]` takes keys that it does not list, without a plus.
ConfigStore.instance().store(name="any_keys", node=DictConfig({}, flags={"struct": False}))
