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
from lightning_seg.losses.focal_tversky import FocalTverskyLoss
from lightning_seg.losses.generalized_dice import GeneralizedDiceLoss
from lightning_seg.losses.hausdorff import HausdorffDistanceLoss
from lightning_seg.losses.jaccard import JaccardLoss
from lightning_seg.losses.log_cosh_dice import LogCoshDiceLoss
from lightning_seg.losses.loss import Loss
from lightning_seg.losses.lovasz import LovaszHingeLoss, LovaszSoftmaxLoss
from lightning_seg.losses.mcc import MCCLoss
from lightning_seg.losses.ohem import OhemCrossEntropyLoss
from lightning_seg.losses.poly import PolyCrossEntropyLoss
from lightning_seg.losses.top_k import TopKCrossEntropyLoss
from lightning_seg.losses.tversky import TverskyLoss
from lightning_seg.losses.weight_schedule import LinearWeight

__all__ = [
    "BoundaryLoss",
    "CompoundLoss",
    "CrossEntropyDiceLoss",
    "CrossEntropyLoss",
    "DeepSupervisionLoss",
    "DiceLoss",
    "FocalLoss",
    "FocalTverskyLoss",
    "GeneralizedDiceLoss",
    "HausdorffDistanceLoss",
    "JaccardLoss",
    "LinearWeight",
    "LogCoshDiceLoss",
    "Loss",
    "LovaszHingeLoss",
    "LovaszSoftmaxLoss",
    "MCCLoss",
    "OhemCrossEntropyLoss",
    "PolyCrossEntropyLoss",
    "SoftClDiceLoss",
    "TopKCrossEntropyLoss",
    "TverskyLoss",
]
