"""What evaluation and prediction may change of how a trained module predicts."""

from collections.abc import Mapping
from typing import Any

from lightning_seg.inference.symmetric import views
from lightning_seg.inference.tiling import check_tiling
from lightning_seg.module import SegmentationModule


def set_prediction_options(module: SegmentationModule, config: Mapping[str, Any]) -> None:
    """Sets `tile`, `margin` and `test_time_augmentation` where a command was given them.

    Raises:
        ValueError: the tile leaves no center between its margins, or there is no such augmentation.
    """
    for name in ("tile", "margin", "test_time_augmentation"):
        if config[name] is not None:
            setattr(module, name, config[name])
    check_tiling(module.tile, module.margin)
    views(module.test_time_augmentation)
