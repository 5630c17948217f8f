"""Predictions of a few images that are spread evenly over a data set."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from lightning_seg.backbones.outputs import resized
from lightning_seg.text import text_logger

log = text_logger(__name__)


class Prediction(NamedTuple):
    """One image, on the CPU: `name`, `image` `(channels, H, W)`, `target` `(H, W)` and predicted `labels` `(H, W)`.

    The latter two are `(C, H, W)` in the multilabel task. Of a volume they are of its middle slice, see `middle_slice`.
    """

    name: str
    image: Tensor
    target: Tensor
    labels: Tensor


def evenly_spaced_indices(length: int, count: int | None) -> list[int]:
    """The middles of `count` equal parts of `0 ... length - 1`, all different; all if there are fewer, or for None."""
    count = length if count is None else min(count, length)
    return [(2 * part + 1) * length // (2 * count) for part in range(count)]


def predict_evenly_spaced(
    trainer: Trainer, pl_module: Any, loaders: Any, count: int | None, path: Path
) -> list[Prediction]:
    """Predicts images spread evenly over the data set of a loader, the first one of several.

    Every process predicts the same images, since a sharded model needs all of them for a forward pass. None, with a
    warning that the file is not written, where the data set has no length, or its targets are not maps of labels.

    Args:
        trainer: in an evaluation.
        pl_module: a `SegmentationModule`.
        loaders: a data loader, or a sequence of them.
        count: how many images, at most; None: all.
        path: the file that they are for.
    """
    loader = loaders[0] if isinstance(loaders, list | tuple) else loaders
    dataset: Any = getattr(loader, "dataset", None)
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        _say_not_written(path, f"a {type(dataset or loader).__name__} is not a map-style data set with a length")
        return []
    predictions: list[Prediction] = []
    for index in evenly_spaced_indices(len(dataset), count):
        is_batch = getattr(loader, "batch_sampler", None) is None  # of a loader with batch_size=None
        batch = loader.collate_fn(dataset[index] if is_batch else [dataset[index]])
        names = batch.get("name", [index]) if isinstance(batch, dict) else [index]
        image, mask = pl_module.unpack(trainer.strategy.batch_to_device(batch))
        with torch.inference_mode(), trainer.precision_plugin.forward_context():
            labels = pl_module.predict_labels(pl_module.predict_logits(image, mask.shape[2 - image.ndim :]))
        # The binary task may give masks (N, 1, H, W), the shape of its logits.
        mask = mask.squeeze(1) if mask.ndim > labels.ndim else mask
        if mask.shape != labels.shape:
            _say_not_written(path, f"the targets {tuple(mask.shape)} are not labels {tuple(labels.shape)}")
            return []
        image = resized(image, mask.shape[2 - image.ndim :])
        shown = [part[0].cpu() for part in (image, mask, labels)]
        if image.ndim == 5:
            shown = [middle_slice(part) for part in shown]
        predictions.append(Prediction(str(names[0]), *shown))
    return predictions


@rank_zero_only
def _say_not_written(path: Path, reason: str) -> None:
    log.warning("%s is not written: %s.", path, reason)


def middle_slice(volume: Tensor) -> Tensor:
    """The slice `(..., Y, X)` in the middle of the last axis of a volume `(..., X, Y, Z)`, the second axis upward.

    Of volumes whose axes point right, to the front and up, it is the transverse plane as seen from above.
    """
    return volume[..., volume.shape[-1] // 2].rot90(1, (-2, -1))
