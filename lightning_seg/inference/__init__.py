"""Prediction: images of any size, files and folders, pictures."""

from lightning_seg.files import atomic_write
from lightning_seg.inference.folder import PredictedFiles, predict_files
from lightning_seg.inference.masks import overlay, probabilities_file, write_mask
from lightning_seg.inference.pictures import prediction_picture
from lightning_seg.inference.symmetric import symmetric_logits
from lightning_seg.inference.tiling import Patch, predict_tiled

__all__ = [
    "Patch",
    "PredictedFiles",
    "atomic_write",
    "overlay",
    "predict_files",
    "predict_tiled",
    "prediction_picture",
    "probabilities_file",
    "symmetric_logits",
    "write_mask",
]
