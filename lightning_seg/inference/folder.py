"""Prediction of the files of a folder, a list or a pattern."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lightning_seg.csv_files import write_csv
from lightning_seg.data.image_files import MAX_PIXELS
from lightning_seg.inference.image_jobs import ImageJobs
from lightning_seg.inference.jobs import (
    Areas,
    Job,
    JobOptions,
    Jobs,
    PredictedFiles,
    check_outputs,
    check_targets,
    end_if_unwritable,
    reason_to_skip,
)
from lightning_seg.inference.made_by import remember
from lightning_seg.inference.masks import Palette
from lightning_seg.inference.predictor import Predictor
from lightning_seg.inference.shares import Share
from lightning_seg.inference.tiling import Sides, Tiling, check_tiling
from lightning_seg.inference.volume_jobs import VolumeJobs
from lightning_seg.text import number_of

_PRECISIONS = {"32-true": torch.float32, "16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}


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
        progress: show a progress bar, and how many files were skipped.
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
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}: at least 1 tile goes through the network.")
    if not simplify >= 0:
        raise ValueError(f"simplify={simplify} is a distance in pixels, 0 or more.")
    check_tiling(tile, margin, tiling)
    of_labels = {"contours": contours, "run_lengths": run_lengths, "areas": areas}
    names = _mask_names(module, class_names, len(palette))
    options = JobOptions(palette, names, scale, simplify, batch_size, max_pixels, overwrite or resume, areas)
    jobs_of: Jobs[Any]
    if getattr(module, "volumes", None) is not None:
        if overlay or contours or run_lengths:
            raise ValueError("overlay, contours and run_lengths are for 2-D images: leave them out for volumes.")
        jobs_of = VolumeJobs(module, input, output, options, probabilities=probabilities)
    else:
        outputs = {"overlay": overlay, "probabilities": probabilities, **of_labels}
        jobs_of = ImageJobs(module, input, output, outputs, options)
    check_outputs(module, palette, scale, overlay=overlay, probabilities=probabilities, others=any(of_labels.values()))
    table = output / "areas.csv"

    def plan() -> tuple[Sequence[Job], Sequence[Job]]:
        if output.exists() and not output.is_dir():
            raise ValueError(f"output={output} is a file; name a folder.")
        jobs: Sequence[Job] = jobs_of.plan()
        check_targets(jobs, [table] if areas else [], overwrite=overwrite or resume)
        left = [job for job in jobs if not (resume and all(path.exists() for path in job.targets()))]
        _make_folder(output)
        if made_by is not None:
            remember(output, made_by, resume=resume, overwrite=overwrite, kept=len(jobs) - len(left))
        return jobs, left

    jobs, left = share.planned(plan)
    autocast = torch.autocast(module.device.type, _PRECISIONS[precision], enabled=precision != "32-true")
    with torch.inference_mode(), autocast, _tiled_by(module, tile=tile, margin=margin, tiling=tiling):
        result, counted = _predicted(jobs_of, share.of(left), output, share, progress, kept=len(jobs) - len(left))
    result, counted = _of_all(share, result, counted, [job.sources[0] for job in left])
    result.kept, result.noun = len(jobs) - len(left), jobs_of.noun
    if areas and share.rank == 0:
        new = set(left)
        counted |= _areas_of_kept(jobs_of, [job for job in jobs if job not in new], result)
        rows = ((job.name, *counted[job.name]) for job in jobs if job.name in counted)
        _write_table(table, [(jobs_of.noun, *names), *rows], output)
    return result


def _predicted(
    jobs_of: Jobs[Any], mine: Sequence[Job], output: Path, share: Share, progress: bool, *, kept: int
) -> tuple[PredictedFiles, dict[str, Areas]]:
    """What became of the images of this process, and their areas by name."""
    result = PredictedFiles()
    counted: dict[str, Areas] = {}
    with _progress(progress, share) as bar:
        shown = bar.add_task("", total=kept + len(mine), completed=kept, skipped="")
        for job, outcome in jobs_of.predicted(mine):
            try:
                counted[job.name] = outcome()
                result.written += 1
            except Exception as error:
                end_if_unwritable(error, output, f"Predicted before: {number_of(result.written, jobs_of.noun)}.")
                reason = reason_to_skip(error)
                if reason is None:
                    raise
                result.failed.append((job.sources[0], reason))
            skipped = f"{len(result.failed)} skipped" if result.failed else ""
            bar.update(shown, advance=1, skipped=skipped)
    return result, counted


def _areas_of_kept(jobs_of: Jobs[Any], kept: Sequence[Job], result: PredictedFiles) -> dict[str, Areas]:
    """The areas of images that were predicted before, by name; what cannot be read goes to `result.failed`."""
    counted = {}
    for job in kept:
        try:
            if job.mask is not None:
                counted[job.name] = jobs_of.areas_of_mask(job.mask)
        except Exception as error:
            reason = reason_to_skip(error)
            if reason is None:
                raise
            result.failed.append((job.mask, reason))  # type: ignore[arg-type]
    return counted


def _progress(wanted: bool, share: Share) -> Progress:
    """The bar of rank zero, of its own files."""
    what = "predicting" if share.processes == 1 else f"predicting, process 1 of {share.processes}"
    skipped = TextColumn("{task.fields[skipped]}")
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), skipped, TimeRemainingColumn())
    return Progress(*columns, disable=not wanted or share.rank > 0)


def _of_all(
    share: Share, own: PredictedFiles, counted: Mapping[str, Areas], order: Sequence[Path]
) -> tuple[PredictedFiles, dict[str, Areas]]:
    """What became of the images of all processes, in their order, and their areas."""
    parts = share.gathered((own, counted))
    places = {path: place for place, path in enumerate(order)}
    whole = PredictedFiles(
        sum(part.written for part, _ in parts),
        sum(part.kept for part, _ in parts),
        sorted((one for part, _ in parts for one in part.failed), key=lambda one: places[one[0]]),
    )
    return whole, {name: areas for _, some in parts for name, areas in some.items()}


def _make_folder(output: Path) -> None:
    """Makes the output folder, without which no image could be written."""
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"output={output} cannot be made: {(error.strerror or str(error)).lower()}.") from None
    if not os.access(output, os.W_OK | os.X_OK):
        raise PermissionError(f"output={output} cannot be written to: permission denied.")


def _write_table(path: Path, rows: Iterable[Sequence[Any]], output: Path) -> None:
    try:
        write_csv(path, rows)
    except OSError as error:
        end_if_unwritable(error, output, "All was predicted, and areas.csv is missing.")
        raise


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


def _mask_names(module: Predictor, given: Sequence[str] | None, values: int) -> list[str]:
    names = list(getattr(module, "class_names", []) if given is None else given)
    if module.task == "binary" and len(names) == 1:
        names = ["background", *names]
    return names if len(names) == values else [str(index) for index in range(values)]
