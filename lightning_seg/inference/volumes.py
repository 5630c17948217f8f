"""Prediction of one volume in Python."""

from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_seg.data.image_files import ImageFileError
from lightning_seg.data.patterns import Pattern
from lightning_seg.data.volume_files import Array, Volume
from lightning_seg.data.volume_reading import VolumeReading
from lightning_seg.inference.image import Prediction
from lightning_seg.inference.predictor import Predictor

_MODALITY = "{modality}"


def predict_volume(module: Predictor, volume: Any, *, probabilities: bool = False) -> Prediction:
    """Labels of a volume, in the axes and voxels of its file; see `SegmentationModule.predict`.

    Args:
        module: in evaluation mode, whose `volumes` says how files are read.
        volume: a path, or one for each modality; or a tensor or array `(channels, X, Y, Z)`, as `volumes` gives it.
        probabilities: whether probabilities are asked for; else they are empty.

    Returns:
        int64 `(X, Y, Z)` and float32 `(num_classes, X, Y, Z)`.

    Raises:
        TypeError: it is something else.
        ValueError: the module is in training mode, or the volume has another shape.
        FloatingPointError: the logits are NaN.
    """
    if module.training:
        raise ValueError("the module is in training mode, in which predictions are noisy: call module.eval() first.")
    reading: VolumeReading = module.volumes  # type: ignore[attr-defined]
    paths = [volume] if isinstance(volume, str | PathLike) else volume
    if isinstance(paths, list | tuple) and all(isinstance(path, str | PathLike) for path in paths):
        seen = reading(files_of_case(reading, [Path(path).expanduser() for path in paths]))
        image, size, file = seen.image, seen.size, seen.file
    elif isinstance(volume, np.ndarray | Tensor):
        image = torch.as_tensor(volume)
        size, file = tuple(image.shape[1:]), None  # type: ignore[assignment]
        if image.ndim != 4 or not image.is_floating_point():
            raise ValueError(
                f"expected a volume (channels, X, Y, Z) of floats in [0, 1], but got {tuple(image.shape)} of "
                f"{image.dtype}."
            )
    else:
        raise TypeError(f"expected a path, one for each modality, an array or a tensor, not {type(volume).__name__}.")
    mean = getattr(module, "mean", None)
    if mean is not None and len(mean) != len(image):
        raise ValueError(f"the volume has {len(image)} channels, and the network was trained on {len(mean)}.")
    with torch.inference_mode():
        logits = module.predict_logits(image[None].float().to(module.device), size)
        if bool(logits.isnan().any()):
            raise FloatingPointError("its logits are NaN: the network's weights or the volume are not finite.")
        labels = module.predict_labels(logits)[0].cpu()
        shares = module.probabilities(logits)[0].float().cpu() if probabilities else torch.empty(0)
    if file is None:
        return Prediction(labels.clone(), shares.clone())
    return Prediction(_back(labels, reading, file), _back(shares, reading, file) if probabilities else shares)


def first_modality(reading: VolumeReading) -> Pattern | None:
    """The name of the files of the first of several modalities."""
    if not reading.modalities or not reading.pattern or _MODALITY not in reading.pattern:
        return None
    return _named(reading, reading.modalities[0])


def _named(reading: VolumeReading, modality: str) -> Pattern:
    return Pattern(str(reading.pattern).replace(_MODALITY, modality), "data.images", (".nii", ".nii.gz", ".nrrd"))


def files_of_case(reading: VolumeReading, paths: list[Path]) -> list[Path]:
    """The files of a case, which a single one names where there are several modalities.

    Raises:
        ImageFileError: there are fewer.
    """
    modalities = reading.modalities or [""]
    if len(paths) == len(modalities):
        return paths
    first = first_modality(reading)
    parts = None if first is None or len(paths) != 1 else first.match(paths[0].name)
    if parts is None:
        raise ImageFileError(
            f"{len(paths)} file, {paths[0]}, was given, and the network takes {len(modalities)} modalities: give a "
            f"list of {', '.join(modalities)}."
        )
    found = list(paths)
    for modality in modalities[1:]:
        fitting = [one.path for one in _named(reading, modality).find(paths[0].parent) if one.parts == parts]
        if not fitting:
            raise ImageFileError(f"{paths[0]} has no {modality} beside it.")
        found.append(fitting[0])
    return found


def _back(values: Tensor, reading: VolumeReading, file: Volume) -> Tensor:
    """Labels `(X, Y, Z)` or probabilities `(C, X, Y, Z)`, as the voxels of the file lie."""
    array: Array = values.numpy() if values.ndim == 3 else values.movedim(0, -1).numpy()
    back = torch.from_numpy(reading.turned_back(array, file).copy())
    return back if values.ndim == 3 else back.movedim(-1, 0).contiguous()
