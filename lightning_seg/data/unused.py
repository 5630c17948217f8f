"""Folders that look like data and are not used, so that nothing is left out without a word."""

from collections.abc import Collection, Iterator
from pathlib import Path

from lightning_seg.data.images import IMAGE_SUFFIXES
from lightning_seg.data.pairs import visible

_PARTS = ("images", "masks")
_NAMES = {
    *("train", "training", "val", "valid", "validation", "dev", "test", "testing", "unlabeled", "unlabelled"),
    *("images", "imgs", "image", "img", "masks", "mask", "labels", "annotations"),
}
_LOOKED_AT = 1000  # files of a folder, beyond which no image is looked for


def unused_folders(root: Path, used: Collection[Path]) -> list[Path]:
    """Folders that look like data beside and within those that are used.

    Args:
        root: the folder of a data set.
        used: folders that hold `images/` and `masks/`, `root` among them if it does.

    Raises:
        OSError: a folder cannot be read.
    """
    known = {folder / part for folder in used for part in _PARTS}
    return [
        folder
        for parent in dict.fromkeys((root, *used, *sorted(known)))
        if parent.is_dir()
        for folder in visible(parent)
        if folder.is_dir() and folder not in used and folder not in known and _looks_like_data(folder)
    ]


def _looks_like_data(folder: Path) -> bool:
    if folder.name.lower() in _NAMES:
        return any(True for _ in _some(folder))
    return any(
        path.suffix.lower() in IMAGE_SUFFIXES or (path.is_dir() and path.name.lower() in _NAMES)
        for path in _some(folder)
    )


def _some(folder: Path) -> Iterator[Path]:
    try:
        paths = folder.iterdir()
        for _ in range(_LOOKED_AT):
            path = next(paths, None)
            if path is None:
                return
            if not path.name.startswith("."):
                yield path
    except OSError:
        return
