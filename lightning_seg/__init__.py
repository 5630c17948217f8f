"""Semantic segmentation, trained well: losses by name, Dice and IoU that can be trusted, one device or many."""

from lightning_seg.checkpoint import load_module
from lightning_seg.consistency import ConsistencyModule
from lightning_seg.module import SegmentationModule

__all__ = ["ConsistencyModule", "SegmentationModule", "load_module"]
__version__ = "0.1.0"
