"""What evaluation and prediction may change of how a trained module predicts."""

from collections.abc import Mapping
from typing import Any

from lightning_seg.inference.symmetric import views
from lightning_seg.inference.tiling import check_tiling
from lightning_seg.module import SegmentationModule


def set_prediction_options(module: SegmentationModule, config: Mapping[str, Any]) -> None:
    """Sets `tile`, `margin`, `tiling`, `test_time_augmentation` and `threshold` where a command was given them.

    Raises:
        ValueError: the tile leaves no center between its margins, or there is no such augmentation or threshold.
    """
    for name in ("tile", "margin", "tiling", "test_time_augmentation", "threshold"):
        if config[name] is not None:
            setattr(module, name, config[name])
    module.check_threshold(is_given=config["threshold"] is not None)
    if module.threshold == "best" and module.found_threshold is None:
        raise ValueError(
            "threshold=best needs the threshold that a training found, and this checkpoint has none: train with "
            "module.threshold=best, or give a number (lightning-seg-evaluate details=FOLDER split=val names the best)."
        )
    check_tiling(module.tile, module.margin, module.tiling)
    views(module.test_time_augmentation)
