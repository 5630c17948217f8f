"""Prediction of one image, or a batch, in Python."""

from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms.v2.functional import resize

from lightning_seg.data.images import scaled_size
from lightning_seg.inference.predictor import AnyRaster, Predictor, predicted_patches
from lightning_seg.inference.rasters import open_raster
from lightning_seg.inference.scaled import ScaledRaster

AnyImage = str | PathLike[str] | Image.Image | npt.NDArray[Any] | Tensor | list[str | PathLike[str]]
_TOPS = {torch.uint8: 255, torch.uint16: 65535, torch.bool: 1}


class Prediction(NamedTuple):
    """Labels and probabilities of an image, on the CPU."""

    labels: Tensor
    """int64 `(H, W)`; `(C, H, W)` of 0 and 1 in the multilabel task."""
    probabilities: Tensor
    """float32 `(num_classes, H, W)`."""


def predict_image(module: Predictor, image: AnyImage, *, scale: float = 1.0, probabilities: bool = False) -> Prediction:
    """Labels of an image at its own size, of any size; see `SegmentationModule.predict`.

    Args:
        module: in evaluation mode; it cuts tiles and averages as it is told.
        image: a path, of which windows are read where they are predicted, as `lightning_seg.inference.predict_files`
            does, or what `image_tensor` takes.
        scale: the size at which the network sees the image, relative to its own.
        probabilities: whether probabilities are asked for; else they are empty.

    Raises:
        ValueError: the module is in training mode, or the image has another shape or dtype.
        FloatingPointError: the logits are NaN.
    """
    if getattr(module, "volumes", None) is not None:
        from lightning_seg.inference.volumes import predict_volume  # here: it takes what this module defines

        return predict_volume(module, image, probabilities=probabilities)
    if module.training:
        raise ValueError("the module is in training mode, where predictions are random: call module.eval() first.")
    with _as_seen(module, image, scale) as (seen, size, is_batch):
        labels, found = _predicted(module, seen, size, probabilities=probabilities)
    if is_batch:
        return Prediction(labels, found)
    return Prediction(labels[0], found[0] if probabilities else found)


@contextmanager
def _as_seen(module: Predictor, image: AnyImage, scale: float) -> Iterator[tuple[AnyRaster, tuple[int, int], bool]]:
    """What the network sees of an image, its own size, and whether it is a batch."""
    mean = getattr(module, "mean", None)
    if isinstance(image, str | PathLike):
        with open_raster(Path(image), reading=getattr(module, "reading", None), keep_place=False) as raster:
            if mean is not None:
                _check_channels(raster.seen.shape[1], len(mean))
            yield raster.seen if scale == 1 else ScaledRaster(raster.seen, scale), raster.size, False
        return
    pixels = image_tensor(image)
    batch = pixels if pixels.ndim == 4 else pixels[None]
    if mean is not None:
        batch = _with_channels(batch, len(mean))
        if float(mean.max()) <= 1 < float(batch.max()) / 2:
            raise ValueError(f"the image has values up to {float(batch.max()):g}, expected floats in [0, 1] or uint8.")
    height, width = batch.shape[2:]
    if scale != 1:
        batch = resize(batch, list(scaled_size((height, width), scale)), antialias=True).clamp(0, 1)
    yield batch, (height, width), pixels.ndim == 4


def _predicted(
    module: Predictor, seen: AnyRaster, size: tuple[int, int], *, probabilities: bool
) -> tuple[Tensor, Tensor]:
    """Labels and probabilities, with the axis of a batch."""
    labels, found = torch.empty(0), torch.empty(0)
    with torch.no_grad():  # not inference_mode, whose tensors had to be copied for others to use
        for rows, columns, logits in predicted_patches(module, seen, size):
            part = module.predict_labels(logits).cpu()
            labels = labels if len(labels) else part.new_empty((*part.shape[:-2], *size))
            labels[..., rows, columns] = part
            if probabilities:
                shares = module.probabilities(logits).float().cpu()
                found = found if len(found) else shares.new_empty((*shares.shape[:2], *size))
                found[..., rows, columns] = shares
    return labels, found


def image_tensor(image: Any) -> Tensor:
    """An image as float32 `(channels, H, W)`, or a batch as `(N, channels, H, W)`.

    Args:
        image: Pillow's image, in [0, 1] and upright by its EXIF orientation; an array `(H, W)` or `(H, W, channels)`; a
            tensor `(channels, H, W)` or `(N, channels, H, W)`. uint8, uint16 and bool are divided by their largest
            value; floats are taken as they are, in the units of the training, [0, 1] with our data.

    Raises:
        TypeError: it is something else.
        ValueError: it has another shape or dtype.
    """
    if isinstance(image, Image.Image):
        image = _pixels(image)
    if isinstance(image, np.ndarray):
        if image.ndim not in (2, 3) or image.size == 0:
            raise ValueError(f"expected an array (H, W) or (H, W, channels), but got {image.shape}.")
        if image.ndim == 3 and image.shape[2] > 4 and image.shape[0] in (1, 3):
            raise ValueError(
                f"the array of shape {image.shape} looks like (channels, H, W), which is taken as (H, W, channels): "
                "give it as a tensor, torch.from_numpy(array)."
            )
        tensor = torch.from_numpy(np.ascontiguousarray(image))
        tensor = tensor[None] if tensor.ndim == 2 else tensor.movedim(-1, 0)
    elif isinstance(image, Tensor):
        tensor = image
    else:
        raise TypeError(f"expected a path, a Pillow image, an array or a tensor, but got a {type(image).__name__}.")
    if tensor.ndim not in (3, 4) or tensor.numel() == 0:
        raise ValueError(f"expected a tensor (channels, H, W) or (N, channels, H, W), but got {tuple(tensor.shape)}.")
    if not tensor.is_floating_point() and tensor.dtype not in _TOPS:
        raise ValueError(f"expected floats in [0, 1], uint8, uint16 or bool, but got {tensor.dtype}.")
    return tensor.float() / _TOPS.get(tensor.dtype, 1)


def _pixels(image: Image.Image) -> npt.NDArray[Any]:
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I;16"):
        return np.asarray(upright).astype(np.uint16)
    if upright.mode in ("I", "F"):
        raise ValueError(f"an image of mode {upright.mode!r} has an unknown range: give an array of floats in [0, 1].")
    return np.asarray(upright.convert("L" if upright.mode in ("1", "L", "LA", "La") else "RGB"))


def _with_channels(batch: Tensor, channels: int) -> Tensor:
    """Gray images with the channels of the training, all equal."""
    if batch.shape[1] == 1:
        return batch.expand(-1, channels, -1, -1)
    _check_channels(batch.shape[1], channels)
    return batch


def _check_channels(count: int, channels: int) -> None:
    if count != channels:
        raise ValueError(f"the image has {count} channels, and the network was trained on {channels}.")
