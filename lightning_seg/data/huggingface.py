"""Data sets of Hugging Face, by the library `datasets`, which is imported when one is read."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor

from lightning_seg.data.folder import FolderDataModule
from lightning_seg.data.image_files import ImageFileError
from lightning_seg.data.mask_sources import MaskReader, Size
from lightning_seg.data.pairs import Pair
from lightning_seg.data.splits import SPLITS, USUAL_SPLITS, Division, Splits
from lightning_seg.reading import StoredFile, read_bytes
from lightning_seg.text import number_of

_MOST = 2**31  # bytes of an image's file
# Options of `FolderDataModule` that say where files are.
_OF_FILES = ("images", "masks", "table", "columns", "missing_masks")
_SAVED = ("dataset_dict.json", "state.json")  # by Dataset.save_to_disk


@dataclass(frozen=True)
class ImageCell(StoredFile):
    """The file of an image in a row of a data set, which holds its bytes or, of a folder of images, its path.

    Args:
        table: rows with one column of files that are not decoded.
        row: of these.
        name: for messages.
        folders: where paths may lead.
    """

    table: Any
    row: int
    name: str
    folders: tuple[Path, ...]

    def read(self) -> bytes:
        """See `StoredFile`."""
        (cell,) = self.table[self.row].values()
        if cell is None:
            raise ImageFileError(f"{self} is empty.")
        if cell["bytes"] is not None:
            return bytes(cell["bytes"])
        path = Path(cell["path"]).resolve()
        if not any(path.is_relative_to(folder) for folder in self.folders):
            raise ImageFileError(
                f"{self} is the file {cell['path']}, which lies outside of data.path: save the data set with its "
                "images in it, or put them there."
            )
        return read_bytes(path, _MOST)


@dataclass(frozen=True)
class LabelCell:
    """Labels as lists of numbers in a row of a data set; a `MaskSource`.

    Args:
        table: rows with this column alone.
        row: of these.
        name: for messages.
    """

    shows: ClassVar[str] = "masks are lists of labels"
    unread: ClassVar[tuple[str, ...]] = ("color_table", "threshold", "mask_page")
    table: Any
    row: int
    name: str

    def __str__(self) -> str:
        return self.name

    def read(self, reader: MaskReader, size: Callable[[], Size]) -> Tensor:
        """See `MaskSource`."""
        (cell,) = self.table[self.row].values()
        labels = np.asarray(cell)
        axes = 3 if reader.multilabel else 2
        if labels.ndim != axes or not np.issubdtype(labels.dtype, np.integer):
            raise ImageFileError(
                f"mask {self} holds {labels.dtype} of shape {labels.shape}, and integers of {axes} axes are expected."
            )
        return torch.from_numpy(labels.astype(np.int64) if reader.values is None else reader.values(labels, self))


class HuggingFaceDataModule(FolderDataModule):
    """A data set of Hugging Face with a column of images and one of masks.

    Masks are images, which are read as those of `FolderDataModule` are, or lists of labels. Images are read by this
    package, from the bytes in the data set; code that comes with a data set is never run.

    Args:
        path: a folder that `save_to_disk` wrote, a folder of Parquet files or of images with `metadata.jsonl`, or the
            name of a data set of the Hub, `owner/name`.
        num_classes: see `SegmentationDataModule`.
        image: the column of images.
        mask: the column of masks.
        config: of a data set that has several.
        revision: of a data set of the Hub: a branch, tag or commit.
        splits: which of its splits are `train`, `val` and `test`: a name, or several. Default: the usual names; of one
            split alone, parts are split off at random.
        group: the column of what a random split must not tear apart.
        options: see `FolderDataModule`.

    Raises:
        ImportError: the extra `huggingface` is missing.
        ValueError: a column or split is not there, or is of another kind.
    """

    def __init__(
        self,
        path: str | Path | None,
        num_classes: int,
        *,
        image: str = "image",
        mask: str = "mask",
        config: str | None = None,
        revision: str | None = None,
        splits: Mapping[str, str | Sequence[str] | None] | None = None,
        group: str | None = None,
        class_names: Sequence[str] | None = None,
        **options: Any,
    ) -> None:
        unread = [name for name in _OF_FILES if options.get(name) is not None]
        if unread:
            raise ValueError(
                f"data.{unread[0]} says where files are, and data=huggingface reads a data set: leave it out, and say "
                "what is read with data.path, data.image and data.mask."
            )
        if path is None:
            raise ValueError("data.path is not given: it is a folder, or the name of a data set of the Hub.")
        self.path = str(Path(path).expanduser()) if Path(path).expanduser().exists() else str(path)
        self.image_column, self.mask_column, self.group_column = image, mask, group
        self.config, self.revision = config, revision
        given = {split: names for split, names in (splits or {}).items() if names is not None}
        self.split_names = {
            split: list(names) if isinstance(names, list | tuple) else [str(names)] for split, names in given.items()
        }
        unknown = [split for split in self.split_names if split not in SPLITS]
        if unknown:
            raise ValueError(f"data.splits.{unknown[0]} is not one of {', '.join(SPLITS)}.")
        self._tables: dict[str, Any] | None = None
        if class_names is None and Path(self.path).is_dir():
            class_names = self._declared_names(max(num_classes, 2), num_classes)
        super().__init__(self.path, num_classes, class_names=class_names, **options)

    def prepare_data(self) -> None:
        """Downloads a data set of the Hub, in one process."""
        self._loaded()

    def _without(self, split: str) -> str:
        there = ", ".join(self._loaded())
        return f"{self.path} has no split for {split}: say which of {there} is with data.splits.{split}."

    def _images_without_masks(self) -> list[Path]:
        return []

    def _division(self) -> Division:
        tables = self._loaded()
        there = ", ".join(f"{name} ({number_of(len(table), 'image')})" for name, table in tables.items())
        if not self.split_names and len(tables) == 1:
            (name,) = tables
            return Division({None: self._pairs(name)}, [])
        usual = {one: split for split, names in USUAL_SPLITS.items() for one in names}
        chosen = {name: split for split, names in self.split_names.items() for name in names}
        for name, wanted in chosen.items():
            if name not in tables:
                raise ValueError(f"data.splits.{wanted}={name}, but {self.path} has the splits {there}.")
        splits: Splits = {}
        unused: list[str] = []
        for name in tables:
            split: str | None = chosen.get(name) if chosen else usual.get(name.lower())
            if split is None:
                unused.append(name)
            else:
                splits.setdefault(split, []).extend(self._pairs(name))
        if not splits:
            raise ValueError(
                f"{self.path} has the splits {there}, none of which is known: say which is which with "
                "data.splits.train=NAME, data.splits.val=NAME and data.splits.test=NAME."
            )
        return Division(splits, [f"the splits {', '.join(unused)} of {self.path} are not used."] if unused else [])

    def _pairs(self, split: str) -> list[Pair]:
        import datasets

        table = self._loaded()[split]
        image, mask = self._column(table, self.image_column, "image"), self._column(table, self.mask_column, "mask")
        if not isinstance(table.features[self.image_column], datasets.Image):
            kind = type(table.features[self.image_column]).__name__
            raise ValueError(
                f"the column {self.image_column} of {self.path} is a {kind}, and data.image must be images."
            )
        is_file = isinstance(table.features[self.mask_column], datasets.Image)
        groups = None if self.group_column is None else self._column(table, self.group_column, "group")
        folders = (Path(self.path).resolve(), Path(datasets.config.HF_CACHE_HOME).expanduser().resolve())
        pairs = []
        for row in range(len(table)):
            where = f"row {row} of {split} in {self.path}"
            of_mask = f"{self.mask_column} of {where}"
            pairs.append(
                Pair(
                    cast(Path, ImageCell(image, row, f"{self.image_column} of {where}", folders)),
                    cast(Path, ImageCell(mask, row, of_mask, folders)) if is_file else LabelCell(mask, row, of_mask),
                    f"{split}-{row:06d}",
                    "" if groups is None else str(groups[row][self.group_column]),
                )
            )
        return pairs

    def _column(self, table: Any, name: str, key: str) -> Any:
        """One column of a table, whose images are not decoded."""
        import datasets

        if name not in table.features:
            raise ValueError(
                f"{self.path} has no column {name}: it has {', '.join(table.features)}; say which is meant with "
                f"data.{key}=COLUMN."
            )
        column = table.select_columns([name])
        is_image = isinstance(table.features[name], datasets.Image)
        return column.cast_column(name, datasets.Image(decode=False)) if is_image else column

    def _declared_names(self, num_values: int, num_classes: int) -> list[str] | None:
        """The names that the labels of masks have in the data set, if there are as many."""
        feature: Any = next(iter(self._loaded().values())).features.get(self.mask_column)
        while feature is not None and not hasattr(feature, "names"):
            feature = getattr(feature, "feature", None)
        names = None if feature is None else [str(name) for name in feature.names]
        if names is None or len(names) not in (num_values, num_classes):
            return None
        return names[-num_classes:]

    def _loaded(self) -> dict[str, Any]:
        """The splits by their names; a copy of a process is not shared with others."""
        if self._tables is None:
            self._tables = _load(self.path, self.config, self.revision)
        return self._tables


def _load(path: str, config: str | None, revision: str | None) -> dict[str, Any]:
    try:
        import datasets
    except ImportError:
        raise ImportError(
            'data sets of Hugging Face are read by datasets: pip install "lightning-seg[huggingface]".'
        ) from None
    folder = Path(path)
    is_saved = folder.is_dir() and any((folder / name).is_file() for name in _SAVED)
    given = [
        f"data.{name}={value}" for name, value in (("config", config), ("revision", revision)) if value is not None
    ]
    if is_saved and given:
        raise ValueError(
            f"{given[0]} chooses from what a data set of the Hub has, and {path} was written by save_to_disk: leave it "
            "out."
        )
    try:
        found = datasets.load_from_disk(path) if is_saved else datasets.load_dataset(path, config, revision=revision)
    except Exception as error:  # its readers, and those of the network, raise many kinds
        reason = " ".join(str(error).split()) or type(error).__name__
        kind = "" if folder.is_dir() else " (there is no such folder)"
        raise ValueError(f"data.path={path}{kind} cannot be read as a data set: {reason.rstrip('.')}.") from None
    return dict(found) if isinstance(found, datasets.DatasetDict) else {"train": found}
