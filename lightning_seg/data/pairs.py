"""Finding images and their masks, and dividing them into splits."""

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from lightning_seg.data.images import IMAGE_SUFFIXES
from lightning_seg.data.mask_sources import MaskSource, NoObject
from lightning_seg.data.masks import MASK_SUFFIXES
from lightning_seg.reading import in_words

_NOT_DATA = ("thumbs.db", "desktop.ini", "__macosx")  # what Windows and macOS leave behind


class Pair(NamedTuple):
    """An image's file and its mask's, or what else its labels are read from.

    `name` tells it from all others, by default the file's stem; `group` holds what a random split must not tear apart.
    """

    image: Path
    mask: Path | MaskSource
    name: str = ""
    group: str = ""

    @property
    def called(self) -> str:
        """The name, in the one form of Unicode."""
        return self.name or _stem(self.image)


def find_pairs(
    folder: Path,
    image_suffixes: Sequence[str] = (*IMAGE_SUFFIXES, ".npy"),
    mask_suffixes: Sequence[str] = MASK_SUFFIXES,
    *,
    missing_masks: str = "refuse",
) -> list[Pair]:
    """The files of `folder/images` and `folder/masks` that share a stem, by stem.

    Hidden files are passed over and links are followed. Stems that Unicode can write in several forms, as macOS and
    Linux do, are the same stem. With `missing_masks="background"` an image without a mask shows no object.

    Raises:
        OSError: a folder cannot be read.
        ValueError: a folder is missing or empty, a stem occurs twice, or a file has no counterpart.
    """
    images = _by_stem(folder / "images", image_suffixes)
    masks = _by_stem(folder / "masks", mask_suffixes)
    for ours, theirs, missing in ((images, masks, "mask"), (masks, images, "image")):
        alone = sorted(ours.keys() - theirs.keys())
        if alone and not (missing == "mask" and missing_masks == "background"):
            more = f" (and {len(alone) - 1} more)" if len(alone) > 1 else ""
            no_object = missing == "mask" and len(alone) < len(ours)
            otherwise = ", or give data.missing_masks=background if such images show no object" if no_object else ""
            raise ValueError(
                f"{ours[alone[0]]}{more} has no {missing}: put a {missing} called {stem_of(ours[alone[0]])}.* into "
                f"{folder / (missing + 's')}, {'' if otherwise else 'or '}remove the file{otherwise}."
            )
    return [Pair(path, masks.get(stem) or NoObject(path)) for stem, path in sorted(images.items())]


def split_off(pairs: Sequence[Pair], fraction: float, seed: int, purpose: str) -> tuple[list[Pair], list[Pair]]:
    """What remains and what was split off: a share of the pairs, at least one and never all; groups stay together.

    Groups, or pairs that have none, are ranked by a hash of seed and name, so that neither the order of files nor, but
    for the last place, the presence of other files decides where one goes.

    Raises:
        ValueError: there are fewer than two pairs, or groups.
    """
    groups = _groups(pairs, seed)
    if len(groups) < 2:
        what = f"{len(pairs)} image" if len(pairs) < 2 else f"{len(pairs)} images of one group (data.group)"
        raise ValueError(f"{what} cannot be divided to get a {purpose} split: give more images.")
    count = min(max(1, round(fraction * len(pairs))), len(pairs) - 1)
    off: list[Pair] = []
    taken = 0
    for group in groups[:-1]:
        if len(off) >= count:
            break
        off += group
        taken += 1
    return _in_order(pair for group in groups[taken:] for pair in group), _in_order(off)


def fold_of(pairs: Sequence[Pair], fold: int, folds: int, seed: int) -> tuple[list[Pair], list[Pair]]:
    """The pairs to train on and those to validate on, in one of several folds, each of which validates others.

    Groups, ranked as in `split_off`, go one after the other to the fold that has the fewest pairs so far.

    Raises:
        ValueError: there are fewer pairs, or groups, than folds.
    """
    groups = _groups(pairs, seed)
    if len(groups) < folds:
        what = "images" if len(groups) == len(pairs) else "groups of images (data.group)"
        raise ValueError(f"data.folds={folds}, but there are {len(groups)} {what} to train and validate on.")
    parts: list[list[Pair]] = [[] for _ in range(folds)]
    for group in groups:
        min(parts, key=len).extend(group)
    return _in_order(pair for part in (*parts[:fold], *parts[fold + 1 :]) for pair in part), _in_order(parts[fold])


def choose(pairs: Sequence[Pair], count: int, seed: int) -> tuple[list[Pair], list[Pair]]:
    """The chosen pairs and the rest, ranked as in `split_off`, so that a larger choice holds every smaller one."""
    ranked = _ranked(pairs, seed)
    return _in_order(ranked[:count]), _in_order(ranked[count:])


def find_images(folder: Path) -> list[Path]:
    """The image files of a folder, by stem.

    Raises:
        OSError: the folder cannot be read.
        ValueError: it is missing or empty, or a stem occurs twice.
    """
    return list(_by_stem(folder, IMAGE_SUFFIXES).values())


def visible(folder: Path) -> list[Path]:
    """What lies in a folder, sorted, without hidden files and folders and `Thumbs.db`; with links, wherever they lead.

    Raises:
        OSError: the folder cannot be read.
    """
    try:
        return sorted(path for path in folder.iterdir() if is_data(path.name))
    except OSError as error:
        raise in_words(folder, error) from None


def is_data(name: str) -> bool:
    """Whether a file or folder of this name is neither hidden nor left behind by a system."""
    return not name.startswith(".") and name.lower() not in _NOT_DATA


def contents(folder: Path) -> str:
    """What lies in a folder, in a few words: `12 .gif files and 2 folders`."""
    paths = visible(folder)
    folders = sum(path.is_dir() for path in paths)
    kinds = Counter(path.suffix.lower() or "other" for path in paths if not path.is_dir())
    found = [f"{count} {kind} {'file' if count == 1 else 'files'}" for kind, count in kinds.most_common(3)]
    if folders:
        found.append(f"{folders} {'folder' if folders == 1 else 'folders'}")
    return " and ".join(found) or "nothing"


def _rank(name: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}/{name}".encode(errors="surrogateescape")).digest()


def _ranked(pairs: Iterable[Pair], seed: int) -> list[Pair]:
    return sorted(pairs, key=lambda pair: _rank(pair.called, seed))


def _groups(pairs: Iterable[Pair], seed: int) -> list[list[Pair]]:
    """Pairs that belong together, ranked; a pair without a group is one by itself."""

    def name(pair: Pair) -> str:
        return pair.group or pair.called

    grouped = groupby(sorted(pairs, key=lambda pair: (name(pair), pair.called)), key=name)
    return [group for _, group in sorted(((_rank(key, seed), list(group)) for key, group in grouped))]


def _in_order(pairs: Iterable[Pair]) -> list[Pair]:
    return sorted(pairs, key=lambda pair: pair.called)


def stem_of(path: Path) -> str:
    """A file's name without its suffix, of which `.nii.gz` is one."""
    return path.name[: -len(".nii.gz")] if path.name.lower().endswith(".nii.gz") else path.stem


def _stem(path: Path) -> str:
    return unicodedata.normalize("NFC", stem_of(path))


def _by_stem(folder: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    if not folder.is_dir():
        raise ValueError(f"{folder} is missing: images belong in images/ and masks in masks/, side by side.")
    files: dict[str, Path] = {}
    for path in visible(folder):
        if not path.name.lower().endswith(tuple(suffixes)):
            continue
        stem = _stem(path)
        if stem in files:
            raise ValueError(f"{files[stem]} and {path.name} have the same stem: keep one of them.")
        files[stem] = path
    if not files:
        known = ", ".join(suffix[1:] for suffix in suffixes)
        found = contents(folder)
        if found == "nothing":
            raise ValueError(f"{folder} is empty: it holds no {known} file.")
        raise ValueError(f"{folder} holds no {known} file, but {found}.")
    return files
