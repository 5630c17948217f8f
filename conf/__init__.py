"""The configuration of a run, as Hydra groups; importable as `pkg://lightning_seg.conf`.

.. include:: README.md
"""

import lightning_seg.runs.monitor  # noqa: F401  (what the files call as ${lightning_seg.mode:...})
