"""Finding images and their masks, and dividing them into splits."""

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from lightning_seg.data.images import IMAGE_SUFFIXES
from lightning_seg.reading import in_words

MASK_SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".gif", ".jpg", ".jpeg")  # JPEG to be refused for what it is


class Pair(NamedTuple):
    """An image's file and its mask's."""

    image: Path
    mask: Path


def find_pairs(folder: Path) -> list[Pair]:
    """The files of `folder/images` and `folder/masks` that share a stem, by stem.

    Hidden files are passed over and links are followed. Stems that Unicode can write in several forms, as macOS and
    Linux do, are the same stem.

    Raises:
        OSError: a folder cannot be read.
        ValueError: a folder is missing or empty, a stem occurs twice, or a file has no counterpart.
    """
    images = _by_stem(folder / "images", IMAGE_SUFFIXES)
    masks = _by_stem(folder / "masks", MASK_SUFFIXES)
    for ours, theirs, missing in ((images, masks, "mask"), (masks, images, "image")):
        alone = sorted(ours.keys() - theirs.keys())
        if alone:
            more = f" (and {len(alone) - 1} more)" if len(alone) > 1 else ""
            raise ValueError(
                f"{ours[alone[0]]}{more} has no {missing}: put a {missing} called {ours[alone[0]].stem}.* into "
                f"{folder / (missing + 's')}, or remove the file."
            )
    return [Pair(images[stem], masks[stem]) for stem in sorted(images)]


def split_off(pairs: Sequence[Pair], fraction: float, seed: int, purpose: str) -> tuple[list[Pair], list[Pair]]:
    """What remains and what was split off: a share of the pairs, at least one and never all.

    Pairs are ranked by a hash of seed and stem, so that neither the order of files nor, but for the last place, the
    presence of other files decides where one goes.

    Raises:
        ValueError: there are fewer than two pairs.
    """
    if len(pairs) < 2:
        raise ValueError(f"{len(pairs)} image cannot be divided to get a {purpose} split: give more images.")
    count = min(max(1, round(fraction * len(pairs))), len(pairs) - 1)
    ranked = _ranked(pairs, seed)
    return _in_order(ranked[count:]), _in_order(ranked[:count])


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
    """What lies in a folder, sorted, without hidden files and folders; with links, wherever they lead.

    Raises:
        OSError: the folder cannot be read.
    """
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise in_words(folder, error) from None


def contents(folder: Path) -> str:
    """What lies in a folder, in a few words: `12 .gif files and 2 folders`."""
    paths = visible(folder)
    folders = sum(path.is_dir() for path in paths)
    kinds = Counter(path.suffix.lower() or "other" for path in paths if not path.is_dir())
    found = [f"{count} {kind} {'file' if count == 1 else 'files'}" for kind, count in kinds.most_common(3)]
    if folders:
        found.append(f"{folders} {'folder' if folders == 1 else 'folders'}")
    return " and ".join(found) or "nothing"


def _ranked(pairs: Iterable[Pair], seed: int) -> list[Pair]:
    def rank(pair: Pair) -> bytes:
        return hashlib.sha256(f"{seed}/{_stem(pair.image)}".encode(errors="surrogateescape")).digest()

    return sorted(pairs, key=rank)


def _in_order(pairs: Iterable[Pair]) -> list[Pair]:
    return sorted(pairs, key=lambda pair: _stem(pair.image))


def _stem(path: Path) -> str:
    return unicodedata.normalize("NFC", path.stem)


def _by_stem(folder: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    if not folder.is_dir():
        raise ValueError(f"{folder} is missing: images belong in images/ and masks in masks/, side by side.")
    files: dict[str, Path] = {}
    for path in visible(folder):
        if path.suffix.lower() not in suffixes:
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
