"""A picture of the first test predictions."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn import functional as F

from lightning_seg.inference.pictures import prediction_picture
from lightning_seg.inference.whole_file import whole_file


class PredictionPictures(Callback):
    """Writes a picture of the first images of the test set: image, truth, prediction, errors.

    Only these images are predicted once more, on the first process, and only its share of the set is shown. With
    several test loaders the first one is shown. A picture of an earlier test in the same place is replaced.

    Args:
        path: the PNG file.
        palette: `(red, green, blue)` of each mask value (binary: two).
        class_names: the names in the legend.
        count: how many images.
        ignore_index: the mask value of void pixels.

    Raises:
        ValueError: `count` is not positive; in a test, the task is multilabel, whose masks have no single colour.
    """

    def __init__(
        self,
        path: str | Path,
        palette: Sequence[Sequence[int]],
        class_names: Sequence[str],
        count: int = 6,
        ignore_index: int | None = None,
    ) -> None:
        if count < 1:
            raise ValueError(f"count={count} images cannot be shown: give at least 1, or leave the callback out.")
        self.path = Path(path)
        self.palette = [tuple(int(value) for value in colour) for colour in palette]
        self.class_names = [str(name) for name in class_names]
        self.count = count
        self.ignore_index = ignore_index
        self._shown: list[tuple[Tensor, Tensor, Tensor]] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuses what cannot be drawn before anything is trained."""
        if getattr(pl_module, "task", None) == "multilabel":
            raise ValueError(
                "PredictionPictures draws one label a pixel, and task=multilabel has several: "
                "leave the callback out (~callbacks.pictures)."
            )

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forgets an earlier test."""
        self._shown = []

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Tensor | Mapping[str, Any] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Predicts the images of this batch that are still wanted."""
        wanted = self.count - len(self._shown)
        if not trainer.is_global_zero or dataloader_idx > 0 or wanted <= 0:
            return
        module: Any = pl_module
        image, mask = module.unpack(batch)
        image, mask = image[:wanted], mask[:wanted]
        with torch.inference_mode(), trainer.precision_plugin.forward_context():
            labels = module.predict_labels(module(image, mask.shape[-2:]))
        # The binary task may give masks (N, 1, H, W), the shape of its logits.
        mask = mask.squeeze(1) if mask.ndim == 4 else mask
        image = F.interpolate(image, mask.shape[-2:], mode="bilinear", align_corners=False)
        self._shown += [
            (one.cpu(), truth.cpu(), prediction.cpu())
            for one, truth, prediction in zip(image, mask, labels, strict=True)
        ]

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws and writes the picture."""
        if not self._shown:
            return
        images, truths, predictions = zip(*self._shown, strict=True)
        self._shown = []
        picture = prediction_picture(images, truths, predictions, self.palette, self.class_names, self.ignore_index)
        with whole_file(self.path, overwrite=True) as temporary:
            picture.save(temporary)
