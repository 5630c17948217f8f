"""What to type for masks, by the values that they hold."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lightning_seg.data.annotations import CocoImage, LabelmeFile, YoloFile
from lightning_seg.data.image_files import MAX_PIXELS, ImageFileError
from lightning_seg.data.masks import raw_pixels
from lightning_seg.data.pairs import Pair
from lightning_seg.reading import read_json, read_text, read_yaml

_MOST_MASKS, _MOST_FILES = 32, 500
_MOST_VALUES = 64  # more are shades of antialiasing, or a photograph
_MOST_COLORS = 32
_MOST_BYTES = 2**26
_VOID = 255


def guess_values(pairs: Sequence[Pair], root: Path) -> dict[str, str]:
    """Options of `data=folder` with which the masks are read, without `data.`; none where they do not tell.

    Args:
        pairs: of which some are looked at.
        root: the folder of the data, whose `data.yaml` may name YOLO's classes.
    """
    try:
        annotated = _of_annotations([pair.mask for pair in pairs], root)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    if annotated is not None:
        return annotated
    places = np.linspace(0, len(pairs) - 1, min(len(pairs), _MOST_MASKS)).astype(int)
    sources = [pairs[index].mask for index in places]
    values: set[int] = set()
    colors: set[tuple[int, ...]] = set()
    for path in (source for source in sources if isinstance(source, Path)):
        try:
            pixels = raw_pixels(path, False, MAX_PIXELS, None, None)
        except ImageFileError as error:
            return {"num_classes": "2", "threshold": "128"} if "data.threshold=128" in str(error) else {}
        except (OSError, ValueError, MemoryError):
            return {}
        if pixels.ndim == 3:
            found = np.unique(pixels.reshape(-1, pixels.shape[-1]), axis=0)
            if (found == found[:, :1]).all():
                values |= set(found[:, 0].tolist())
            else:
                colors |= {tuple(color) for color in found.tolist()}
        else:
            values |= set(np.unique(pixels).tolist())
        if len(values) > _MOST_VALUES or len(colors) > _MOST_COLORS:
            return {}
    if colors:
        colors |= {(value,) * 3 for value in values}
        table = ",".join(f"[{','.join(map(str, color))}]" for color in sorted(colors))
        return {"num_classes": str(len(colors)), "color_table": f"[{table}]"}
    return _of_values(sorted(values)) if values else {}


def without_last(options: Mapping[str, str]) -> dict[str, str]:
    """The same if the last class were void, as in many sets; none where void is known, or there are two classes."""
    count = int(options.get("num_classes", 0)) - 1
    if count < 2 or set(options) != {"num_classes"}:
        return {}
    return {"num_classes": str(count), "ignore_index": str(count)}


def _of_values(values: list[int]) -> dict[str, str]:
    """What reads gray masks of these values."""
    if values == [0, _VOID]:
        return {"num_classes": "2", "threshold": "128"}
    void = _void(values)
    classes = [value for value in values if value != void]
    given = {} if void is None else {"ignore_index": str(void)}
    if classes == list(range(1, len(classes) + 1)) and len(classes) > 1:
        named = [f"1-{classes[-1]}:0-{classes[-1] - 1}"]
    elif classes[0] >= 0 and classes[-1] < 2 * len(classes):  # of some classes none of these masks has a pixel
        return {"num_classes": str(max(2, classes[-1] + 1)), **given}
    else:
        named = [f"{value}:{label}" for label, value in enumerate(classes)]
    if void is not None:
        named.append(f"{void}:void")
    return {"num_classes": str(max(2, len(classes))), **given, "values": f"{{{','.join(named)}}}"}


def _void(values: Sequence[int]) -> int | None:
    """A value that is far from all others, which count up from 0 or 1: 255 of most sets, -1 of arrays, 250, 65535."""
    if len(values) < 3:
        return None
    if values[-1] == _VOID or (values[-1] > 2 * len(values) and _count_up(values[:-1])):
        return values[-1]
    return values[0] if values[0] < 0 and _count_up(values[1:]) else None


def _count_up(values: Sequence[int]) -> bool:
    return values[0] in (0, 1) and values[-1] < 2 * len(values)


def _of_annotations(sources: Sequence[object], root: Path) -> dict[str, str] | None:
    """The classes that annotations name, after the background; None if masks are files of pixels."""
    names: dict[str, None] = {}
    for source in sources:
        if isinstance(source, CocoImage):
            names |= dict.fromkeys(source.categories[one["category_id"]] for one in source.annotations)
    labelme = [source for source in sources if isinstance(source, LabelmeFile)]
    for source in labelme[:_MOST_FILES]:
        names |= dict.fromkeys(str(shape["label"]) for shape in read_json(source.path, _MOST_BYTES)["shapes"])
    yolo = [source for source in sources if isinstance(source, YoloFile)]
    if yolo:
        described = root / "data.yaml"
        listed = read_yaml(described)["names"] if described.is_file() else []
        listed = list(listed.values()) if isinstance(listed, dict) else listed
        names |= dict.fromkeys(map(str, listed if isinstance(listed, list) else []))
        if not names:
            lines = [line for one in yolo[:_MOST_FILES] for line in read_text(one.path, _MOST_BYTES).splitlines()]
            classes = [int(line.split()[0]) for line in lines if line.strip()]
            return {"num_classes": str(max(classes, default=0) + 2)} if min(classes, default=0) >= 0 else {}
    if not names:
        return None
    return {"num_classes": str(len(names) + 1), "class_names": f"[{','.join(map(_quoted, ('background', *names)))}]"}


def _quoted(name: str) -> str:
    """A name as an item of a list on the command line, where nothing in it is computed or ends the quotes."""
    if re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) and name.lower() not in ("null", "true", "false"):
        return name
    escaped = re.sub(r'(\\*)("|$)', lambda found: found[1] * 2 + ('\\"' if found[2] else ""), name)
    return '"{}"'.format(re.sub(r"(\\*)\$\{", r"\1\1\\${", escaped))
