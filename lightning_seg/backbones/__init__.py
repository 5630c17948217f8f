"""Any network's output, brought to logits at the image's size.

.. include:: README.md
"""

from lightning_seg.backbones.encoder import encoder_names, find_encoder
from lightning_seg.backbones.execution import checkpoint_activations, compile_network, use_channels_last
from lightning_seg.backbones.mask_classification import MaskClassification, mask_classification_logits
from lightning_seg.backbones.monai_models import monai_model
from lightning_seg.backbones.outputs import NetworkOutput, logits_at_size, network_output
from lightning_seg.backbones.segmentation_models import segmentation_model
from lightning_seg.backbones.stride import PadToStride
from lightning_seg.backbones.timm_models import timm_model
from lightning_seg.backbones.torchvision_models import torchvision_model
from lightning_seg.backbones.transformers_models import transformers_model

__all__ = [
    "MaskClassification",
    "NetworkOutput",
    "PadToStride",
    "checkpoint_activations",
    "compile_network",
    "encoder_names",
    "find_encoder",
    "logits_at_size",
    "mask_classification_logits",
    "monai_model",
    "network_output",
    "segmentation_model",
    "timm_model",
    "torchvision_model",
    "transformers_model",
    "use_channels_last",
]
