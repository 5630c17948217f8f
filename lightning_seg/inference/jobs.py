"""What is predicted file by file, whatever the files hold, and what may go wrong with one of them."""

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

import torch

from lightning_seg.data.image_files import ImageFileError
from lightning_seg.inference.masks import Palette
from lightning_seg.inference.predictor import Predictor

# Of a disk, by which no further image could be written either.
_ENDS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)

Areas = list[int]  # pixels, or voxels, of each mask value


@dataclass
class PredictedFiles:
    """What became of the images.

    Attributes:
        written: images whose results were written.
        kept: images whose results were there before, with `resume`.
        failed: each image that could not be read or whose results could not be written, and why.
        noun: what one is called, `image` or `volume`.
    """

    written: int = 0
    kept: int = 0
    failed: list[tuple[Path, str]] = field(default_factory=list)
    noun: str = "image"


class Job(Protocol):
    """One image, or volume, and the files that its results are written to."""

    @property
    def sources(self) -> Sequence[Path]:
        """Its files, the first of which it is called by in messages."""

    @property
    def name(self) -> str:
        """What the table of areas calls it."""

    @property
    def mask(self) -> Path | None:
        """Where its labels are written; None: there are none."""

    def targets(self) -> list[Path]:
        """All files that are written."""


AnyJob = TypeVar("AnyJob", bound=Job)


class Jobs(Protocol[AnyJob]):
    """How images, or volumes, are found and predicted.

    Attributes:
        noun: what one is called.
    """

    noun: str

    def plan(self) -> list[AnyJob]:
        """All that the input means, in order.

        Raises:
            FileNotFoundError: there is nothing.
            ValueError: something of it cannot be predicted.
        """

    def predicted(self, jobs: Sequence[AnyJob]) -> Iterator[tuple[AnyJob, Callable[[], Areas]]]:
        """Each in order, with a function that returns when its files are written, or raises what went wrong.

        It gives the areas, if these are asked for.
        """

    def areas_of_mask(self, mask: Path) -> Areas:
        """Those in a mask that was written before."""


@dataclass(frozen=True)
class JobOptions:
    """What is asked for of each image; see `lightning_seg.inference.predict_files`."""

    palette: Palette
    names: Sequence[str]
    scale: float
    simplify: float
    batch_size: int
    max_pixels: int
    overwrite: bool
    areas: bool


def check_outputs(
    module: Predictor, palette: Palette, scale: float, *, overlay: bool, probabilities: bool, others: bool
) -> None:
    """Refuses what a module cannot give.

    Args:
        module: the module.
        palette: `(red, green, blue)` of each mask value.
        scale: the size at which the network sees images.
        overlay: whether overlays are asked for.
        probabilities: whether probabilities are.
        others: whether anything else that follows from labels is.

    Raises:
        ValueError: it is in training mode, or its task has no such results.
    """
    if module.training:
        raise ValueError("the module is in training mode, where predictions are random: call module.eval() first.")
    if module.task == "multilabel" and (overlay or not probabilities):
        raise ValueError(
            "task=multilabel allows several labels a pixel, which neither an index mask nor an overlay can show: "
            "ask for probabilities=true and overlay=false."
        )
    if module.task == "multilabel" and others:
        raise ValueError("task=multilabel allows several labels a pixel, so it has no contours, run lengths or areas.")
    values = 2 if module.task == "binary" else module.num_classes
    if module.task != "multilabel" and len(palette) != values:
        raise ValueError(f"the palette has {len(palette)} colors for {values} mask values: give one for each.")
    if not scale > 0:
        raise ValueError(f"scale={scale} must be positive; 0.5 shows the network images of half the size.")


def check_targets(jobs: Sequence[Job], others: Sequence[Path], *, overwrite: bool) -> None:
    """Refuses results that would be written over each other, over an input, or over what is there.

    Args:
        jobs: all that is predicted.
        others: files that are written beside their targets.
        overwrite: what is there may be replaced, or kept.

    Raises:
        FileExistsError: a file is there, or is an input.
        ValueError: two have the same target.
    """
    sources = {os.path.realpath(source) for job in jobs for source in job.sources}
    by_target: dict[Path, Path] = {}
    for job in jobs:
        for target in job.targets():
            if by_target.get(target) == job.sources[0]:
                raise ValueError(f"{job.sources[0]} is given twice: name it once.")
            if target in by_target:
                raise ValueError(
                    f"{by_target[target]} and {job.sources[0]} would both be written to {target}: rename one of them."
                )
            by_target[target] = job.sources[0]
            if os.path.realpath(target) in sources:
                raise FileExistsError(f"{target} would replace an input image: name another output folder.")
    if not overwrite:
        planned = [*by_target, *others]
        existing = [target for target in planned if os.path.exists(target)]
        if existing:
            raise FileExistsError(
                f"{existing[0]} exists already ({len(existing)} of {len(planned)} files do): "
                "name another output folder, or set overwrite=true to replace them."
            )


def end_if_unwritable(error: Exception, output: Path, before: str) -> None:
    """Ends a prediction whose disk is full or read-only, which the next file would find again."""
    if isinstance(error, OSError) and error.errno in _ENDS:
        raise OSError(f"output={output} cannot be written to: {os.strerror(error.errno).lower()}. {before}") from None


def reason_to_skip(error: Exception) -> str | None:
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
