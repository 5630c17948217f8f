"""Sentences that say what to type, for folders and masks that are not found or read as they are."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_seg.data.images import IMAGE_SUFFIXES
from lightning_seg.data.layout_guess import GuessedLayout, guess_layout
from lightning_seg.data.masks import MASK_SUFFIXES
from lightning_seg.data.pairs import Pair, contents
from lightning_seg.data.value_guess import guess_values, without_last


def as_typed(options: Mapping[str, str]) -> str:
    """Options of `data` as one types them in a shell."""
    return " ".join(
        shlex.quote(f"{'+' if name.startswith('masks.') else ''}data.{name}={value}") for name, value in options.items()
    )


def layout_advice(
    root: Path,
    given: Mapping[str, Any],
    image_suffixes: Sequence[str] = IMAGE_SUFFIXES,
    mask_suffixes: Sequence[str] = MASK_SUFFIXES,
) -> str:
    """Where the images and masks below a folder are, with a space before it; empty where that is not known.

    Args:
        root: the folder.
        given: the options `images` and `masks` that found nothing.
        image_suffixes: see `Layout`.
        mask_suffixes: likewise.
    """
    found = guess_layout(root, image_suffixes=image_suffixes, mask_suffixes=mask_suffixes)
    if found is None or all(given.get(name) == found.options.get(name) for name in ("images", "masks")):
        return ""
    if given.get("images") is None and _is_usual(root, found) and not found.is_complete:
        return ""
    return f" {len(found.pairs)} pairs here are found by {as_typed(found.options)}"


def values_advice(pairs: Sequence[Pair], root: Path, given: Mapping[str, Any]) -> str:
    """What reads the masks, with a space before it; empty where they are read so already, or that is not known.

    Args:
        pairs: of a split.
        root: the folder of the data.
        given: options as they are, of those that say how masks are read; `num_classes` is 1 in the binary task.
    """
    options = _of_task(guess_values(pairs, root), given.get("num_classes") == 1)
    if not options or all(str(given.get(name)) == value for name, value in options.items()):
        return ""
    return f" These masks are read by {as_typed(options)}{_or_void(options)}"


def classes_advice(root: Path, given: Mapping[str, Any], *, is_binary: bool = False) -> str:
    """What to type for a folder of images of which nothing is said but where it is; likewise.

    Args:
        root: the folder.
        given: the options of `data`.
        is_binary: whether the task is.
    """
    if given.get("images") is not None or given.get("table") is not None:
        return ""
    found = guess_layout(root)
    if found is None:
        return f" {root} holds {contents(root)}, and no images with masks are found in it."
    values = guess_values(found.pairs, root)
    options = _of_task({**({} if _is_usual(root, found) else found.options), **values}, is_binary)
    return f" The masks of {root} are read by {as_typed(options)}{_or_void(values)}" if options else ""


def _of_task(options: Mapping[str, str], is_binary: bool) -> dict[str, str]:
    """The same for the binary task, which has one class where there are two values."""
    if not is_binary or options.get("num_classes") != "2":
        return dict(options)
    names = options.get("class_names", "").replace("[background,", "[")
    return {**options, "num_classes": "1", **({"class_names": names} if names else {})}


def _or_void(values: Mapping[str, str]) -> str:
    """What to type instead if the last class is void, which values do not tell."""
    others = without_last(values)
    return f", or, if {others['ignore_index']} is void, with {as_typed(others)}" if others else ""


def _is_usual(root: Path, found: GuessedLayout) -> bool:
    """Whether files lie where they are looked for if nothing is said."""
    for part in ("images", "masks"):
        folder, _, suffix = found.options.get(part, "").rpartition("{id}")
        if folder not in (f"{part}/", f"train/{part}/", f"{{split}}/{part}/") or not suffix.startswith("."):
            return False
    return any((root / folder).is_dir() for folder in ("images", "train"))
