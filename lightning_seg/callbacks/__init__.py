"""Lightning callbacks: what a run leaves behind besides its weights, each in a file of its own.

.. include:: README.md
"""

from typing import Any

from lightning_seg.callbacks.best_checkpoint import BestCheckpoint
from lightning_seg.callbacks.confusion import ConfusionCounts
from lightning_seg.callbacks.curves import EpochCurves
from lightning_seg.callbacks.evaluation_details import EvaluationDetails
from lightning_seg.callbacks.finite_loss import FiniteLoss, TrainingDiverged
from lightning_seg.callbacks.freeze import FreezeEncoder
from lightning_seg.callbacks.interruption import TrainingInterrupted
from lightning_seg.callbacks.last_checkpoint import LastCheckpoint
from lightning_seg.callbacks.pictures import PredictionPictures
from lightning_seg.callbacks.resource_usage import ResourceUsage
from lightning_seg.callbacks.stored_config import StoredConfig
from lightning_seg.callbacks.validation_samples import ValidationSamples
from lightning_seg.renamed import warn_renamed

__all__ = [
    "BestCheckpoint",
    "ConfusionCounts",
    "EpochCurves",
    "EvaluationDetails",
    "FiniteLoss",
    "FreezeEncoder",
    "LastCheckpoint",
    "PredictionPictures",
    "ResourceUsage",
    "StoredConfig",
    "TrainingDiverged",
    "TrainingInterrupted",
    "ValidationSamples",
]


def __getattr__(name: str) -> Any:
    if name == "TrainingCosts":
        warn_renamed("TrainingCosts", "ResourceUsage")
        return ResourceUsage
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
