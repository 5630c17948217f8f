"""Losses of logits and target, for any number of spatial dimensions.

All are called as `loss(logits, target)` and share the meaning of their arguments, which `Loss` lists.
"""

from lightning_seg.losses.boundary import BoundaryLoss
from lightning_seg.losses.cldice import SoftClDiceLoss
from lightning_seg.losses.compound import CompoundLoss, CrossEntropyDiceLoss
from lightning_seg.losses.cross_entropy import CrossEntropyLoss
from lightning_seg.losses.deep_supervision import DeepSupervisionLoss
from lightning_seg.losses.dice import DiceLoss
from lightning_seg.losses.focal import FocalLoss
from lightning_seg.losses.hausdorff import HausdorffDistanceLoss
from lightning_seg.losses.loss import Loss
from lightning_seg.losses.lovasz import LovaszHingeLoss, LovaszSoftmaxLoss
from lightning_seg.losses.weight_schedule import LinearWeight

__all__ = [
    "BoundaryLoss",
    "CompoundLoss",
    "CrossEntropyDiceLoss",
    "CrossEntropyLoss",
    "DeepSupervisionLoss",
    "DiceLoss",
    "FocalLoss",
    "HausdorffDistanceLoss",
    "LinearWeight",
    "Loss",
    "LovaszHingeLoss",
    "LovaszSoftmaxLoss",
    "SoftClDiceLoss",
]
