"""What an exported file says of itself."""

import json
from collections.abc import Mapping
from typing import Any

import lightning_seg
from lightning_seg.export.network import ExportedNetwork


def metadata(network: ExportedNetwork) -> dict[str, str]:
    """Classes, palette, ignore value, scale and version, each as JSON."""
    module = network.module
    content: Mapping[str, Any] = {
        "task": module.task,
        "class_names": module.class_names,
        "palette": None if module.palette is None else [list(color) for color in module.palette],
        "ignore_index": module.ignore_index,
        "scale": module.scale,
        "tile": module.tile,
        "margin": module.margin,
        "tiling": module.tiling,
        "tile_stride": module.tile_stride,
        "threshold": module.decision_threshold,
        "channels": network.channels,
        "gives": "labels" if network.argmax else "logits",
        "half": network.half_precision,
        "version": lightning_seg.__version__,
    }
    return {f"lightning_seg.{name}": json.dumps(value) for name, value in content.items()}
