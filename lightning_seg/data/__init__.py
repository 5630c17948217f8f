"""Data modules, datasets, augmentation and the inspection of masks.

.. include:: README.md
"""

from lightning_seg.data.augment import training_augmentation
from lightning_seg.data.class_weights import effective_number, inverse_frequency, median_frequency
from lightning_seg.data.datamodule import Sample, SegmentationDataModule
from lightning_seg.data.folder import FolderDataModule
from lightning_seg.data.folder_dataset import FolderDataset
from lightning_seg.data.huggingface import HuggingFaceDataModule
from lightning_seg.data.images import image_size, load_image
from lightning_seg.data.masks import load_mask
from lightning_seg.data.palette import default_palette
from lightning_seg.data.protocol import (
    ColorsClasses,
    DescribesData,
    EstimatesClassWeights,
    NamesClasses,
    SegmentationData,
)
from lightning_seg.data.shapes import ShapesDataModule, ShapesDataset
from lightning_seg.data.volume_augment import volume_augmentation
from lightning_seg.data.volumes import VolumesDataModule, VolumesDataset

__all__ = [
    "ColorsClasses",
    "DescribesData",
    "EstimatesClassWeights",
    "FolderDataModule",
    "FolderDataset",
    "HuggingFaceDataModule",
    "NamesClasses",
    "Sample",
    "SegmentationData",
    "SegmentationDataModule",
    "ShapesDataModule",
    "ShapesDataset",
    "VolumesDataModule",
    "VolumesDataset",
    "default_palette",
    "effective_number",
    "image_size",
    "inverse_frequency",
    "load_image",
    "load_mask",
    "median_frequency",
    "training_augmentation",
    "volume_augmentation",
]
