"""Prediction of image files."""

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from lightning_seg.data.image_files import MAX_PIXELS, ImageFileError
from lightning_seg.data.images import IMAGE_SUFFIXES, load_image
from lightning_seg.files import atomic_write
from lightning_seg.inference.masks import Labels, Palette, overlay, probabilities_file, write_mask
from lightning_seg.inference.predictor import Predictor, predicted_patches
from lightning_seg.inference.tiling import check_tiling
from lightning_seg.reading import in_words
from lightning_seg.text import printable

# Of a disk, by which no further image could be written either.
_ENDS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclass
class PredictedFiles:
    """What became of the images.

    Attributes:
        written: images whose results were written.
        failed: each image that could not be read or whose results could not be written, and why.
    """

    written: int = 0
    failed: list[tuple[Path, str]] = field(default_factory=list)


@dataclass(frozen=True)
class _Job:
    source: Path
    mask: Path | None
    overlay: Path | None
    probabilities: Path | None

    def targets(self) -> list[Path]:
        return [path for path in (self.mask, self.overlay, self.probabilities) if path is not None]


def predict_files(
    module: Predictor,
    input: str | Path,
    output: str | Path,
    *,
    palette: Palette,
    scale: float = 1.0,
    tile: int | None = None,
    margin: int | None = None,
    overlay: bool = False,
    probabilities: bool = False,
    overwrite: bool = False,
    max_pixels: int = MAX_PIXELS,
    progress: bool = True,
) -> PredictedFiles:
    """Predicts an image, or all images of a folder and its sub-folders, which are kept below `output`.

    For an image `NAME.jpg` it writes `NAME.png`, an index mask at the image's own size, as displayed (EXIF orientation
    applied); `NAME_overlay.png`, the image with the mask's colors over it; `NAME_probabilities.npy`, float16
    `(num_classes, H, W)`. A multilabel module has no index masks: for it only probabilities are written, and they must
    be asked for. Hidden files and folders, and what lies in `output`, are not taken as input; links are followed, each
    folder once. All mistakes but unreadable images are found before anything is written.

    Args:
        module: a `SegmentationModule` in evaluation mode, for example from `lightning_seg.load_module`.
        input: an image or a folder.
        output: a folder, made if it does not exist.
        palette: `(red, green, blue)` of each mask value (binary: two).
        scale: the size at which the network sees images, relative to their own; logits are brought back bilinearly.
        tile: larger images, as the network sees them, are cut into tiles of this side (see `predict_tiled`). Default:
            the module's own, with which it is also tested; None there: images go through whole.
        margin: context around a tile's center, in pixels. Default: the module's own.
        overlay: also write overlays.
        probabilities: also write probabilities.
        overwrite: replace existing files in `output`; an input is never replaced.
        max_pixels: an image of more pixels is skipped, see `lightning_seg.data.load_image`.
        progress: show a progress bar, and unreadable files as they are met.

    Returns:
        How many images were written, and which could not be read.

    Raises:
        FileNotFoundError: the input does not exist, or holds no image.
        FileExistsError: a file to be written exists, or is an input.
        OSError: a folder cannot be read, or the disk is full; what was being written is removed.
        ValueError: arguments that cannot be, or two images with the same output.
    """
    input, output = Path(input).expanduser(), Path(output).expanduser()
    tile = module.tile if tile is None else tile
    margin = module.margin if margin is None else margin
    _check_arguments(module, palette, scale, overlay, probabilities)
    check_tiling(tile, margin)
    jobs = _plan(input, output, module.task != "multilabel", overlay, probabilities)
    _check_targets(jobs, overwrite)
    result = PredictedFiles()
    columns = (TextColumn("predicting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=not progress) as bar, torch.inference_mode(), _tiled_by(module, tile, margin):
        for job in bar.track(jobs):
            try:
                image = load_image(job.source, max_pixels=max_pixels)
                seen = image if scale == 1 else load_image(job.source, scale, max_pixels=max_pixels)
                _predict(module, job, image, seen, palette, overwrite)
            except Exception as error:
                if isinstance(error, OSError) and error.errno in _ENDS:
                    raise OSError(
                        f"output={output} cannot be written to: {os.strerror(error.errno).lower()}. "
                        f"{result.written} images were predicted before."
                    ) from None
                reason = _reason_to_skip(error)
                if reason is None:
                    raise
                result.failed.append((job.source, reason))
                if progress:
                    line = printable(f"skipped {job.source}: {reason}")
                    bar.console.print(line, markup=False, emoji=False, highlight=False, soft_wrap=True)
                continue
            result.written += 1
    return result


def _reason_to_skip(error: Exception) -> str | None:
    """One line about an error of one image, after which the others are predicted; None for any other error."""
    out_of_memory = isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "allocate memory" in str(error)
    )
    if out_of_memory and not (isinstance(error, MemoryError) and str(error)):
        return "it does not fit into memory; a smaller tile takes less of it."
    if isinstance(error, OSError) and error.errno is not None:
        return f"its results cannot be written: {os.strerror(error.errno).lower()}."
    if isinstance(error, OSError | MemoryError | ImageFileError | FloatingPointError):
        return " ".join(str(error).split()) or type(error).__name__
    return None


@contextmanager
def _tiled_by(module: Predictor, tile: int | None, margin: int | None) -> Iterator[None]:
    """A module that cuts tiles of this size, and afterwards those it did before."""
    before = getattr(module, "tile", None), getattr(module, "margin", None)
    module.tile, module.margin = tile, margin
    try:
        yield
    finally:
        module.tile, module.margin = before


def _predict(module: Predictor, job: _Job, image: Tensor, seen: Tensor, palette: Palette, overwrite: bool) -> None:
    height, width = int(image.shape[1]), int(image.shape[2])
    patches = predicted_patches(module, seen[None], (height, width))
    labels: Labels = np.zeros((height, width), np.uint8 if len(palette) <= 256 else np.uint16)

    def fill(probabilities: np.ndarray | None) -> None:  # type: ignore[type-arg]
        for rows, columns, logits in patches:
            if job.mask is not None or job.overlay is not None:
                labels[rows, columns] = module.predict_labels(logits)[0].cpu().numpy()
            if probabilities is not None:
                probabilities[:, rows, columns] = module.probabilities(logits)[0].float().cpu().numpy()

    if job.probabilities is None:
        fill(None)
    else:
        with probabilities_file(job.probabilities, (module.num_classes, height, width), overwrite=overwrite) as array:
            fill(array)
    if job.overlay is not None:
        with atomic_write(job.overlay, overwrite=overwrite) as temporary:
            Image.fromarray(overlay(image, labels, palette)).save(temporary)
    if job.mask is not None:
        write_mask(job.mask, labels, palette, overwrite=overwrite)


def _check_arguments(module: Predictor, palette: Palette, scale: float, overlay: bool, probabilities: bool) -> None:
    if module.training:
        raise ValueError("the module is in training mode, in which predictions are noisy: call module.eval() first.")
    if module.task == "multilabel" and (overlay or not probabilities):
        raise ValueError(
            "task=multilabel has any number of labels a pixel, which neither an index mask nor an overlay can show: "
            "ask for probabilities=true and overlay=false."
        )
    values = 2 if module.task == "binary" else module.num_classes
    if module.task != "multilabel" and len(palette) != values:
        raise ValueError(f"the palette has {len(palette)} colors for {values} mask values: give one for each.")
    if not scale > 0:
        raise ValueError(f"scale={scale} must be positive; 0.5 shows the network images of half the size.")


def _plan(input: Path, output: Path, masks: bool, overlay: bool, probabilities: bool) -> list[_Job]:
    if output.exists() and not output.is_dir():
        raise ValueError(f"output={output} is a file; name a folder.")
    jobs = []
    for source, folder in _sources(input, output):
        start = output / folder
        jobs.append(
            _Job(
                source,
                start / f"{source.stem}.png" if masks else None,
                start / f"{source.stem}_overlay.png" if overlay else None,
                start / f"{source.stem}_probabilities.npy" if probabilities else None,
            )
        )
    return jobs


def _sources(input: Path, output: Path) -> Sequence[tuple[Path, Path]]:
    """Images, each with its folder relative to the input."""
    known = " ".join(suffix[1:] for suffix in IMAGE_SUFFIXES)
    if not input.exists():
        raise FileNotFoundError(f"input={input} does not exist.")
    if input.is_file():
        if input.suffix.lower() not in IMAGE_SUFFIXES:
            raise ValueError(f"input={input} is not an image file; expected a suffix of {known}.")
        return [(input, Path())]
    if os.path.realpath(input) == os.path.realpath(output):
        raise ValueError(f"output={output} is the input folder, so masks would be taken for images: name another one.")
    found = [
        (path, path.parent.relative_to(input))
        for path in _files(input, avoid=os.path.realpath(output))
        if path.suffix.lower() in IMAGE_SUFFIXES
    ]
    if not found:
        raise FileNotFoundError(f"input={input} holds no image; looked for {known} in it and its sub-folders.")
    return sorted(found)


def _files(folder: Path, avoid: str) -> Iterator[Path]:
    """The files in a folder and, through links, its sub-folders, none of them hidden; each folder once."""

    def refuse(error: OSError) -> None:
        raise in_words(error.filename, error) from None

    seen = {avoid, os.path.realpath(folder)}
    for parent, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        new = []
        for name in sorted(name for name in folders if not name.startswith(".")):
            real = os.path.realpath(Path(parent, name))
            if real not in seen:
                seen.add(real)
                new.append(name)
        folders[:] = new
        yield from (Path(parent, name) for name in names if not name.startswith("."))


def _check_targets(jobs: Sequence[_Job], overwrite: bool) -> None:
    sources = {os.path.realpath(job.source) for job in jobs}
    by_target: dict[Path, Path] = {}
    for job in jobs:
        for target in job.targets():
            if target in by_target:
                raise ValueError(
                    f"{by_target[target]} and {job.source} would both be written to {target}: rename one of them."
                )
            by_target[target] = job.source
            if os.path.realpath(target) in sources:
                raise FileExistsError(f"{target} would replace an input image: name another output folder.")
    if not overwrite:
        existing = [target for target in by_target if os.path.exists(target)]
        if existing:
            raise FileExistsError(
                f"{existing[0]} exists already ({len(existing)} of {len(by_target)} files do): "
                "name another output folder, or set overwrite=true to replace them."
            )
