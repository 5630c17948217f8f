"""Losses of logits and target, for any number of spatial dimensions.

.. include:: README.md
"""

from lightning_seg.losses.boundary.boundary import BoundaryLoss
from lightning_seg.losses.boundary.cldice import SoftClDiceLoss
from lightning_seg.losses.boundary.hausdorff import HausdorffDistanceLoss
from lightning_seg.losses.boundary.target import with_distances
from lightning_seg.losses.compound.compound import CompoundLoss, CrossEntropyDiceLoss
from lightning_seg.losses.compound.deep_supervision import DeepSupervisionLoss
from lightning_seg.losses.compound.weight_schedule import LinearWeight
from lightning_seg.losses.loss import Loss
from lightning_seg.losses.pixel.cross_entropy import CrossEntropyLoss
from lightning_seg.losses.pixel.focal import FocalLoss
from lightning_seg.losses.pixel.ohem import OhemCrossEntropyLoss
from lightning_seg.losses.pixel.poly import PolyCrossEntropyLoss
from lightning_seg.losses.pixel.top_k import TopKCrossEntropyLoss
from lightning_seg.losses.region.dice import DiceLoss
from lightning_seg.losses.region.focal_tversky import FocalTverskyLoss
from lightning_seg.losses.region.generalized_dice import GeneralizedDiceLoss
from lightning_seg.losses.region.jaccard import JaccardLoss
from lightning_seg.losses.region.log_cosh_dice import LogCoshDiceLoss
from lightning_seg.losses.region.lovasz import LovaszHingeLoss, LovaszSoftmaxLoss
from lightning_seg.losses.region.mcc import MCCLoss
from lightning_seg.losses.region.tversky import TverskyLoss

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
    "with_distances",
]
