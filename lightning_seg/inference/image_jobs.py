"""Prediction of image files: each read, predicted and written beside the others."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lightning_seg.data.image_files import ImageFileError
from lightning_seg.data.images import IMAGE_SUFFIXES
from lightning_seg.files import atomic_files
from lightning_seg.inference.inputs import FileKind, files_of, together
from lightning_seg.inference.jobs import Areas, JobOptions
from lightning_seg.inference.masks import PNG, Labels, give_back, mask_picture, probabilities_array
from lightning_seg.inference.outlines import areas, geojson
from lightning_seg.inference.outlines import run_lengths as run_lengths_of
from lightning_seg.inference.predictor import Predictor, predicted_patches
from lightning_seg.inference.raster_files import row_blocks, write_geo_mask, write_overlay
from lightning_seg.inference.rasters import Raster, is_geotiff, open_raster
from lightning_seg.inference.scaled import ScaledRaster
from lightning_seg.inference.video import VIDEO_SUFFIXES, predict_video

_IMAGES = FileKind(
    "an image",
    " ".join(suffix[1:] for suffix in IMAGE_SUFFIXES),
    lambda path: path.suffix.lower() in IMAGE_SUFFIXES,
    lambda path: path.suffix.lower() in (*IMAGE_SUFFIXES, ".npy", *VIDEO_SUFFIXES),
)
_FILES = ("mask", "overlay", "probabilities", "contours", "run_lengths")


@dataclass(frozen=True)
class ImageJob:
    """An image, or a video, and its files; None: what is not written."""

    source: Path
    name: str
    mask: Path | None
    overlay: Path | None
    probabilities: Path | None
    contours: Path | None = None
    run_lengths: Path | None = None

    @property
    def sources(self) -> Sequence[Path]:
        """The image."""
        return [self.source]

    @property
    def has_labels(self) -> bool:
        """Whether anything but probabilities is written."""
        return self.mask is not None

    def targets(self) -> list[Path]:
        """All files that are written."""
        return [path for name in _FILES if (path := getattr(self, name)) is not None]

    def at(self, places: Sequence[Path]) -> "ImageJob":
        """The same with these targets."""
        named = [name for name in _FILES if getattr(self, name) is not None]
        files: dict[str, Any] = dict(zip(named, places, strict=True))
        return replace(self, **files)


class ImageJobs:
    """Images: a folder of them, a pattern, a list, or one; see `lightning_seg.inference.predict_files`.

    Args:
        module: in evaluation mode.
        input: a path, or several.
        output: the folder.
        outputs: which of `overlay`, `probabilities`, `contours`, `run_lengths` and `areas` are asked for.
        options: how.
    """

    noun = "image"

    def __init__(
        self,
        module: Predictor,
        input: Path | list[Path],
        output: Path,
        outputs: Mapping[str, bool],
        options: JobOptions,
    ) -> None:
        self.module, self.input, self.output, self.outputs, self.options = module, input, output, outputs, options
        self.reading: Mapping[str, Any] | None = getattr(module, "reading", None)

    def plan(self) -> list[ImageJob]:
        """All images, in order; see `lightning_seg.inference.jobs.Jobs`."""
        given = self.input
        found = files_of(given, self.output, _IMAGES) if isinstance(given, Path) else together(given)
        return [self._job(source, folder) for source, folder in found]

    def _job(self, source: Path, folder: Path) -> ImageJob:
        start, name = self.output / folder, (folder / source.name).as_posix()
        has_labels = self.module.task != "multilabel"
        if source.suffix.lower() in VIDEO_SUFFIXES:
            unwritten = [output for output, asked in self.outputs.items() if asked and output != "overlay"]
            if unwritten or not has_labels:
                what = f"leave {unwritten[0]} out" if unwritten else "which task=multilabel has none of"
                raise ValueError(f"{source} is a video, of which only the overlay is written: {what}.")
            return ImageJob(source, name, None, start / f"{source.stem}_overlay.mp4", None)
        suffix = ".tif" if is_geotiff(source) else ".png"
        ends = {
            "overlay": f"_overlay{suffix}",
            "probabilities": "_probabilities.npy",
            "contours": ".geojson",
            "run_lengths": "_rle.json",
        }
        files = {kind: start / f"{source.stem}{end}" if self.outputs[kind] else None for kind, end in ends.items()}
        return ImageJob(source, name, start / f"{source.stem}{suffix}" if has_labels else None, **files)

    def predicted(self, jobs: Sequence[ImageJob]) -> Iterator[tuple[ImageJob, Callable[[], Areas]]]:
        """Each in order; while one goes through the network, the next is read, and the one before written."""
        with ThreadPoolExecutor(2, "images") as threads:
            reads = [threads.submit(self._read, job) for job in jobs[:1]]
            written: tuple[ImageJob, Callable[[], Areas]] | None = None
            for index, job in enumerate(jobs):
                reads += [threads.submit(self._read, one) for one in jobs[index + 1 : index + 2]]
                try:
                    outcome = self._predict(job, reads.pop(0).result(), threads)
                except Exception as error:
                    outcome = partial(_raise, error)
                if written is not None:
                    yield written
                written = job, outcome
            if written is not None:
                yield written

    def areas_of_mask(self, mask: Path) -> Areas:
        """The pixels of each value in a mask that was written before."""
        values = len(self.options.names)
        if mask.suffix == ".tif":
            import rasterio

            with rasterio.open(mask, driver="GTiff") as file:
                labels = file.read(1)
                return areas(labels, values, None if file.nodata is None else labels == file.nodata)
        with Image.open(mask, formats=["PNG"]) as picture:
            return areas(np.asarray(picture), values)

    def _open(self, job: ImageJob) -> AbstractContextManager[Raster]:
        return open_raster(job.source, max_pixels=self.options.max_pixels, reading=self.reading)

    def _read(self, job: ImageJob) -> Raster | None:
        """An image that is decoded as a whole, or mapped; None for one that is read by windows."""
        if job.source.suffix.lower() in (".tif", ".tiff", *VIDEO_SUFFIXES):
            return None  # what reads windows and frames belongs to one thread
        with self._open(job) as raster:
            return raster

    def _predict(self, job: ImageJob, read: Raster | None, threads: ThreadPoolExecutor) -> Callable[[], Areas]:
        """Predicts an image; what is returned waits until all that is asked for is written, and gives the areas."""
        if job.source.suffix.lower() in VIDEO_SUFFIXES and job.overlay is not None:
            if self.reading is not None:
                raise ImageFileError(
                    f"{job.source} is a video, and the network was trained on images of other channels."
                )
            predict_video(
                self.module,
                job.source,
                job.overlay,
                palette=self.options.palette,
                scale=self.options.scale,
                batch_size=self.options.batch_size,
                max_pixels=self.options.max_pixels,
                overwrite=self.options.overwrite,
            )
            return list
        with ExitStack() as files:
            # All of an image's files appear together, or none does.
            job = job.at(files.enter_context(atomic_files(job.targets(), overwrite=self.options.overwrite)))
            if read is not None:
                labels = self._labels(job, read)
                return threads.submit(self._write, job, read, labels, files.pop_all()).result
            with self._open(job) as raster:
                counted = self._write(job, raster, self._labels(job, raster), files.pop_all())
                return lambda: counted

    def _labels(self, job: ImageJob, raster: Raster) -> Labels:
        """The labels of an image, whose probabilities are written where they are asked for."""
        height, width = raster.size
        seen = raster.seen if self.options.scale == 1 else ScaledRaster(raster.seen, self.options.scale)
        patches = predicted_patches(self.module, seen, (height, width), self.options.batch_size)
        labels: Labels = np.zeros((height, width), np.uint8 if len(self.options.palette) <= 256 else np.uint16)

        def fill(probabilities: np.ndarray | None) -> None:  # type: ignore[type-arg]
            for rows, columns, logits in patches:
                if job.has_labels:
                    labels[rows, columns] = self.module.predict_labels(logits)[0].cpu().numpy()
                if probabilities is not None:
                    probabilities[:, rows, columns] = self.module.probabilities(logits)[0].float().cpu().numpy()
                    give_back(probabilities)

        if job.probabilities is None:
            fill(None)
        else:
            shape = (self.module.num_classes, height, width)
            array = probabilities_array(job.probabilities, shape)
            fill(array)
            array.flush()
        return labels

    def _write(self, job: ImageJob, raster: Raster, labels: Labels, files: ExitStack) -> Areas:
        """Writes what is asked for of labels, in the end to `files`; the pixels of each class."""
        with files:
            invalid = _invalid(raster)
            if job.overlay is not None:
                write_overlay(job.overlay, raster, labels, self.options.palette, invalid)
            if job.contours is not None:
                found = geojson(labels, self.options.names, raster.georeference, invalid, self.options.simplify)
                _write_text(job.contours, found)
            if job.run_lengths is not None:
                _write_text(job.run_lengths, run_lengths_of(labels, self.options.names, invalid))
            if job.mask is None:
                return []
            if job.mask.suffix == ".tif":
                write_geo_mask(job.mask, raster, labels, self.options.palette, invalid)
            else:
                mask_picture(labels, self.options.palette).save(job.mask, **PNG)
            return areas(labels, len(self.options.names), invalid) if self.options.areas else []


def _raise(error: Exception) -> Areas:
    raise error


def _invalid(raster: Raster) -> np.ndarray | None:  # type: ignore[type-arg]
    """The pixels without data, bool `(H, W)`, by blocks of rows."""
    parts = [raster.invalid(rows) for rows in row_blocks(raster.size[0])]
    return None if parts[0] is None else np.concatenate(parts)  # type: ignore[arg-type]


def _write_text(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")
