"""Prediction: images of any size, files and folders, pictures.

.. include:: README.md
"""

import warnings
from typing import Any

from lightning_seg.files import atomic_write
from lightning_seg.inference.folder import predict_files
from lightning_seg.inference.image import Prediction, predict_image
from lightning_seg.inference.jobs import PredictedFiles
from lightning_seg.inference.masks import overlay, probabilities_file, write_mask
from lightning_seg.inference.pictures import prediction_picture
from lightning_seg.inference.predictor import Predictor
from lightning_seg.inference.symmetric import View, symmetric_logits, views
from lightning_seg.inference.tiling import Patch, predict_tiled

__all__ = [
    "Patch",
    "PredictedFiles",
    "Prediction",
    "Predictor",
    "View",
    "atomic_write",
    "overlay",
    "predict_files",
    "predict_image",
    "predict_tiled",
    "prediction_picture",
    "probabilities_file",
    "symmetric_logits",
    "views",
    "write_mask",
]


def __getattr__(name: str) -> Any:
    if name != "whole_file":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(
        "lightning_seg.inference.whole_file is deprecated and will be removed in the next release; "
        "use lightning_seg.files.atomic_write instead.",
        FutureWarning,
        stacklevel=2,
    )
    return atomic_write
