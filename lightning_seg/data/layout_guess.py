"""What to type for a folder whose files lie elsewhere than in `images/` and `masks/`."""

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from lightning_seg.data.annotations import ANNOTATION_SUFFIXES, read_coco
from lightning_seg.data.images import IMAGE_SUFFIXES
from lightning_seg.data.layout import Layout
from lightning_seg.data.mask_sources import NoObject
from lightning_seg.data.masks import MASK_SUFFIXES, raw_pixels
from lightning_seg.data.pairs import Pair, is_data, stem_of
from lightning_seg.data.splits import USUAL_SPLITS

_MOST_FILES = 50_000  # of a folder, beyond which no layout is looked for
_DEEPEST = 6
_MOST_BYTES = 2**26  # of a file of COCO
_MOST_PIXELS = 2**24  # of a file that is looked into
_SPLIT_OF = {name: split for split, names in USUAL_SPLITS.items() for name in names}
_SPLIT = re.compile("|".join(sorted(_SPLIT_OF, key=len, reverse=True)), re.IGNORECASE)
_MASK = re.compile(
    "(masks?|msks?|labels?|lbls?|annotations?|annots?|annos?|gts?|groundtruths?|truths?|segmentations?|segs?|semantic"
    "|targets?|manual|class|ids)"
)
_IMAGE = re.compile("(images?|imgs?|jpeg|jpg|png|pictures?|photos?|pics?|inputs?|rgb|tr)")
_WORD = re.compile(r"\d+(?:st|nd|rd|th|bit)(?![a-z])|[A-Z]+(?![a-z])|[^\W\d_][a-z]*|[^\W\d_A-Z]+|\d+")
_UNLIKELY = ("object", "instance", "color", "rgb", "vis", "overlay", "edge")  # in the names of further masks
_LIKELY = ("manual",)  # beside which `mask` is of what the camera saw
_NO_PICTURES = ("depth", "disparity", "thermal", "nir")  # beside images
_MOST_LABELS = 32  # values of a mask that nothing but its pixels tells

_OBJECT = "object"  # what is called so that is the only class

Paths = Sequence[PurePosixPath]


class GuessedLayout(NamedTuple):
    """Options of `data=folder`, without `data.`, the pairs that they find, and whether no image lacks a mask."""

    options: dict[str, str]
    pairs: list[Pair]
    is_complete: bool


class _File(NamedTuple):
    path: PurePosixPath
    is_mask: bool
    kind: tuple[str, ...]  # the words that say what it is
    key: tuple[str, ...]  # all other words, which an image shares with its mask


def guess_layout(
    root: Path,
    *,
    image_suffixes: Sequence[str] = IMAGE_SUFFIXES,
    mask_suffixes: Sequence[str] = MASK_SUFFIXES,
    class_names: Sequence[str] = (),
) -> GuessedLayout | None:
    """A layout that was tried and finds the pairs below a folder; None if none does, or the folder is huge.

    Args:
        root: the folder.
        image_suffixes: see `Layout`.
        mask_suffixes: likewise.
        class_names: likewise.
    """
    try:
        paths = list(_files(root))
    except OSError:
        return None
    if len(paths) > _MOST_FILES:
        return None
    suffixes = (*mask_suffixes, *ANNOTATION_SUFFIXES)
    files = [_file(path) for path in paths if path.name.lower().endswith((*image_suffixes, *suffixes))]
    tried = {"image_suffixes": image_suffixes, "mask_suffixes": mask_suffixes, "class_names": class_names}
    of_images = (*image_suffixes, ".npy")
    by_name = sorted(_paired(files, of_images, suffixes), key=_likelihood)
    found = _first_tried(root, by_name, paths, tried) or _of_objects(root, files, tried)
    if found is None and not by_name:
        told = _told_by_content(root, [one.path for one in files])
        found = _first_tried(root, sorted(_paired(told, of_images, suffixes), key=_likelihood), paths, tried)
    return found or _of_coco(root, paths, tried, image_suffixes)


def _first_tried(
    root: Path,
    candidates: Iterable[Sequence[tuple[PurePosixPath, PurePosixPath]]],
    paths: Paths,
    options: Mapping[str, Sequence[str]],
) -> GuessedLayout | None:
    """The first of these that a layout finds."""
    for pairs in candidates:
        patterns = _patterns([image for image, _ in pairs], [mask for _, mask in pairs])
        if patterns is None:
            continue
        chosen: dict[str, str] = dict(zip(("images", "masks"), patterns, strict=True))
        lists = {} if "{split}" in patterns[0] else _lists(paths)
        for splits in [lists, {}] if lists else [{}]:
            found = _tried(root, chosen, splits, options)
            if found is not None:
                return found
    return None


def _told_by_content(root: Path, paths: Paths) -> list[_File]:
    """Files whose folders' names say nothing, such as `x/1.png` and `y/1.png`: masks are those of few values."""
    examples = {path.parent.name: path for path in reversed(paths)}
    are_labels = {name: _shows_labels(root / path) for name, path in examples.items()} if len(examples) > 1 else {}
    return [
        _File(
            path,
            are_labels[path.parent.name],
            (path.parent.name,),
            tuple(word for part in (*path.parts[:-2], stem_of(Path(path.name))) for word in _words(part)),
        )
        for path in paths
        if are_labels
    ]


def _shows_labels(path: Path) -> bool:
    try:
        pixels = raw_pixels(path, False, _MOST_PIXELS, None, None)
    except (OSError, ValueError, MemoryError):
        return False
    return len(np.unique(pixels.reshape(-1, *pixels.shape[2:]), axis=0)) <= _MOST_LABELS


def _files(root: Path) -> Iterator[PurePosixPath]:
    count = 0
    for folder, folders, names in os.walk(root):
        here = PurePosixPath(Path(folder).relative_to(root).as_posix())
        folders[:] = sorted(filter(is_data, folders)) if len(here.parts) < _DEEPEST else []
        for name in sorted(filter(is_data, names)):
            count += 1
            yield here / name
            if count > _MOST_FILES:
                return


def _file(path: PurePosixPath) -> _File:
    kind: list[str] = []
    key: list[str] = []
    is_mask: bool | None = None
    stem = stem_of(Path(path.name))
    for place, component in enumerate((*path.parts[:-1], stem)):
        here = None
        for word in _words(component):
            if _MASK.fullmatch(word):
                here = True
            elif _IMAGE.fullmatch(word):
                here = bool(here)
            else:
                split = _SPLIT_OF.get(word)
                if split is None or split not in key:  # `training/1_training.tif` says it twice
                    key.append(split or word)
                continue
            kind.append(word)
        # A folder of masks may hold `image_1.png`, and one of images `1_mask.png`.
        if here is not None and (here or place < len(path.parts) - 1 or is_mask is None):
            is_mask = here
    is_annotation = path.suffix.lower() in ANNOTATION_SUFFIXES
    return _File(path, bool(is_mask) or is_annotation, tuple(kind), tuple(key))


def _words(text: str) -> Iterator[str]:
    """Lower-case words and numbers, with `trainannot` and `imagesTr` as two each."""
    for found in _WORD.finditer(text):
        word = found[0].lower()
        split = next((name for name in _SPLIT_OF if word.startswith(name) and _MASK.fullmatch(word[len(name) :])), None)
        yield from [word] if split is None else [split, word[len(split) :]]


def _paired(
    files: Sequence[_File], image_suffixes: Sequence[str], suffixes: Sequence[str]
) -> Iterator[list[tuple[PurePosixPath, PurePosixPath]]]:
    """Images and masks that share a key, for each kind of both."""
    images: dict[object, list[_File]] = defaultdict(list)
    masks: dict[object, list[_File]] = defaultdict(list)
    for one in files:
        suffix = one.path.suffix.lower()
        if not one.is_mask and one.path.name.lower().endswith(tuple(image_suffixes)):
            for kind in ("", suffix):
                images[(one.kind, kind)].append(one)
            images["", ""].append(one)
        if one.is_mask and one.path.name.lower().endswith(tuple(suffixes)):
            masks[one.kind, suffix].append(one)
            masks[one.kind, ""].append(one)
    for some in images.values():
        for others in masks.values():
            for are_cut in (False, True):
                of_images, of_masks = (
                    {_cut(one.key, _foreign(own, other) if are_cut else set()): one.path for one in own}
                    for own, other in ((some, others), (others, some))
                )
                pairs = [(path, of_masks[key]) for key, path in of_images.items() if key in of_masks]
                unique = len(of_images) == len(some) and len(of_masks) == len(others)
                # Images to be predicted may be many more.
                if unique and len(pairs) > 1 and (2 * len(pairs) > len(some) or len(pairs) == len(others)):
                    yield pairs


def _foreign(files: Sequence[_File], others: Sequence[_File]) -> set[str]:
    """Words of all keys that no key of the others has: `sat` of `1_sat.jpg`, beside `1_mask.png`."""
    return set.intersection(*(set(one.key) for one in files)) - {word for one in others for word in one.key}


def _cut(key: Sequence[str], words: set[str]) -> tuple[str, ...]:
    return tuple(word for word in key if word not in words)


def _likelihood(pairs: Sequence[tuple[PurePosixPath, PurePosixPath]]) -> tuple[int, int, int]:
    """More pairs come first, then masks before annotations, then those that are not for the eye or of instances."""
    image, mask = (str(path).lower() for path in pairs[0])
    unlikely = sum(word in mask for word in _UNLIKELY) + sum(word in image for word in _NO_PICTURES)
    is_annotation = int(mask.endswith(ANNOTATION_SUFFIXES))
    return -len(pairs), is_annotation, unlikely - sum(word in mask for word in _LIKELY)


def _patterns(images: Paths, masks: Paths) -> tuple[str, str] | None:
    """Those of images and masks that belong together, in this order."""
    parts: dict[str, list[str]] = {}
    of_images, of_masks = ([list(path.parts[:-1]) for path in paths] for paths in (images, masks))
    stems = [[stem_of(Path(path.name)) for path in paths] for paths in (images, masks)]
    ids = _ids(*stems)
    if ids is None:
        return None
    texts: list[str] = []
    for folders, paths, affixes in ((of_images, images, ids[0]), (of_masks, masks, ids[1])):
        components = _folders(folders, parts)
        if components is None:
            return None
        endings = {path.name[len(stem_of(Path(path.name))) :].lower() for path in paths}
        texts.append("/".join([*components, affixes + (endings.pop() if len(endings) == 1 else ".*")]))
    return texts[0], texts[1]


def _ids(images: Sequence[str], masks: Sequence[str]) -> tuple[str, str] | None:
    """The patterns of the stems of both: `{id}` and what is the same in all around it."""
    if len(set(images)) == 1 and len(set(masks)) == 1:
        return images[0], masks[0]
    for outer, inner, swapped in ((masks, images, False), (images, masks, True)):
        around = {(one.partition(other)[0], one.partition(other)[2]) for one, other in zip(outer, inner, strict=True)}
        if len(around) == 1 and all(other in one for one, other in zip(outer, inner, strict=True)):
            before, after = around.pop()
            both = ("{id}", f"{before}{{id}}{after}")
            return (both[1], both[0]) if swapped else both
    cut = [_without_affixes(stems) for stems in (images, masks)]
    if cut[0][1] != cut[1][1]:
        return None
    (one, _), (other, _) = cut
    return one, other


def _without_affixes(stems: Sequence[str]) -> tuple[str, list[str]]:
    """What all stems begin and end with, as a pattern, and what is between."""
    before = re.sub(r"\d+$", "", "".join(_common(stems)))
    rest = [stem[len(before) :] for stem in stems]
    after = re.sub(r"^\d+", "", "".join(_common([one[::-1] for one in rest]))[::-1])
    return f"{before}{{id}}{after}", [one[: len(one) - len(after)] for one in rest]


def _common(sequences: Sequence[Sequence[str]]) -> list[str]:
    """What all begin with."""
    same = takewhile(lambda values: len(set(values)) == 1, zip(*sequences, strict=False))
    return [values[0] for values in same]


def _folders(folders: Sequence[Sequence[str]], parts: dict[str, list[str]]) -> list[str] | None:
    """The components of a pattern of folders, whose parts are those of `parts` or join them."""
    if len({len(one) for one in folders}) > 1:
        above = _common(folders)
        deep = ["/".join(one[len(above) :]) for one in folders]
        return [*above, "**"] if parts.setdefault("**", deep) == deep else None
    components = []
    for values in map(list, zip(*folders, strict=True)):
        component = values[0] if len(set(values)) == 1 else _varying(values, parts)
        if component is None:
            return None
        components.append(component)
    return components


def _varying(values: list[str], parts: dict[str, list[str]]) -> str | None:
    found = [_SPLIT.search(value) for value in values]
    around = {(value[: one.start()], value[one.end() :]) for value, one in zip(values, found, strict=True) if one}
    if all(found) and len(around) == 1:
        before, after = around.pop()
        middle = [one[0].lower() for one in found if one]
        return f"{before}{{split}}{after}" if parts.setdefault("split", middle) == middle else None
    for name, known in parts.items():
        if known == values:
            return f"{{{name}}}"
    name = f"folder{len(parts)}" if "folder" in parts else "folder"
    parts[name] = values
    return f"{{{name}}}"


def _lists(paths: Paths) -> dict[str, str]:
    """Text files that are called as splits are; of several those of a segmentation, else the first."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        split = _SPLIT_OF.get(path.stem.lower())
        if split is not None and path.suffix.lower() == ".txt":
            found[split].append(str(path))
    return {split: min(files, key=lambda file: ("seg" not in file.lower(), file)) for split, files in found.items()}


def _tried(
    root: Path, chosen: Mapping[str, Any], splits: Mapping[str, str], options: Mapping[str, Sequence[str]]
) -> GuessedLayout | None:
    """A layout, if it finds pairs to train on."""
    try:
        division = Layout(**chosen, splits=splits, missing_masks="background", **options).find(root)  # type: ignore[arg-type]
    except (OSError, ValueError):
        return None
    training = [pair for split in ("train", None) for pair in division.splits.get(split, [])]
    if not training:
        return None
    found = [pair for some in division.splits.values() for pair in some]
    pairs = [pair for pair in found if not isinstance(pair.mask, NoObject)]
    lists = {f"splits.{split}": file for split, file in splits.items()}
    return GuessedLayout({**chosen, **lists}, pairs, len(pairs) == len(found))


def _of_objects(root: Path, files: Sequence[_File], options: Mapping[str, Sequence[str]]) -> GuessedLayout | None:
    """A layout of a folder of masks for each image, a file for each object: `{id}/images/*.png {id}/masks/*.png`."""
    images = [one.path for one in files if not one.is_mask and one.path.name.endswith(tuple(options["image_suffixes"]))]
    masks = [one.path for one in files if one.is_mask and one.path.name.endswith(tuple(options["mask_suffixes"]))]
    folders = {path.with_name(f"*{path.suffix}") for path in masks}
    names = ("background", _OBJECT)
    ways: list[tuple[Callable[[PurePosixPath], object], Callable[[PurePosixPath], object]]] = [
        (lambda image: image.parent.parent, lambda folder: folder.parent),
        (lambda image: image.parent, lambda folder: folder.parent),
        (lambda image: image.stem, lambda folder: folder.name),
    ]
    for of_image, of_folder in ways:
        by_key = {of_image(path): path for path in images}
        folders_by_key = {of_folder(path.parent): path for path in folders}
        pairs = [(path, folders_by_key[key]) for key, path in by_key.items() if key in folders_by_key]
        if len(by_key) < len(images) or len(folders_by_key) < len(folders) or len(pairs) < 2:
            continue
        patterns = _patterns_of_folders(pairs, are_named=isinstance(next(iter(by_key)), str))
        if patterns is None:
            continue
        chosen = {"images": patterns[0], "masks": {_OBJECT: patterns[1]}}
        found = _tried(root, chosen, {}, {**options, "class_names": names})
        if found is not None:
            given = {"images": patterns[0], f"masks.{_OBJECT}": patterns[1]}
            return found._replace(options={"num_classes": "2", "class_names": f"[{','.join(names)}]", **given})
    return None


def _patterns_of_folders(
    pairs: Sequence[tuple[PurePosixPath, PurePosixPath]], *, are_named: bool
) -> tuple[str, str] | None:
    """Those of images, and of the files of a folder for each, which is, if these `are_named`, called as its image."""
    parts: dict[str, list[str]] = {"id": [image.stem for image, _ in pairs]} if are_named else {}
    texts: list[str] = []
    for paths, stem in (
        ([image for image, _ in pairs], "{id}" if are_named else "*"),
        ([mask for _, mask in pairs], "*"),
    ):
        before = set(parts)
        components = _folders([path.parts[:-1] for path in paths], parts)
        if components is None or (texts and set(parts) > before):
            return None
        endings = {path.suffix for path in paths}
        texts.append("/".join([*components, stem + (endings.pop() if len(endings) == 1 else ".*")]))
    return texts[0], texts[1]


def _of_coco(
    root: Path, paths: Paths, options: Mapping[str, Sequence[str]], image_suffixes: Sequence[str]
) -> GuessedLayout | None:
    """A layout of annotations of COCO, one file for each split or for all."""
    annotated = [path for path in paths if path.suffix.lower() == ".json" and _is_coco(root / path)]
    images = [path for path in paths if path.name.lower().endswith(tuple(image_suffixes))]
    if not annotated or not images:
        return None
    with_split = [_SPLIT.sub("{split}", str(path), count=1) for path in annotated]
    suffixes = {path.suffix.lower() for path in images}
    name = "{id}" + (suffixes.pop() if len(suffixes) == 1 else ".*")
    for masks in dict.fromkeys(with_split if len(set(with_split)) == 1 else map(str, annotated)):
        for folder in dict.fromkeys(path.parent for path in images):
            split = _SPLIT.sub("{split}", str(folder), count=1) if "{split}" in masks else str(folder)
            pattern = str(PurePosixPath(split) / name)
            found = _tried(root, {"images": pattern, "masks": masks}, {}, options)
            if found is not None and found.pairs:
                return found
    return None


def _is_coco(path: Path) -> bool:
    try:
        return path.stat().st_size <= _MOST_BYTES and bool(read_coco(path))
    except (OSError, ValueError):
        return False
