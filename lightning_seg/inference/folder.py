"""Prediction of image files."""

import errno
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lightning_seg.csv_files import write_csv
from lightning_seg.data.image_files import MAX_PIXELS, ImageFileError
from lightning_seg.files import atomic_files
from lightning_seg.inference.inputs import images_of, together
from lightning_seg.inference.made_by import remember
from lightning_seg.inference.masks import PNG, Labels, Palette, give_back, mask_picture, probabilities_array
from lightning_seg.inference.outlines import areas as areas_of
from lightning_seg.inference.outlines import geojson
from lightning_seg.inference.outlines import run_lengths as run_lengths_of
from lightning_seg.inference.predictor import Predictor, predicted_patches
from lightning_seg.inference.raster_files import row_blocks, write_geo_mask, write_overlay
from lightning_seg.inference.rasters import Raster, is_geotiff, open_raster
from lightning_seg.inference.scaled import ScaledRaster
from lightning_seg.inference.shares import Share
from lightning_seg.inference.tiling import Sides, Tiling, check_tiling
from lightning_seg.inference.video import VIDEO_SUFFIXES, predict_video
from lightning_seg.inference.volumes import Case, find_cases, targets, write_case
from lightning_seg.text import number_of, printable

_PRECISIONS = {"32-true": torch.float32, "16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}
# Of a disk, by which no further image could be written either.
_ENDS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclass
class PredictedFiles:
    """What became of the images.

    Attributes:
        written: images whose results were written.
        kept: images whose results were there before, with `resume`.
        failed: each image that could not be read or whose results could not be written, and why.
    """

    written: int = 0
    kept: int = 0
    failed: list[tuple[Path, str]] = field(default_factory=list)


_FILES = ("mask", "overlay", "probabilities", "contours", "run_lengths")


@dataclass(frozen=True)
class _Job:
    source: Path
    name: str
    mask: Path | None
    overlay: Path | None
    probabilities: Path | None
    contours: Path | None = None
    run_lengths: Path | None = None

    @property
    def has_labels(self) -> bool:
        """Whether anything but probabilities is written."""
        return self.mask is not None

    def targets(self) -> list[Path]:
        return [path for name in _FILES if (path := getattr(self, name)) is not None]

    def at(self, places: Sequence[Path]) -> "_Job":
        """The same with these targets."""
        named = [name for name in _FILES if getattr(self, name) is not None]
        files: dict[str, Any] = dict(zip(named, places, strict=True))
        return replace(self, **files)


def predict_files(
    module: Predictor,
    input: str | Path | Sequence[Path],
    output: str | Path,
    *,
    palette: Palette,
    scale: float = 1.0,
    tile: Sides | None = None,
    margin: Sides | None = None,
    tiling: Tiling | None = None,
    overlay: bool = False,
    probabilities: bool = False,
    contours: bool = False,
    simplify: float = 0.0,
    run_lengths: bool = False,
    areas: bool = False,
    class_names: Sequence[str] | None = None,
    overwrite: bool = False,
    resume: bool = False,
    batch_size: int = 1,
    precision: str = "32-true",
    max_pixels: int = MAX_PIXELS,
    progress: bool = True,
    share: Share | None = None,
    made_by: Mapping[str, Any] | None = None,
) -> PredictedFiles:
    """Predicts an image, or all images of a folder, a pattern or a list; sub-folders are kept below `output`.

    For an image `NAME.jpg` it writes `NAME.png`, an index mask at the image's own size, as displayed (EXIF orientation
    applied); `NAME_overlay.png`, the image with the mask's colors over it; `NAME_probabilities.npy`, float16
    `(num_classes, H, W)`. A multilabel module has no index masks: for it only probabilities are written, and they must
    be asked for. Hidden files and folders, and what lies in `output`, are not taken as input; links are followed, each
    folder once. All mistakes but unreadable images are found before anything is written.

    A GeoTIFF is read by windows, and its mask and overlay are GeoTIFFs with its CRS and transform, `NAME.tif`; where
    the image has no data, the mask has its nodata value. `NAME.geojson` holds contours, `NAME_rle.json` COCO's
    run lengths, and `areas.csv` the pixels of each class in each image.

    Of a video only the overlay is written, `NAME_overlay.mp4`, with the extra `video`. Those in a folder are not taken.

    Args:
        module: a `SegmentationModule` in evaluation mode, for example from `lightning_seg.load_module`.
        input: an image or a video, a folder, a pattern (`photos/**/*.jpg`), or a `.txt` file with a path in each
            line, relative to it; or paths, whose common folder is left out below `output`.
        output: a folder, made if it does not exist.
        palette: `(red, green, blue)` of each mask value (binary: two).
        scale: the size at which the network sees images, relative to their own; logits are brought back bilinearly.
        tile: larger images, as the network sees them, are cut into tiles of this side, or of one for each
            axis (see `predict_tiled`). Default: the module's own, with which it is also tested; None there: images go
            through whole.
        margin: context around a tile's center, in pixels. Default: the module's own.
        tiling: how tiles are joined, `crop` or `smooth`. Default: the module's own, else `crop`.
        overlay: also write overlays.
        probabilities: also write probabilities.
        contours: also write contours, in the image's CRS, else in pixels.
        simplify: leave out points of contours that are nearer to them than so many pixels.
        run_lengths: also write run lengths.
        areas: also write areas.
        class_names: of each mask value, for these. Default: the module's.
        batch_size: tiles that go through the network together.
        precision: `32-true`, `16-mixed` or `bf16-mixed`.
        resume: keep images whose files are all there, and do the rest.
        overwrite: replace existing files in `output`; an input is never replaced.
        max_pixels: an image of more pixels is skipped, see `lightning_seg.data.load_image`.
        progress: show a progress bar, and unreadable files as they are met.
        share: of several processes that were called alike, and of which each predicts its share of the files; rank
            zero finds the files and what is wrong, shows its own progress, and writes areas. Default: one process.
        made_by: what results depend on, checkpoints and options, which is kept in `output`, so that `resume` refuses
            to keep results of others. Default: that is the caller's to know.

    Returns:
        How many images were written, and which could not be read, of all processes.

    Raises:
        FileNotFoundError: the input does not exist, or holds no image.
        FileExistsError: a file to be written exists, or is an input.
        OSError: a folder cannot be read, or the disk is full; what was being written is removed.
        ValueError: arguments that cannot be, or two images with the same output.
    """
    share = Share() if share is None else share
    input = Path(input).expanduser() if isinstance(input, str | Path) else list(input)
    output = Path(output).expanduser()
    tile = module.tile if tile is None else tile
    margin = module.margin if margin is None else margin
    own: Tiling = getattr(module, "tiling", "crop")
    tiling = own if tiling is None else tiling
    if resume and overwrite:
        raise ValueError("resume=true keeps existing files and overwrite=true replaces them: choose one.")
    if precision not in _PRECISIONS:
        raise ValueError(f"precision={precision} is not one of {', '.join(_PRECISIONS)}.")
    check_tiling(tile, margin, tiling)

    def begin(kept: int) -> None:
        _make_folder(output)
        if made_by is not None:
            remember(output, made_by, resume=resume, overwrite=overwrite, kept=kept)

    if getattr(module, "volumes", None) is not None:
        if overlay or contours or run_lengths:
            raise ValueError("overlay, contours and run_lengths are for 2-D images: leave them out for volumes.")
        return _predict_volumes(
            module,
            input,
            output,
            probabilities=probabilities,
            areas=_mask_names(module, class_names, len(palette)) if areas else None,
            overwrite=overwrite,
            resume=resume,
            precision=precision,
            progress=progress,
            share=share,
            tiles={"tile": tile, "margin": margin, "tiling": tiling},
            begin=begin,
        )
    _check_arguments(module, palette, scale, overlay, probabilities)
    if module.task == "multilabel" and (contours or run_lengths or areas):
        raise ValueError("task=multilabel allows several labels a pixel, so it has no contours, run lengths or areas.")
    outputs = {"overlay": overlay, "probabilities": probabilities, "contours": contours, "run_lengths": run_lengths}
    table = output / "areas.csv"

    def plan() -> tuple[list[_Job], list[_Job]]:
        jobs = _plan(input, output, module.task != "multilabel", {**outputs, "areas": areas})
        _check_targets(jobs, overwrite or resume)
        if areas and table.exists() and not (overwrite or resume):
            raise FileExistsError(f"{table} exists already: name another output folder, or set overwrite=true.")
        left = [job for job in jobs if not (resume and all(path.exists() for path in job.targets()))]
        begin(len(jobs) - len(left))
        return jobs, left

    jobs, left = share.planned(plan)
    names = _mask_names(module, class_names, len(palette))
    reading = getattr(module, "reading", None)
    options = _Options(palette, names, scale, simplify, batch_size, max_pixels, overwrite or resume, reading, areas)
    result = PredictedFiles()
    counted: dict[str, list[int]] = {}
    kept = len(jobs) - len(left)
    mine = share.of(left)
    autocast = torch.autocast(module.device.type, _PRECISIONS[precision], enabled=precision != "32-true")
    with (
        _progress(progress, share) as bar,
        torch.inference_mode(),
        _tiled_by(module, tile=tile, margin=margin, tiling=tiling),
    ):
        shown = bar.add_task("", total=kept + len(mine), completed=kept)
        for job, outcome in _beside_each_other(module, mine, options, autocast):
            try:
                counted[job.name] = outcome()
                result.written += 1
            except Exception as error:
                _end_if_unwritable(error, output, f"Predicted before: {number_of(result.written, 'image')}.")
                reason = _reason_to_skip(error)
                if reason is None:
                    raise
                result.failed.append((job.source, reason))
                if progress and share.processes == 1:  # of several, they are said at the end, in order
                    line = printable(f"skipped {job.source}: {reason}")
                    bar.console.print(line, markup=False, emoji=False, highlight=False, soft_wrap=True)
            bar.advance(shown)
    result, counted = _of_all(share, result, counted, [job.source for job in left])
    result.kept = kept
    if areas and share.rank == 0:
        new = set(left)
        counted |= {job.name: _areas_of_mask(job.mask, len(names)) for job in jobs if job not in new and job.mask}
        rows = ((job.name, *counted[job.name]) for job in jobs if job.name in counted)
        _write_table(table, [("image", *names), *rows], output)
    return result


def _progress(wanted: bool, share: Share) -> Progress:
    """The bar of rank zero, of its own files."""
    what = "predicting" if share.processes == 1 else f"predicting, process 1 of {share.processes}"
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, disable=not wanted or share.rank > 0)


def _of_all(
    share: Share, own: PredictedFiles, counted: Mapping[str, list[int]], order: Sequence[Path]
) -> tuple[PredictedFiles, dict[str, list[int]]]:
    """What became of the images of all processes, in their order, and their areas."""
    parts = share.gathered((own, counted))
    places = {path: place for place, path in enumerate(order)}
    whole = PredictedFiles(
        sum(part.written for part, _ in parts),
        sum(part.kept for part, _ in parts),
        sorted((one for part, _ in parts for one in part.failed), key=lambda one: places[one[0]]),
    )
    return whole, {name: areas for _, some in parts for name, areas in some.items()}


def _predict_volumes(
    module: Predictor,
    input: Path | list[Path],
    output: Path,
    *,
    probabilities: bool,
    areas: Sequence[str] | None,
    overwrite: bool,
    resume: bool,
    precision: str,
    progress: bool,
    share: Share,
    tiles: Mapping[str, Any],
    begin: Callable[[int], None],
) -> PredictedFiles:
    """The same of volumes, see `lightning_seg.inference.volumes`."""
    table = output / "areas.csv"

    def plan() -> Sequence[Case]:
        cases = find_cases(input, module.volumes)  # type: ignore[attr-defined]
        planned: set[Path] = set()
        for case in cases:
            for target in targets(case, output, probabilities=probabilities):
                if target in planned or target.resolve() in [file.resolve() for file in case.files]:
                    raise ValueError(
                        f"{case.files[0]} would be written to {target}, as another or over itself: rename it."
                    )
                planned.add(target)
        existing = [path for path in (*sorted(planned), *([table] if areas else [])) if path.exists()]
        if existing and not (overwrite or resume):
            raise FileExistsError(f"{existing[0]} exists already: name another output folder, or set overwrite=true.")
        begin(len(existing) if resume else 0)
        return cases

    cases = share.planned(plan)
    result = PredictedFiles()
    counted: dict[str, list[int]] = {}
    autocast = torch.autocast(module.device.type, _PRECISIONS[precision], enabled=precision != "32-true")
    with _progress(progress, share) as bar, _tiled_by(module, **tiles):
        for case in bar.track(share.of(cases)):
            there = all(path.exists() for path in targets(case, output, probabilities=probabilities))
            if resume and there and not areas:
                result.kept += 1
                continue
            try:
                with autocast:
                    voxels = write_case(
                        module, case, output, probabilities=probabilities, overwrite=overwrite or resume
                    )
            except Exception as error:
                _end_if_unwritable(error, output, f"Predicted before: {number_of(result.written, 'volume')}.")
                reason = _reason_to_skip(error)
                if reason is None:
                    raise
                result.failed.append((case.files[0], reason))
                continue
            counted[case.target.as_posix()] = voxels
            result.written += 1
    result, counted = _of_all(share, result, counted, [case.files[0] for case in cases])
    if areas and share.rank == 0:
        names = [case.target.as_posix() for case in cases]
        rows = ((name, *counted[name]) for name in names if name in counted)
        _write_table(table, [("volume", *areas), *rows], output)
    return result


def _beside_each_other(
    module: Predictor, jobs: Sequence[_Job], options: "_Options", autocast: AbstractContextManager[Any]
) -> Iterator[tuple[_Job, Callable[[], list[int]]]]:
    """Each image, in order, with a function that gives its areas or raises what went wrong.

    While one goes through the network, the next is read, and what came of the one before is written.
    """
    with ThreadPoolExecutor(2, "images") as threads:
        reads = [threads.submit(_read, module, job, options) for job in jobs[:1]]
        written: tuple[_Job, Callable[[], list[int]]] | None = None
        for index, job in enumerate(jobs):
            reads += [threads.submit(_read, module, one, options) for one in jobs[index + 1 : index + 2]]
            try:
                with autocast:
                    outcome = _predict(module, job, reads.pop(0).result(), options, threads)
            except Exception as error:
                outcome = partial(_raise, error)
            if written is not None:
                yield written
            written = job, outcome
        if written is not None:
            yield written


def _raise(error: Exception) -> list[int]:
    raise error


def _make_folder(output: Path) -> None:
    """Makes the output folder, without which no image could be written."""
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"output={output} cannot be made: {(error.strerror or str(error)).lower()}.") from None
    if not os.access(output, os.W_OK | os.X_OK):
        raise PermissionError(f"output={output} cannot be written to: permission denied.")


def _end_if_unwritable(error: Exception, output: Path, before: str) -> None:
    """Ends a prediction whose disk is full or read-only, which the next file would find again."""
    if isinstance(error, OSError) and error.errno in _ENDS:
        raise OSError(f"output={output} cannot be written to: {os.strerror(error.errno).lower()}. {before}") from None


def _write_table(path: Path, rows: Iterable[Sequence[Any]], output: Path) -> None:
    try:
        write_csv(path, rows)
    except OSError as error:
        _end_if_unwritable(error, output, "All was predicted, and areas.csv is missing.")
        raise


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
def _tiled_by(module: Predictor, **options: Sides | str | None) -> Iterator[None]:
    """A module that cuts tiles like this, and afterwards as it did before."""
    before = {name: getattr(module, name, None) for name in options}
    for name, value in options.items():
        setattr(module, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, "crop" if name == "tiling" and value is None else value)


@dataclass(frozen=True)
class _Options:
    palette: Palette
    names: Sequence[str]
    scale: float
    simplify: float
    batch_size: int
    max_pixels: int
    overwrite: bool
    reading: Mapping[str, Any] | None
    areas: bool


def _read(module: Predictor, job: _Job, options: _Options) -> Raster | None:
    """An image that is decoded as a whole, or mapped; None for one that is read by windows."""
    if job.source.suffix.lower() in (".tif", ".tiff", *VIDEO_SUFFIXES):
        return None  # what reads windows and frames belongs to one thread
    with open_raster(job.source, max_pixels=options.max_pixels, reading=options.reading) as raster:
        return raster


def _predict(
    module: Predictor,
    job: _Job,
    read: Raster | None,
    options: _Options,
    threads: ThreadPoolExecutor,
) -> Callable[[], list[int]]:
    """Predicts an image; what is returned waits until all that is asked for is written, and gives the areas."""
    if job.source.suffix.lower() in VIDEO_SUFFIXES and job.overlay is not None:
        if options.reading is not None:
            raise ImageFileError(f"{job.source} is a video, and the network was trained on images of other channels.")
        predict_video(
            module,
            job.source,
            job.overlay,
            palette=options.palette,
            scale=options.scale,
            batch_size=options.batch_size,
            max_pixels=options.max_pixels,
            overwrite=options.overwrite,
        )
        return list
    with ExitStack() as files:
        # All of an image's files appear together, or none does.
        job = job.at(files.enter_context(atomic_files(job.targets(), overwrite=options.overwrite)))
        if read is not None:
            labels = _labels(module, job, read, options)
            return threads.submit(_write, job, read, labels, options, files.pop_all()).result
        with open_raster(job.source, max_pixels=options.max_pixels, reading=options.reading) as raster:
            areas = _write(job, raster, _labels(module, job, raster, options), options, files.pop_all())
            return lambda: areas


def _labels(module: Predictor, job: _Job, raster: Raster, options: _Options) -> Labels:
    """The labels of an image, whose probabilities are written where they are asked for."""
    height, width = raster.size
    seen = raster.seen if options.scale == 1 else ScaledRaster(raster.seen, options.scale)
    patches = predicted_patches(module, seen, (height, width), options.batch_size)
    labels: Labels = np.zeros((height, width), np.uint8 if len(options.palette) <= 256 else np.uint16)

    def fill(probabilities: np.ndarray | None) -> None:  # type: ignore[type-arg]
        for rows, columns, logits in patches:
            if job.has_labels:
                labels[rows, columns] = module.predict_labels(logits)[0].cpu().numpy()
            if probabilities is not None:
                probabilities[:, rows, columns] = module.probabilities(logits)[0].float().cpu().numpy()
                give_back(probabilities)

    if job.probabilities is None:
        fill(None)
    else:
        shape = (module.num_classes, height, width)
        array = probabilities_array(job.probabilities, shape)
        fill(array)
        array.flush()
    return labels


def _write(job: _Job, raster: Raster, labels: Labels, options: _Options, files: ExitStack) -> list[int]:
    """Writes what is asked for of labels, in the end to `files`; the pixels of each class."""
    with files:
        invalid = _invalid(raster)
        if job.overlay is not None:
            write_overlay(job.overlay, raster, labels, options.palette, invalid)
        if job.contours is not None:
            found = geojson(labels, options.names, raster.georeference, invalid, options.simplify)
            _write_text(job.contours, found)
        if job.run_lengths is not None:
            _write_text(job.run_lengths, run_lengths_of(labels, options.names, invalid))
        if job.mask is None:
            return []
        if job.mask.suffix == ".tif":
            write_geo_mask(job.mask, raster, labels, options.palette, invalid)
        else:
            mask_picture(labels, options.palette).save(job.mask, **PNG)
        return areas_of(labels, len(options.names), invalid) if options.areas else []


def _invalid(raster: Raster) -> np.ndarray | None:  # type: ignore[type-arg]
    """The pixels without data, bool `(H, W)`, by blocks of rows."""
    parts = [raster.invalid(rows) for rows in row_blocks(raster.size[0])]
    return None if parts[0] is None else np.concatenate(parts)  # type: ignore[arg-type]


def _write_text(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")


def _mask_names(module: Predictor, given: Sequence[str] | None, values: int) -> list[str]:
    names = list(getattr(module, "class_names", []) if given is None else given)
    if module.task == "binary" and len(names) == 1:
        names = ["background", *names]
    return names if len(names) == values else [str(index) for index in range(values)]


def _areas_of_mask(path: Path, classes: int) -> list[int]:
    """The pixels of each class in a mask that was written before."""
    if path.suffix == ".tif":
        import rasterio

        with rasterio.open(path, driver="GTiff") as file:
            labels = file.read(1)
            return areas_of(labels, classes, None if file.nodata is None else labels == file.nodata)
    with Image.open(path, formats=["PNG"]) as picture:
        return areas_of(np.asarray(picture), classes)


def _check_arguments(module: Predictor, palette: Palette, scale: float, overlay: bool, probabilities: bool) -> None:
    if module.training:
        raise ValueError("the module is in training mode, where predictions are random: call module.eval() first.")
    if module.task == "multilabel" and (overlay or not probabilities):
        raise ValueError(
            "task=multilabel allows several labels a pixel, which neither an index mask nor an overlay can show: "
            "ask for probabilities=true and overlay=false."
        )
    values = 2 if module.task == "binary" else module.num_classes
    if module.task != "multilabel" and len(palette) != values:
        raise ValueError(f"the palette has {len(palette)} colors for {values} mask values: give one for each.")
    if not scale > 0:
        raise ValueError(f"scale={scale} must be positive; 0.5 shows the network images of half the size.")


def _plan(input: Path | list[Path], output: Path, masks: bool, outputs: Mapping[str, bool]) -> list[_Job]:
    if output.exists() and not output.is_dir():
        raise ValueError(f"output={output} is a file; name a folder.")
    jobs = []
    for source, folder in images_of(input, output) if isinstance(input, Path) else together(input):
        start = output / folder
        if source.suffix.lower() in VIDEO_SUFFIXES:
            unwritten = [name for name, asked in outputs.items() if asked and name != "overlay"]
            if unwritten or not masks:
                what = f"leave {unwritten[0]} out" if unwritten else "which task=multilabel has none of"
                raise ValueError(f"{source} is a video, of which only the overlay is written: {what}.")
            name = (folder / source.name).as_posix()
            jobs.append(_Job(source, name, None, start / f"{source.stem}_overlay.mp4", None))
            continue
        suffix = ".tif" if is_geotiff(source) else ".png"
        ends = {
            "overlay": f"_overlay{suffix}",
            "probabilities": "_probabilities.npy",
            "contours": ".geojson",
            "run_lengths": "_rle.json",
        }
        files = {name: start / f"{source.stem}{end}" if outputs[name] else None for name, end in ends.items()}
        mask = start / f"{source.stem}{suffix}" if masks else None
        jobs.append(_Job(source, (folder / source.name).as_posix(), mask, **files))
    return jobs


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
