"""A picture of some test predictions."""

from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer

from lightning_seg.callbacks.classes import class_names_for, palette_for, void_for
from lightning_seg.callbacks.evenly_spaced import predict_evenly_spaced
from lightning_seg.files import atomic_write
from lightning_seg.inference.pictures import prediction_picture


class PredictionPictures(Callback):
    """Writes a picture of images spread evenly over the test set: image, target, prediction, errors.

    Neighbors in a data set are often frames of one film. Only these images are predicted once more, after the test.
    With several test loaders the first one is shown. A picture of an earlier test in the same place is replaced.

    Args:
        path: the PNG file.
        palette: `(red, green, blue)` of each mask value (binary: two). Default: the data module's, or PASCAL VOC's.
        class_names: the names in the legend. Default: the module's, or the data module's.
        count: how many images. Default: all of them.
        ignore_index: the mask value of void pixels. Default: the module's.

    Raises:
        ValueError: `count` is not positive; as a training or test begins, there are not as many colors as mask values.
    """

    def __init__(
        self,
        path: str | Path,
        palette: Sequence[Sequence[int]] | None = None,
        class_names: Sequence[str] | None = None,
        count: int | None = None,
        ignore_index: int | None = None,
    ) -> None:
        if count is not None and count < 1:
            raise ValueError(f"count={count} images cannot be shown: give at least 1, or leave the callback out.")
        self.path = Path(path)
        self.palette = palette
        self.class_names = class_names
        self.count = count
        self.ignore_index = ignore_index

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuses classes without a name or a color before anything is trained."""
        palette_for(trainer, class_names_for(trainer, pl_module, self.class_names), self.palette)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Predicts the images once more, draws and writes the picture."""
        shown = predict_evenly_spaced(trainer, pl_module, trainer.test_dataloaders, self.count, self.path)
        if not shown or not trainer.is_global_zero:
            return
        names = class_names_for(trainer, pl_module, self.class_names)
        picture = prediction_picture(
            [one.image for one in shown],
            [one.target for one in shown],
            [one.labels for one in shown],
            palette_for(trainer, names, self.palette),
            names,
            void_for(pl_module, self.ignore_index),
        )
        with atomic_write(self.path, overwrite=True) as temporary:
            picture.save(temporary)
