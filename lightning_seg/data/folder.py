"""Data from a folder of images and a folder of masks."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from lightning_seg.data.advice import layout_advice, values_advice
from lightning_seg.data.bands import Channels, check_channels_asked
from lightning_seg.data.cache import PLACES
from lightning_seg.data.datamodule import Augment, SegmentationDataModule, ready
from lightning_seg.data.digest import digest
from lightning_seg.data.few_labels import check_enough, check_limit
from lightning_seg.data.folder_dataset import FolderDataset, ImageFiles
from lightning_seg.data.image_files import MAX_PIXELS, ImageFileError
from lightning_seg.data.images import IMAGE_SUFFIXES, scaled_size
from lightning_seg.data.inspection import Inspection, describe_counts, value_names, void_share
from lightning_seg.data.layout import Layout
from lightning_seg.data.masks import MASK_SUFFIXES, Color, Colors, check_color_table, colors_of
from lightning_seg.data.pairs import Pair, choose, contents, find_images, find_pairs, fold_of, split_off, stem_of
from lightning_seg.data.splits import SPLITS, Division, Splits
from lightning_seg.data.unused import unused_folders
from lightning_seg.data.values import Values
from lightning_seg.reading import StoredFile
from lightning_seg.renamed import warn_renamed
from lightning_seg.task import Task, check_task
from lightning_seg.text import number_of, text_logger

log = text_logger(__name__)


class FolderDataModule(SegmentationDataModule):
    """Your images and masks, paired by stem, in `images/` and `masks/`, or as patterns, lists and tables say.

    Without these `root` holds `images/` and `masks/` in `train/`, `val/` and `test/`, or directly. Directly,
    `test_fraction` and `val_fraction` of the images are split off. Without `val/`, `val_fraction` of `train/` is split
    off. Without `test/`, or with `test_fraction=0`, the test is done on the validation images. `unlabeled/images/` may
    hold images without masks, which are trained on where `unlabeled_per_image` and the module ask for them.

    Args:
        root: the folder; `~` is the home folder.
        num_classes: see `SegmentationDataModule`.
        val_fraction: share of the images that becomes the validation split, above 0.
        test_fraction: share that becomes the test split; 0 for none.
        seed: of the splits, and of the choice of `train_limit`.
        scale: images are resized by it. Training masks are too; others keep their size, at which scores are taken.
        color_table: [red, green, blue] of each class in order, if masks are in colors.
        void_colors: colors of void pixels.
        check_masks: whether `setup` reads every mask of its stage once to find mistakes and count pixels. Each is
            also checked when it is used. The stage `fit` reads those of the test split too, whose mistakes would
            otherwise show after the training.
        train_limit: only so many training images, chosen by `seed`, keep their masks, and a larger choice holds every
            smaller one; the rest are unlabeled, and their masks are not read. Default: all keep theirs.
        max_pixels: an image or mask of more pixels is refused, see `load_image`.
        images: where images are, a pattern below the root; see `Layout`, as the six that follow.
        masks: where masks are.
        splits: which images are of `train`, `val` and `test`.
        table: a CSV file with a row for each image.
        columns: what its columns are called.
        group: what images have in common that a random split must not tear apart.
        missing_masks: `refuse`, or `background` if an image without a mask shows no object.
        fold: of `folds` parts of the images to train and validate on, the one that is validated on, from 0.
        folds: how many these are.
        values: what the values of mask files stand for, `{7: 0, 8: road, 255: void}`; see `Values`.
        threshold: mask pixels of this value or more are 1, others 0: for soft masks, and JPEG.
        page: which page of images of several pages, from 0.
        mask_page: which page of masks of several pages, from 0.
        cache: `memory` or `disk`, where decoded images and masks are kept once they have been read. Default: nowhere.
        channels: `rgb`, `all` bands, or a list of bands, from 0; with others than three, `mean` and `std` are as many.
        range: the values of images that become 0 and 1. Default: those of all bits.
        task: `multilabel` if a pixel may have several labels. Default: as `num_classes` tells.
        options: see `SegmentationDataModule`.

    `pixel_counts` holds, after `setup` and by split, the pixels of each mask value, int64, of the splits checked.

    Raises:
        ValueError: an argument is outside its range, or, in `setup`, files are missing or do not fit.
    """

    image_suffixes: Sequence[str] = IMAGE_SUFFIXES  # and .npy
    mask_suffixes: Sequence[str] = MASK_SUFFIXES

    def __init__(
        self,
        root: str | Path | None,
        num_classes: int,
        *,
        val_fraction: float,
        test_fraction: float,
        seed: int,
        scale: float = 1.0,
        color_table: Colors | None = None,
        void_colors: Colors | None = None,
        check_masks: bool = True,
        train_limit: int | None = None,
        max_pixels: int = MAX_PIXELS,
        images: str | None = None,
        masks: str | Mapping[str, str] | None = None,
        splits: Mapping[str, str | Sequence[str] | None] | None = None,
        table: str | None = None,
        columns: Mapping[str, str | None] | None = None,
        group: str | None = None,
        missing_masks: str = "refuse",
        fold: int | None = None,
        folds: int | None = None,
        values: Mapping[Any, Any] | None = None,
        threshold: float | None = None,
        page: int | None = None,
        mask_page: int | None = None,
        cache: str | None = None,
        channels: str | Sequence[int] = "rgb",
        range: Sequence[float] | None = None,
        task: Task | None = None,
        **options: Any,
    ) -> None:
        super().__init__(num_classes=num_classes, **options)
        if task is not None:
            check_task(task, num_classes, self.ignore_index)
        self.multilabel = task == "multilabel"
        if self.multilabel:
            self.num_values = num_classes
        if not (0 < val_fraction < 1 and 0 <= test_fraction < 1 and val_fraction + test_fraction < 1):
            raise ValueError(
                f"data.val_fraction={val_fraction} and data.test_fraction={test_fraction} must leave images for "
                "training: the first above 0, the second 0 or more, and both together below 1."
            )
        if scale <= 0:
            raise ValueError(f"data.scale={scale}, but it must be above 0; 0.5 halves height and width.")
        if max_pixels < 1:
            raise ValueError(f"data.max_pixels={max_pixels}, but at least 1 is needed.")
        check_limit(train_limit)
        if root is None:
            raise ValueError("data.root is not given: it is the folder of images and masks, data.root=FOLDER.")
        self.root = Path(str(root)).expanduser()  # a folder's name may be a number
        self.val_fraction = val_fraction
        self.test_fraction = test_fraction
        self.seed = seed
        self.scale = scale
        self.color_table = None if color_table is None else [_plain(entry) for entry in color_table]
        self.void_colors = [color for entry in void_colors or () for color in colors_of(entry)]
        self.check_masks = check_masks
        self.train_limit = train_limit
        self.max_pixels = max_pixels
        if self.color_table is not None:
            check_color_table(self.color_table, self.void_colors, self.num_values, self.ignore_index)
        elif self.void_colors:
            raise ValueError("data.void_colors are only used with data.color_table: give both or neither.")
        self.layout = Layout(
            images=images,
            masks=masks,
            splits=dict(splits or {}),
            table=table,
            columns={name: column for name, column in (columns or {}).items() if column is not None},
            group=group,
            missing_masks=missing_masks,
            class_names=self.mask_names,
            image_suffixes=self.image_suffixes,
            mask_suffixes=self.mask_suffixes,
        )
        _check_fold(fold, folds)
        if cache not in (None, *PLACES):
            raise ValueError(f"data.cache={cache} is neither memory nor disk, nor null for none.")
        self.cache = cache
        self.channels: Channels = channels  # type: ignore[assignment]
        self.range = range
        check_channels_asked(self.channels, range)
        self.fold, self.folds = fold, folds
        self.threshold, self.page, self.mask_page = threshold, page, mask_page
        self.values = None if values is None else Values(values, self.num_values, self.mask_names, self.ignore_index)
        self._check_reading()
        self._found: Division | None = None
        self.pixel_counts: dict[str, Tensor] = {}
        self._training_pixels: Tensor | None = None
        self._digests: dict[str, dict[str, Any]] = {}
        self._said: set[str] = set()

    def setup(self, stage: str | None = None) -> None:
        """Finds, splits and checks what the stage (`fit`, `validate`, `test` or None, all) needs."""
        pairs = self._splits()
        if stage in ("fit", None) and self.train_set is None:
            unlabeled = self._limit(pairs) + self._images_without_masks()
            if unlabeled:
                self.unlabeled_set = self._unlabeled(unlabeled)
            self.train_set = self._dataset("train", pairs, scale_mask=True, augment=self.augment)
        if stage in ("fit", "validate", None) and self.val_set is None:
            self.val_set = self._dataset("val", pairs)
        is_read_early = stage == "fit" and "test" in pairs  # mistakes in it would show when the training is over
        if (stage in ("test", None) or is_read_early) and self.test_set is None:
            if "test" not in pairs:
                log.info("no test images: the test is done on the validation images.")
                if self.val_set is None:
                    self.val_set = self._dataset("val", pairs)
            self.test_set = self._dataset("test", pairs) if "test" in pairs else self.val_set

    @property
    def has_splits(self) -> bool:
        """Whether the folder says which images are to be tested on, and it is not a random choice."""
        self._splits()
        return self._found is not None and None not in self._found.splits

    def unused_options(self) -> list[str]:
        """Which of `val_fraction`, `test_fraction` and `seed` decide nothing, since the data say what they would."""
        self._splits()
        found = {} if self._found is None else self._found.splits
        draws = {
            "val_fraction": self.fold is None and "val" not in found,
            "test_fraction": None in found,
        }
        draws["seed"] = any(draws.values()) or self.fold is not None or self.train_limit is not None
        return [name for name, is_used in draws.items() if not is_used]

    def test_on_all(self) -> None:
        """Lets the test be one of all images, whatever their split."""
        self.test_set = self._dataset("all", {"all": [pair for pairs in self._splits().values() for pair in pairs]})

    def digests(self) -> dict[str, dict[str, Any]]:
        """What the images of each split that is set up are, see `DescribesData`."""
        unlabeled = self.unlabeled_set
        if isinstance(unlabeled, ImageFiles):
            return {**self._digests, "unlabeled": digest([path.stem for path in unlabeled.paths], None)}
        return dict(self._digests)

    def count_training_pixels(self) -> Tensor:
        """See `SegmentationDataModule`; only masks are read, at their own size, and once."""
        if self._training_pixels is None:
            dataset: Any = ready(self.train_set, "fit")
            self._training_pixels = dataset.inspect().counts
        return self._training_pixels

    @property
    def mask_names(self) -> list[str]:
        """A name for each mask value, or in the multilabel task each class."""
        return value_names(self.num_values, self.class_names)

    def _check_reading(self) -> None:
        """Refuses ways to read a mask that exclude each other."""
        given = [name for name in ("color_table", "values", "threshold") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"data.{given[0]} and data.{given[1]} both say what a mask's pixels are: give one.")
        if self.threshold is not None and not isinstance(self.layout.masks, Mapping) and self.num_values != 2:
            by_class = isinstance(self.layout.masks, str) and "{class}" in self.layout.masks
            if not by_class:
                raise ValueError(
                    f"data.threshold={self.threshold} makes two values of a mask, and there are {self.num_values} "
                    "classes: it is for task=binary, two classes, or a file for each class, masks/{class}/{id}.png."
                )
        for name in ("page", "mask_page"):
            page = getattr(self, name)
            if page is not None and page < 0:
                raise ValueError(f"data.{name}={page}, but pages are counted from 0.")

    def _check_applies(self, pairs: Iterable[Pair]) -> None:
        """Refuses ways to read a mask that none of its kinds has."""
        sources = {type(pair.mask): pair.mask for pair in pairs}.values()
        others = [one for one in sources if not isinstance(one, Path | StoredFile)]
        if len(others) < len(sources):
            return  # files of labels are read by them
        for source in others:
            for name in getattr(source, "unread", ()):  # one of your own may read them all
                if getattr(self, name) is not None:
                    raise ValueError(f"data.{name} is for masks of labels, and here {source.shows}: leave it out.")

    def _splits(self) -> dict[str, list[Pair]]:
        if self._found is None:
            found = self._division()
            self._check_applies(pair for pairs in found.splits.values() for pair in pairs)
            for note in found.notes:
                self._warn(note)
            self._found = found
        splits = self._divided(self._found.splits)
        self._say_pairs(splits)
        return splits

    def _division(self) -> Division:
        """The pairs, as the files or what else there is divide them."""
        if not self.root.is_dir():
            raise ValueError(f"data.root={self.root} is not a directory.")
        try:
            return Division(self._in_folders(), []) if self.layout.is_default else self.layout.find(self.root)
        except ValueError as error:
            raise ValueError(f"{error}{self._where_files_are()}") from None

    def _divided(self, found: Splits) -> dict[str, list[Pair]]:
        """The splits, with those split off that are not given."""
        splits = {split: list(pairs) for split, pairs in found.items() if split is not None}
        if None in found:
            pool, share = found[None], self.val_fraction / (1 - self.test_fraction)
            if self.test_fraction > 0:
                pool, splits["test"] = split_off(pool, self.test_fraction, self.seed, "test")
        else:
            pool, share = splits.get("train", []), self.val_fraction
            if self.fold is not None:
                pool = pool + splits.get("val", [])
        if self.fold is not None and self.folds is not None and pool:
            splits["train"], splits["val"] = fold_of(pool, self.fold, self.folds, self.seed)
        elif "val" not in splits and pool:
            splits["train"], splits["val"] = split_off(pool, share, self.seed, "val")
            if None not in found:
                log.info("no val images: %d of the training images were split off for them.", len(splits["val"]))
        return splits

    def _say_pairs(self, splits: Mapping[str, Sequence[Pair]]) -> None:
        """How many pairs there are, where, and one of them; once, although every stage finds them."""
        first = next((pairs[0] for split in SPLITS for pairs in [splits.get(split)] if pairs), None)
        if first is None or "pairs" in self._said:
            return
        self._said.add("pairs")
        counts = ", ".join(f"{split} {len(splits[split])}" for split in SPLITS if split in splits)
        fold = "" if self.fold is None else f" (fold {self.fold} of {self.folds})"
        image, shown = (_below(one, self.root) for one in (first.image, first.mask))
        log.info("%s: image-mask pairs: %s%s; for example %s with %s", self.root, counts, fold, image, shown)

    def _in_folders(self) -> Splits:
        """Images and masks of equal stems."""
        folders = [split for split in SPLITS if (self.root / split).is_dir()]
        self._name_unused(folders)
        if not folders:
            if not (self.root / "images").is_dir():
                raise ValueError(
                    f"data.root={self.root} holds neither train/ with images/ and masks/, nor images/ and masks/, but "
                    f"{contents(self.root)}."
                )
            return {None: self._pairs_of(self.root)}
        if "test" in folders and self._is_without_masks("test"):
            folders.remove("test")
            self._warn(f"{self.root / 'test'} has images and no masks: the test is done on the validation images.")
        return {split: self._pairs_of(self.root / split) for split in folders}

    def _pairs_of(self, folder: Path) -> list[Pair]:
        missing = self.layout.missing_masks
        return find_pairs(folder, (*self.image_suffixes, ".npy"), self.mask_suffixes, missing_masks=missing)

    def _where_files_are(self) -> str:
        if self.layout.table is not None or isinstance(self.layout.masks, Mapping):
            return ""
        given = {"images": self.layout.images, "masks": self.layout.masks}
        return layout_advice(self.root, given, self.image_suffixes, self.mask_suffixes)

    def _how_masks_are_read(self, pairs: Sequence[Pair]) -> str:
        if self.multilabel or self.values is not None:
            return ""
        given = {name: getattr(self, name) for name in ("num_classes", "ignore_index", "threshold", "color_table")}
        return values_advice(pairs, self.root, given)

    def _is_without_masks(self, split: str) -> bool:
        return (self.root / split / "images").is_dir() and not (self.root / split / "masks").exists()

    def _name_unused(self, splits: Sequence[str]) -> None:
        used = [self.root / split for split in splits] or [self.root]
        unlabeled = [self.root / name for name in ("unlabeled", "unlabelled") if (self.root / name).is_dir()][:1]
        unused = unused_folders(self.root, [*used, *unlabeled])
        if unused:
            names = ", ".join(f"{folder.relative_to(self.root)}/" for folder in unused)
            verb = "looks like data and is" if len(unused) == 1 else "look like data and are"
            places = ", ".join(f"{folder.relative_to(self.root)}/" for folder in used) if splits else "images/, masks/"
            self._warn(
                f"{names} in {self.root} {verb} not used; used: {places}. Splits are called train, val and test, and "
                "files lie directly in their images/ and masks/."
            )

    def _warn(self, message: str) -> None:
        """Once, although every stage finds it."""
        if message not in self._said:
            self._said.add(message)
            log.warning(message)

    def _limit(self, pairs: dict[str, list[Pair]]) -> list[Path]:
        """Leaves as many training images as are to keep their masks, and gives the rest."""
        if self.train_limit is None or "train" not in pairs:
            return []
        check_enough(self.train_limit, len(pairs["train"]))
        pairs["train"], rest = choose(pairs["train"], self.train_limit, self.seed)
        log.info("data.train_limit leaves %s; %d images are unlabeled.", _stems(pairs["train"]), len(rest))
        return [pair.image for pair in rest]

    def _images_without_masks(self) -> list[Path]:
        if not self.layout.is_default:
            return []
        folder, former = self.root / "unlabeled", self.root / "unlabelled"
        if former.is_dir() and not folder.is_dir():
            warn_renamed(f"the folder {former}", f"{folder.name}/")
            folder = former
        return find_images(folder / "images") if folder.is_dir() else []

    def _unlabeled(self, paths: Sequence[Path]) -> Dataset[Any] | None:
        return ImageFiles(
            paths,
            scale=self.scale,
            augment=self.augment,
            max_pixels=self.max_pixels,
            page=self.page,
            channels=self.channels,
            value_range=self.range,
        )

    def _files(self, pairs: Sequence[Pair], *, scale_mask: bool, augment: Augment | None) -> Any:
        """The data set of some files, as `FolderDataset`."""
        return FolderDataset(
            pairs,
            num_values=self.num_values,
            ignore_index=self.ignore_index,
            color_table=self.color_table,
            void_colors=self.void_colors,
            values=self.values,
            threshold=self.threshold,
            page=self.page,
            mask_page=self.mask_page,
            multilabel=self.multilabel,
            class_names=self.mask_names,
            channels=self.channels,
            value_range=self.range,
            scale=self.scale,
            scale_mask=scale_mask,
            augment=augment,
            max_pixels=self.max_pixels,
        )

    def _dataset(
        self, split: str, pairs: dict[str, list[Pair]], scale_mask: bool = False, augment: Augment | None = None
    ) -> Any:
        if split not in pairs:
            raise ValueError(self._without(split))
        dataset = self._files(pairs[split], scale_mask=scale_mask, augment=augment)
        if self.check_masks and split not in self.pixel_counts:
            try:
                found = dataset.inspect()
            except ValueError as error:
                raise ImageFileError(f"{error}{self._how_masks_are_read(pairs[split])}") from None
            counts = found.counts.sum(dim=0)
            log.info("%s: %s; %s", split, number_of(len(dataset), "image"), describe_counts(counts, self.mask_names))
            if split == "train":
                self._check_training(found)
                self._training_pixels = found.counts
            elif not counts.any():
                self._warn(f"no {split} mask has a pixel of a class, so there is nothing to score.")
            self.pixel_counts[split] = counts
            self._digests[split] = digest([pair.name or stem_of(pair.image) for pair in pairs[split]], found)
        self._digests.setdefault(split, digest([pair.name or stem_of(pair.image) for pair in pairs[split]], None))
        if self.cache is not None:
            dataset.keep(self.cache, split)
        return dataset

    def _without(self, split: str) -> str:
        if self.layout.is_default:
            return f"{self.root / split} is missing, with images/ and masks/ in it."
        return f"no pair of {self.root} belongs to the split {split}: say which are with data.splits.{split}."

    def _check_training(self, found: Inspection) -> None:
        """Refuses masks that teach nothing, and says what they do not teach."""
        pixels = found.counts.sum(dim=0)
        if not pixels.any():
            raise ValueError(
                f"all {len(found.counts)} training masks hold nothing but ignore_index={self.ignore_index}: there is "
                "nothing to learn."
            )
        names = self.mask_names
        absent = [name for name, count in zip(names, pixels.tolist(), strict=True) if count == 0]
        if absent:
            self._warn(f"no training mask has a pixel of {', '.join(absent)}, which cannot be learned.")
        crop = void_share(self.augment, [scaled_size(size[:2], self.scale) for size in found.sizes])
        if crop is not None and crop[1] > 0.5:
            (height, width), share = crop
            self._warn(
                f"augment.crop_size={height}×{width} is larger than the training images: {100 * share:.1f}% of a crop "
                "is outside of them; give a smaller one."
            )


def _plain(entry: Color | Sequence[Color]) -> list[Any]:
    """A color, or several, as lists."""
    colors = colors_of(entry)
    return list(colors) if isinstance(entry[0], Sequence) else colors[0]


def _check_fold(fold: int | None, folds: int | None) -> None:
    if (fold is None) != (folds is None):
        given, other = ("folds", "fold") if fold is None else ("fold", "folds")
        raise ValueError(f"data.{given} is given and data.{other} is not: give both, or neither.")
    if fold is not None and folds is not None and not (folds > 1 and 0 <= fold < folds):
        raise ValueError(
            f"data.fold={fold} of data.folds={folds}: give 2 folds or more, and a fold from 0 and below it."
        )


def _below(path: object, root: Path) -> str:
    return path.relative_to(root).as_posix() if isinstance(path, Path) and path.is_relative_to(root) else str(path)


def _stems(pairs: Sequence[Pair], most: int = 16) -> str:
    listed = ", ".join(stem_of(pair.image) for pair in pairs[:most])
    return f"{listed} and {len(pairs) - most} more" if len(pairs) > most else listed
