"""Where images and masks are: patterns, lists of files, tables, groups and folds."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning_seg.data.annotations import ANNOTATION_SUFFIXES, LabelmeFile, YoloFile, read_coco
from lightning_seg.data.images import IMAGE_SUFFIXES
from lightning_seg.data.mask_sources import MaskSource, NoObject, class_files
from lightning_seg.data.masks import MASK_SUFFIXES
from lightning_seg.data.mat_files import MAT_SUFFIX, MatFile
from lightning_seg.data.pairs import Pair, stem_of
from lightning_seg.data.patterns import DEEP, Found, Pattern
from lightning_seg.data.split_lists import listed_pairs, split_lists
from lightning_seg.data.splits import SPLIT, SPLITS, USUAL_SPLITS, Division, Splits, torn_groups
from lightning_seg.data.tables import called_columns, check_named, images_of_rows, read_rows, split_of_row
from lightning_seg.text import number_of

CLASS = "class"

Parts = Mapping[str, str]


@dataclass(frozen=True)
class Layout:
    """Where images and masks are, and which split each is of.

    Args:
        images: a pattern below the root, see `Pattern`.
        masks: another, with the same parts, for masks; with `{class}`, or one for each class by name, for binary files
            of one class each.
        splits: for `train`, `val` and `test`, what `{split}` is there, or a file below the root that lists images, or
            several of these. Of a table, the values of its column. Default: the usual names of `{split}`.
        table: a CSV file below the root with a row for each image, instead of patterns, or beside those of masks.
        columns: of the table: what `image`, `mask`, `split` and `group` are called in it.
        group: what images have in common that a random split must not tear apart: a text with parts, `{patient}`.
        missing_masks: `refuse` or, for images without a mask, `background`.
        class_names: what `{class}` stands for.
        image_suffixes: of the files that `.*` means.
        mask_suffixes: likewise.

    Raises:
        ValueError: the arguments contradict each other.
    """

    images: str | None = None
    masks: str | Mapping[str, str] | None = None
    splits: Mapping[str, Any] = field(default_factory=dict)
    table: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    group: str | None = None
    missing_masks: str = "refuse"
    class_names: Sequence[str] = ()
    image_suffixes: Sequence[str] = IMAGE_SUFFIXES
    mask_suffixes: Sequence[str] = MASK_SUFFIXES

    def __post_init__(self) -> None:
        if self.missing_masks not in ("refuse", "background"):
            raise ValueError(f"data.missing_masks={self.missing_masks} is neither refuse nor background.")
        if (self.images is None) != (self.masks is None):
            given, other = ("images", "masks") if self.masks is None else ("masks", "images")
            raise ValueError(f"data.{given} is given and data.{other} is not: give both patterns, or neither.")
        if self.images is None and self.table is None and (self.given_splits or self.group is not None):
            what = "splits" if self.given_splits else "group"
            raise ValueError(f"data.{what} needs data.images and data.masks, the patterns that say where files are.")
        renamed = [f"data.columns.{name}={column}" for name, column in self.columns.items() if column != name]
        if renamed and self.table is None:
            raise ValueError(f"{renamed[0]} is a column of data.table, and there is none: give data.table=FILE.csv.")
        unknown = [name for name in self.splits if name not in SPLITS]
        if unknown:
            raise ValueError(f"data.splits.{unknown[0]} is not one of {', '.join(SPLITS)}.")
        self._patterns()

    @property
    def given_splits(self) -> dict[str, list[str]]:
        """The values of `splits` that are given, each as a list."""
        return {
            name: [str(one) for one in (value if isinstance(value, list | tuple) else [value])]
            for name, value in self.splits.items()
            if value is not None
        }

    @property
    def is_default(self) -> bool:
        """Whether files lie in `images/` and `masks/`."""
        return self.images is None and self.table is None

    def find(self, root: Path) -> Division:
        """Finds the pairs, each with its name and group.

        Raises:
            OSError: a file or folder cannot be read.
            ValueError: nothing is found, an image has no mask or several, or a list names what is not there.
        """
        images, masks = self._patterns()
        if self.table is not None:
            splits = self._of_table(root, images, masks)
            return Division(splits, torn_groups(splits))
        assert images is not None
        lists = split_lists(self.given_splits, images)
        files = [(name, pattern, pattern.find(root)) for name, pattern in masks.items()]
        are_masks = {one.path for _, _, found in files for one in found}
        found = [one for one in images.find(root) if one.path not in are_masks]  # {id}.png also fits {id}_mask.png
        if not found:
            raise ValueError(images.nothing(root))
        names = _names(found, root)
        of_parts = self._coco(root, files, found) if _is_coco(files[0][1]) else self._masks(root, images, files, found)
        if not lists:
            self._refuse_alone(of_parts, found, images)
        pairs = [self._pair(one, names[one.path], of_parts) for one in found]
        if lists:
            splits = listed_pairs(root, lists, pairs, found, self.missing_masks)
            return Division(splits, torn_groups(splits))
        if SPLIT not in images.names:
            return Division({None: _with_masks(None, pairs, self.missing_masks, of_parts)}, [])
        return self._by_name(pairs, found, images, of_parts)

    def _patterns(self) -> tuple[Pattern | None, dict[str | None, Pattern]]:
        """That of images, and those of masks, by class if there is one for each."""
        images = None if self.images is None else Pattern(self.images, "data.images", self.image_suffixes, (".npy",))
        if self.masks is None:
            return images, {}
        if isinstance(self.masks, str):
            by_class: dict[str | None, str] = {None: self.masks}
            if f"{{{CLASS}}}" in self.masks:
                by_class = {name: self.masks.replace(f"{{{CLASS}}}", name) for name in self.class_names}
        else:
            by_class = {None if name is None else name: text for name, text in self.masks.items()}
            unknown = [name for name in by_class if name not in self.class_names]
            if unknown:
                raise ValueError(
                    f"data.masks.{unknown[0]} is not one of data.class_names, {', '.join(self.class_names)}."
                )
        masks = {
            name: Pattern(
                text,
                "data.masks" if name is None else f"data.masks.{name}",
                self.mask_suffixes,
                (*ANNOTATION_SUFFIXES, MAT_SUFFIX) if name is None else (),
            )
            for name, text in by_class.items()
        }
        if images is not None:
            for pattern in masks.values():
                if not _is_coco(pattern):
                    _check_parts(images, pattern)
            if self.group is not None:
                self._group(dict.fromkeys(images.names, ""))
        return images, masks

    def _group(self, parts: Parts) -> str:
        if self.group is None:
            return ""
        group = self.group if "{" in self.group else f"{{{self.group}}}"
        try:
            return group.format_map(parts)
        except (KeyError, ValueError, IndexError):
            known = ", ".join(f"{{{name}}}" for name in parts if name != DEEP)
            raise ValueError(
                f"data.group={self.group} has a part that data.images does not name: it has {known}."
            ) from None

    def _masks(
        self,
        root: Path,
        images: Pattern,
        patterns: Sequence[tuple[str | None, Pattern, Sequence[Found]]],
        found: Sequence[Found],
    ) -> "_MasksByParts":
        """Finds the masks, and refuses those that two images share."""
        files: dict[tuple[str, ...], dict[int | None, list[Path | MaskSource]]] = defaultdict(lambda: defaultdict(list))
        names = tuple(dict.fromkeys(name for _, pattern, _ in patterns for name in pattern.names))
        shared = tuple(name for name in names if name in images.names)
        for name, pattern, masks in patterns:
            if not masks and (name is None or len(patterns) == 1):
                raise ValueError(pattern.nothing(root))
            label = None if name is None else list(self.class_names).index(name)
            for mask in masks:
                files[_key(mask.parts, shared)][label].append(mask.path)
        if not files:
            raise ValueError(patterns[0][1].nothing(root))
        of_images: dict[tuple[str, ...], Path] = {}
        for one in found:
            key = _key(one.parts, shared)
            if key in of_images:
                parts = ", ".join(f"{{{name}}}" for name in shared)
                raise ValueError(
                    f"{of_images[key]} and {one.path} have the same {parts}, by which data.masks={self.masks} finds "
                    "their mask: name the part in which they differ in both patterns."
                )
            of_images[key] = one.path
        return _MasksByParts(shared, files, len(self.class_names), self.masks)

    def _coco(
        self, root: Path, files: Sequence[tuple[str | None, Pattern, Sequence[Found]]], found: Sequence[Found]
    ) -> "_MasksByParts":
        """The annotations of COCO files, each of the images of its split, by their names in them."""
        _, pattern, annotated = files[0]
        if not annotated:
            raise ValueError(pattern.nothing(root))
        by_path: dict[tuple[str, ...], dict[int | None, list[Path | MaskSource]]] = {}
        for file in annotated:
            named = read_coco(file.path)
            for one in found:
                if all(one.parts.get(name) == text for name, text in file.parts.items()):
                    parts = one.path.relative_to(root).as_posix().split("/")
                    ways = ("/".join(parts[start:]) for start in range(len(parts)))
                    source = next((named[way] for way in ways if way in named), None)
                    if source is not None:
                        by_path[(one.path.as_posix(),)] = {None: [source]}
        return _MasksByParts((), by_path, len(self.class_names), self.masks)

    @staticmethod
    def _refuse_alone(masks: "_MasksByParts", found: Sequence[Found], images: Pattern) -> None:
        """Refuses masks that have no image."""
        if not masks.shared:
            return
        paired = {_key(one.parts, masks.shared) for one in found}
        alone = sorted(
            str(path)
            for key, by_class in masks.files.items()
            if key not in paired
            for paths in by_class.values()
            for path in paths
        )
        if alone:
            more = f" (and {len(alone) - 1} more)" if len(alone) > 1 else ""
            raise ValueError(
                f"{alone[0]}{more} has no image: data.images={images.text} fits none with the same "
                f"{', '.join(f'{{{name}}}' for name in masks.shared)}. Add the image or remove the mask."
            )

    def _pair(self, found: Found, name: str, masks: "_MasksByParts") -> Pair:
        mask = masks.of(found)
        return Pair(found.path, NoObject(found.path) if mask is None else mask, name, self._group(found.parts))

    def _by_name(
        self, pairs: Sequence[Pair], found: Sequence[Found], images: Pattern, masks: "_MasksByParts"
    ) -> Division:
        """The pairs of each split by what `{split}` is."""
        given = self.given_splits
        usual = {one: split for split, names in USUAL_SPLITS.items() for one in names}
        chosen = {one: split for split, names in given.items() for one in names}
        by_name: dict[str, list[Pair]] = defaultdict(list)
        for pair, one in zip(pairs, found, strict=True):
            by_name[one.parts[SPLIT]].append(pair)
        there = ", ".join(f"{name} ({number_of(len(members), 'image')})" for name, members in by_name.items())
        for name, split in chosen.items():
            if name not in by_name:
                raise ValueError(f"data.splits.{split}={name}, but {{split}} of data.images={images.text} is {there}.")
        splits: dict[str, list[Pair]] = defaultdict(list)
        unused = []
        for name, members in by_name.items():
            of_split = chosen.get(name) if given else usual.get(name.lower())
            if of_split is None:
                unused.append(f"{name} ({number_of(len(members), 'image')})")
            else:
                splits[of_split] += members
        if not splits:
            raise ValueError(
                f"{{split}} of data.images={images.text} is {there}, none of which is known as a split: say which is "
                "which with data.splits.train=NAME, data.splits.val=NAME and data.splits.test=NAME."
            )
        notes = [f"{{split}} of data.images is also {', '.join(unused)}, which is not used."] if unused else []
        kept: Splits = {
            split: _with_masks(split, members, self.missing_masks, masks) for split, members in splits.items()
        }
        if kept.get("test") == []:
            notes.append("the test images have no masks: the test is done on the validation images.")
            del kept["test"]
        return Division(kept, notes + torn_groups(kept))

    # ---- tables

    def _of_table(self, root: Path, images: Pattern | None, masks: Mapping[str | None, Pattern]) -> Splits:
        path = root / str(self.table)
        rows, header = read_rows(path)
        called = called_columns(path, header, self.columns, has_patterns=bool(masks))
        found = images_of_rows(path, root, rows, called["image"], images)
        splits: Splits = {}
        names = _names(found, root)
        if len(names) < len(found):
            raise ValueError(f"{path} names an image in several lines: each image has one.")
        by_parts = None
        if masks and images is not None:
            files = [(name, pattern, pattern.find(root)) for name, pattern in masks.items()]
            by_parts = self._masks(root, images, files, found)
        for (number, row), one in zip(rows, found, strict=True):
            mask: Path | MaskSource | None
            if by_parts is not None:
                mask = by_parts.of(one)
            else:
                named = row.get(called["mask"], "")
                mask = root / named if named else None
            check_named(path, number, root, [file for file in (one.path, mask) if isinstance(file, Path)])
            if mask is None and self.missing_masks == "refuse":
                raise ValueError(
                    f"line {number} of {path} names no mask of {one.path}: give one, or data.missing_masks=background "
                    "if it shows no object."
                )
            group = row.get(called["group"], "") if self.group is None else self._group(one.parts)
            pair = Pair(one.path, NoObject(one.path) if mask is None else _source(mask), names[one.path], group)
            splits.setdefault(split_of_row(path, number, row, called["split"], self.given_splits), []).append(pair)
        if None in splits and len(splits) > 1:
            raise ValueError(f"{path} has a {called['split']} in some of its lines and not in others.")
        return splits


@dataclass(frozen=True)
class _MasksByParts:
    shared: tuple[str, ...]
    files: Mapping[tuple[str, ...], Mapping[int | None, Sequence[Path | MaskSource]]]
    classes: int
    pattern: object

    def of(self, found: Found) -> Path | MaskSource | None:
        key = _key(found.parts, self.shared) if self.shared else (found.path.as_posix(),)  # of COCO
        by_class = self.files.get(key)
        if not by_class:
            return None
        if None not in by_class:
            labels = {
                label: [path for path in paths if isinstance(path, Path)]
                for label, paths in by_class.items()
                if label is not None
            }
            return class_files(labels, self.classes)
        paths = by_class[None]
        if len(paths) > 1:
            raise ValueError(
                f"{found.path} has {len(paths)} masks, {_name(paths[0])} and {_name(paths[1])} among them: data.masks="
                f"{self.pattern} must fit one for each image, or, if each shows one object, +data.masks.CLASS="
                f"{self.pattern} joins them."
            )
        return _source(paths[0])


def _source(mask: Path | MaskSource) -> Path | MaskSource:
    """What a file is read as."""
    if not isinstance(mask, Path):
        return mask
    kinds: dict[str, Callable[[Path], MaskSource]] = {".json": LabelmeFile, ".txt": YoloFile, MAT_SUFFIX: MatFile}
    kind = kinds.get(mask.suffix.lower())
    return mask if kind is None else kind(mask)


def _is_coco(pattern: Pattern) -> bool:
    """Whether masks are one file of annotations of many images."""
    return pattern.components[-1].lower().endswith(".json") and not set(pattern.names) - {SPLIT}


def _name(mask: Path | MaskSource) -> str:
    return mask.name if isinstance(mask, Path) else str(mask)


def _check_parts(images: Pattern, masks: Pattern) -> None:
    """Refuses patterns that do not pair files."""
    unknown = [name for name in masks.names if name not in images.names and name != DEEP]
    if unknown:
        raise ValueError(
            f"{masks.key}={masks.text} has the part {{{unknown[0]}}}, which data.images={images.text} does not have: "
            "write * for what need not be the same."
        )
    if not set(masks.names) & set(images.names) - {SPLIT}:
        raise ValueError(
            f"data.images={images.text} and {masks.key}={masks.text} have no part that pairs them: name it in both, as "
            "{id}."
        )


def _key(parts: Parts, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(parts.get(name, "") for name in names)


def _names(found: Sequence[Found], root: Path) -> dict[Path, str]:
    """A name for each image: its stem, or, where several have the same, its path below the root."""
    stems: dict[str, int] = defaultdict(int)
    for one in found:
        stems[stem_of(one.path)] += 1
    return {
        one.path: stem_of(one.path)
        if stems[stem_of(one.path)] == 1
        else one.path.relative_to(root).with_name(stem_of(one.path)).as_posix()
        for one in found
    }


def _with_masks(split: str | None, pairs: Sequence[Pair], missing: str, masks: _MasksByParts) -> list[Pair]:
    """The pairs of a split; none of a test split without any mask.

    Raises:
        ValueError: an image has no mask and must have one.
    """
    without = [pair for pair in pairs if isinstance(pair.mask, NoObject)]
    if not without or missing == "background":
        return list(pairs)
    if split == "test" and len(without) == len(pairs):
        return []
    more = f" (and {len(without) - 1} more)" if len(without) > 1 else ""
    same = f" with the same {', '.join(f'{{{name}}}' for name in masks.shared)}" if masks.shared else ""
    raise ValueError(
        f"{without[0].image}{more} has no mask: data.masks={masks.pattern} fits none{same}. Add the mask, remove the "
        "image, or give data.missing_masks=background if such images show no object."
    )
