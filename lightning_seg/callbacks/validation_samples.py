"""Some validation images with their predictions, as a file that runs can be compared by."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from torch.nn import functional as F

from lightning_seg.callbacks.classes import class_names_for, palette_for, void_for
from lightning_seg.callbacks.evenly_spaced import Prediction, predict_evenly_spaced
from lightning_seg.data.datamodule import SegmentationDataModule
from lightning_seg.files import atomic_write


class ValidationSamples(Callback):
    """Writes images spread evenly over the validation set, with target and prediction, when the model is tested.

    They are those of the same indices in every run on the same data, predicted by the weights that are tested. The
    file is a compressed `.npz`: for each image k `image_<k>`, uint8 `(H, W, 3)`, `target_<k>` and `labels_<k>`, uint8
    or uint16 `(H, W)`; and `about`, JSON with `names`, `palette`, `class_names` and `void`, the value of void pixels
    in a target. A file of an earlier test in the same place is replaced.

    Nothing is written in the multilabel task, whose pixels have no single label, and without a validation set.

    Args:
        path: the file.
        palette: `(red, green, blue)` of each mask value (binary: two). Default: the data module's, or PASCAL VOC's.
        class_names: one for each class. Default: the module's, or the data module's.
        count: how many images.
        size: the longer side that larger images are shrunk to, in pixels.
        ignore_index: the mask value of void pixels. Default: the module's.

    Raises:
        ValueError: `count` or `size` is not positive.
    """

    def __init__(
        self,
        path: str | Path,
        palette: Sequence[Sequence[int]] | None = None,
        class_names: Sequence[str] | None = None,
        *,
        count: int,
        size: int,
        ignore_index: int | None = None,
    ) -> None:
        if count < 1 or size < 1:
            raise ValueError(f"count={count} and size={size} must be at least 1; or leave the callback out.")
        self.path = Path(path)
        self.palette = palette
        self.class_names = class_names
        self.count = count
        self.size = size
        self.ignore_index = ignore_index

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuses classes without a name or a color before anything is trained."""
        palette_for(trainer, class_names_for(trainer, pl_module, self.class_names), self.palette)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Predicts and writes the images."""
        if getattr(pl_module, "task", None) == "multilabel":
            return
        loaders = trainer.val_dataloaders
        if loaders is None:  # a training that had finished before has not loaded them in this process
            datamodule: Any = getattr(trainer, "datamodule", None)
            if not _has_validation(datamodule):
                return
            loaders = datamodule.val_dataloader()
        samples = predict_evenly_spaced(trainer, pl_module, loaders, self.count, self.path)
        if not samples or not trainer.is_global_zero:
            return
        names = class_names_for(trainer, pl_module, self.class_names)
        colors = palette_for(trainer, names, self.palette)
        ignored, void = void_for(pl_module, self.ignore_index), len(colors)
        about = {
            "names": [sample.name for sample in samples],
            "palette": colors,
            "class_names": names,
            "void": void,
        }
        arrays: dict[str, Any] = {"about": np.array(json.dumps(about))}
        for index, sample in enumerate(samples):
            arrays |= {f"{part}_{index}": array for part, array in self._shrunk(sample, void, ignored).items()}
        with atomic_write(self.path, overwrite=True) as temporary:
            np.savez_compressed(temporary, **arrays)

    def _shrunk(self, sample: Prediction, void: int, ignored: int | None = None) -> dict[str, Any]:
        height, width = sample.target.shape
        factor = min(1.0, self.size / max(height, width))
        rows, columns = _middles(height, factor), _middles(width, factor)
        pixels = sample.image.float()
        pixels = pixels[:3] if len(pixels) >= 3 else pixels[:1].expand(3, -1, -1)
        if factor < 1:
            small = (len(rows), len(columns))
            pixels = F.interpolate(pixels[None], small, mode="bilinear", align_corners=False, antialias=True)[0]
        target, labels = sample.target.long(), sample.labels.long()
        ignored = self.ignore_index if ignored is None else ignored
        if ignored is not None:
            target = target.where(target != ignored, void)
        kind = np.uint8 if void < 256 else np.uint16
        return {
            "image": (255 * pixels.clamp(0, 1)).round().byte().permute(1, 2, 0).numpy(),
            "target": target[rows][:, columns].numpy().astype(kind),
            "labels": labels[rows][:, columns].numpy().astype(kind),
        }


def _has_validation(datamodule: Any) -> bool:
    """Whether a data module gives validation images; ours only once they are set up."""
    if datamodule is None or type(datamodule).val_dataloader is LightningDataModule.val_dataloader:
        return False
    return not isinstance(datamodule, SegmentationDataModule) or datamodule.val_set is not None


def _middles(length: int, factor: float) -> torch.Tensor:
    """The pixels in the middle of each of the larger pixels that remain."""
    count = max(1, round(length * factor))
    return (2 * torch.arange(count) + 1) * length // (2 * count)
