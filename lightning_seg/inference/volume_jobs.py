"""Prediction of files of volumes: NIfTI masks in the voxels of the input."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from lightning_seg.data.pairs import stem_of
from lightning_seg.data.volume_files import Array, is_volume_file, read_volume, write_nifti
from lightning_seg.data.volume_reading import VolumeReading
from lightning_seg.files import atomic_files
from lightning_seg.inference.inputs import FileKind, files_of, together
from lightning_seg.inference.jobs import Areas, JobOptions
from lightning_seg.inference.predictor import Predictor
from lightning_seg.inference.volumes import files_of_case, first_modality, predict_volume


@dataclass(frozen=True)
class VolumeJob:
    """The files of one volume, one for each modality, and those that are written."""

    sources: tuple[Path, ...]
    name: str
    mask: Path | None
    probabilities: Path | None

    def targets(self) -> list[Path]:
        """All files that are written."""
        return [path for path in (self.mask, self.probabilities) if path is not None]


class VolumeJobs:
    """Volumes: a folder of them, a pattern, a list, or one; see `lightning_seg.inference.predict_files`.

    Of several modalities the files of a case are found by the name that the training's data had, of which an input
    names the first.

    Args:
        module: in evaluation mode, whose `volumes` says how files are read.
        input: a path, or several.
        output: the folder.
        options: how.
        probabilities: whether these are written.
    """

    noun = "volume"

    def __init__(
        self, module: Predictor, input: Path | list[Path], output: Path, options: JobOptions, *, probabilities: bool
    ) -> None:
        self.module, self.input, self.output, self.options = module, input, output, options
        self.probabilities = probabilities
        self.reading: VolumeReading = module.volumes  # type: ignore[attr-defined]

    def plan(self) -> list[VolumeJob]:
        """All volumes, in order; see `lightning_seg.inference.jobs.Jobs`."""
        given, first = self.input, first_modality(self.reading)
        is_first = lambda path: is_volume_file(path) and (first is None or first.match(path.name) is not None)  # noqa: E731
        kind = FileKind("a volume", ".nii .nii.gz .nrrd .npy", is_first, is_volume_file)
        found = files_of(given, self.output, kind) if isinstance(given, Path) else together(given)
        return [self._job(path, folder) for path, folder in found]

    def _job(self, path: Path, folder: Path) -> VolumeJob:
        first, name = first_modality(self.reading), stem_of(path)
        parts = None if first is None else first.match(path.name)
        if parts and "id" in parts:
            name = parts["id"]
        start = self.output / folder
        return VolumeJob(
            tuple(files_of_case(self.reading, [path])),
            (folder / name).as_posix(),
            None if self.module.task == "multilabel" else start / f"{name}.nii.gz",
            start / f"{name}_probabilities.nii.gz" if self.probabilities else None,
        )

    def predicted(self, jobs: Sequence[VolumeJob]) -> Iterator[tuple[VolumeJob, Callable[[], Areas]]]:
        """Each in order, when it is asked for."""
        return ((job, partial(self._predict, job)) for job in jobs)

    def areas_of_mask(self, mask: Path) -> Areas:
        """The voxels of each value in a mask that was written before."""
        return self._areas(read_volume(mask).voxels.astype(np.int64))

    def _areas(self, labels: Array) -> Areas:
        return [int(count) for count in np.bincount(labels.reshape(-1), minlength=len(self.options.names))]

    def _predict(self, job: VolumeJob) -> Areas:
        found = predict_volume(self.module, list(job.sources), probabilities=self.probabilities)
        affine = self.reading.place(job.sources[0])
        labels = found.labels.numpy().astype(np.uint8 if self.module.num_classes <= 256 else np.uint16)
        arrays: list[Array] = [] if job.mask is None else [labels]
        if self.probabilities:
            arrays.append(found.probabilities.movedim(0, -1).numpy())
        with atomic_files(job.targets(), overwrite=self.options.overwrite) as temporaries:
            for temporary, array in zip(temporaries, arrays, strict=True):
                written = temporary.with_name(f"{temporary.name[: -len('.gz')]}.nii.gz")
                try:
                    write_nifti(written, array, affine, job.sources[0])
                    written.replace(temporary)
                finally:
                    written.unlink(missing_ok=True)
        return self._areas(labels) if self.options.areas else []
