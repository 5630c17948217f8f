"""Lightning callbacks: pictures of predictions, curves as CSV, the configuration inside the checkpoint."""

from lightning_seg.callbacks.curves import EpochCurves
from lightning_seg.callbacks.pictures import PredictionPictures
from lightning_seg.callbacks.stored_config import StoredConfig

__all__ = ["EpochCurves", "PredictionPictures", "StoredConfig"]
