"""Splits as text files that list images: `data.splits.train=train.txt`."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from lightning_seg.data.mask_sources import NoObject
from lightning_seg.data.pairs import Pair, stem_of
from lightning_seg.data.patterns import Found, Pattern
from lightning_seg.data.splits import SPLIT, Splits
from lightning_seg.reading import read_text

_LISTS = (".txt", ".lst", ".csv")
_MOST = 2**28  # bytes of a list


def split_lists(splits: Mapping[str, Sequence[str]], images: Pattern) -> dict[str, list[str]]:
    """The splits that are lists of files, which are all or none.

    Raises:
        ValueError: some are and others are not, or one is neither a file nor what `{split}` is.
    """
    lists = {
        split: list(names) for split, names in splits.items() if any(name.lower().endswith(_LISTS) for name in names)
    }
    if lists and len(lists) < len(splits):
        other = next(split for split in splits if split not in lists)
        raise ValueError(f"data.splits.{other}={splits[other][0]} must be a file, as the other splits are.")
    if splits and not lists and SPLIT not in images.names:
        split, names = next(iter(splits.items()))
        raise ValueError(
            f"data.splits.{split}={names[0]} is neither a file that lists images (.txt, .lst, .csv) nor what {{split}} "
            f"is in data.images={images.text}, which has none."
        )
    return lists


def listed_pairs(
    root: Path, lists: Mapping[str, Sequence[str]], pairs: Sequence[Pair], found: Sequence[Found], missing: str
) -> Splits:
    """The pairs that lists name, by their id, their name or their path.

    Raises:
        OSError: a list cannot be read.
        ValueError: it names no image, an image of two splits, or, where `missing` is `refuse`, one without a mask.
    """
    known: dict[str, list[Pair]] = defaultdict(list)
    for pair, one in zip(pairs, found, strict=True):
        path = one.path.relative_to(root)
        ways = {
            one.parts.get("id", ""),
            stem_of(path),
            path.name,
            path.as_posix(),
            path.with_name(stem_of(path)).as_posix(),
        }
        others = [text for name, text in one.parts.items() if name not in (SPLIT,)]
        for way in {*ways, "/".join(others), pair.name} - {""}:
            known[way].append(pair)
    splits: Splits = {}
    where: dict[Path, str] = {}
    for split, files in lists.items():
        members: dict[Path, Pair] = {}
        for file in files:
            for number, text in _lines(root / file):
                pair = _one_named(root / file, number, text, known)
                if isinstance(pair.mask, NoObject) and missing == "refuse":
                    raise ValueError(f"line {number} of {root / file} names {pair.image}, which has no mask.")
                if where.setdefault(pair.image, split) != split:
                    raise ValueError(f"{pair.image} is in data.splits.{where[pair.image]} and data.splits.{split}.")
                members[pair.image] = pair
        if not members:
            raise ValueError(f"data.splits.{split}={','.join(files)} lists no image.")
        splits[split] = list(members.values())
    return splits


def _one_named(path: Path, number: int, text: str, known: Mapping[str, Sequence[Pair]]) -> Pair:
    """The pair that a line names: as a whole, or by its first word."""
    for name in dict.fromkeys((text, *text.split()[:1], text.split(",")[0].strip())):
        found = known.get(name.strip("/"))
        if found is not None:
            if len(found) > 1:
                raise ValueError(
                    f"line {number} of {path} names {name}, which are {found[0].image} and {found[1].image}: write "
                    "their paths below data.root."
                )
            return found[0]
    raise ValueError(f"line {number} of {path} names {text:.200}, which is not an image that data.images fits.")


def _lines(path: Path) -> list[tuple[int, str]]:
    """The lines of a text file that are neither empty nor comments, numbered."""
    lines = enumerate(read_text(path, _MOST).removeprefix("\ufeff").splitlines(), 1)
    return [(number, line.strip()) for number, line in lines if line.strip() and not line.lstrip().startswith("#")]
