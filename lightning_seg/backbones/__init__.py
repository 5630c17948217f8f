"""Any network's output, brought to logits at the image's size.

.. include:: README.md
"""

from lightning_seg.backbones.encoder import find_encoder
from lightning_seg.backbones.logits import logits_at_size
from lightning_seg.backbones.segmentation_models import segmentation_model
from lightning_seg.backbones.stride import PadToStride

__all__ = ["PadToStride", "find_encoder", "logits_at_size", "segmentation_model"]
