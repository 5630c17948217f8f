"""What a configuration may hold: the one place that says so, and that checks it before anything else is done.

.. include:: README.md
"""

from lightning_seg.schema.check import check_classes_known, check_config, check_keys, check_part, check_values
from lightning_seg.schema.keys import Evaluate, Export, Inspect, Predict, Train
from lightning_seg.schema.nearest import did_you_mean

__all__ = [
    "Evaluate",
    "Export",
    "Inspect",
    "Predict",
    "Train",
    "check_classes_known",
    "check_config",
    "check_keys",
    "check_part",
    "check_values",
    "did_you_mean",
]
