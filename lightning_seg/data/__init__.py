"""Data modules, datasets, augmentation and the inspection of masks."""

from lightning_seg.data.augment import training_augmentation
from lightning_seg.data.datamodule import Sample, SegmentationDataModule
from lightning_seg.data.palette import default_palette
from lightning_seg.data.shapes import ShapesDataModule, ShapesDataset

__all__ = [
    "Sample",
    "SegmentationDataModule",
    "ShapesDataModule",
    "ShapesDataset",
    "default_palette",
    "training_augmentation",
]
