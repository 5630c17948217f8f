"""Labels drawn from annotations: COCO's JSON, Labelme's, and YOLO's polygons.

Larger objects are drawn first, so that smaller ones lie over them; of equal areas the later one in the file does. What
no object covers is class 0, the background.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from lightning_seg.data.image_files import ImageFileError
from lightning_seg.data.mask_sources import MaskReader, Size
from lightning_seg.data.outlines import Shape, coco_shape, corners, polygon
from lightning_seg.data.values import VOID
from lightning_seg.reading import read_json, read_text

ANNOTATION_SUFFIXES = (".json", ".txt")
_MOST = 2**31  # bytes of a file


@dataclass(frozen=True)
class LabelmeFile:
    """The objects of one image, by their labels, which are class names or `void`.

    Args:
        path: a JSON file of Labelme.
    """

    shows: ClassVar[str] = "Labelme's labels are names, those of data.class_names"
    unread: ClassVar[tuple[str, ...]] = ("color_table", "values", "threshold", "mask_page")
    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def read(self, reader: MaskReader, size: Callable[[], Size]) -> Tensor:
        """See `MaskSource`."""
        content = read_json(self.path, _MOST)
        height, width = size()
        shapes = content.get("shapes") if isinstance(content, dict) else None
        if not isinstance(shapes, list):
            raise ImageFileError(f"{self.path} is not a Labelme file: it has no shapes.")
        stated = content.get("imageHeight") or height, content.get("imageWidth") or width
        if stated != (height, width):
            raise ImageFileError(
                f"{self.path} describes an image of {_short(stated[0])}×{_short(stated[1])}, and its image is "
                f"{height}×{width}."
            )
        return drawn(self._objects(shapes, reader, (height, width)), reader, (height, width))

    def _objects(self, shapes: Sequence[Any], reader: MaskReader, size: Size) -> Iterator[tuple[Shape, int]]:
        for number, shape in enumerate(shapes):
            if not isinstance(shape, dict):
                raise ImageFileError(f"{self.path} has {shape!r:.40} as shape {number}, which is not an object.")
            kind, points = shape.get("shape_type", "polygon"), shape.get("points", [])
            if kind not in ("polygon", "rectangle", "circle"):
                raise ImageFileError(
                    f"{self.path} has a {_short(kind)} as shape {number}, and polygons, rectangles and circles are "
                    "drawn."
                )
            label = _named(shape.get("label"), reader, self.path)
            yield _labelme_shape(kind, points, size, f"shape {number} of {self.path}"), label


@dataclass(frozen=True)
class YoloFile:
    """The objects of one image, a line each: the index of a class, and the corners of a polygon as shares of the size.

    Without `data.values` index i is class i + 1, the background being class 0, and in the multilabel task class i.

    Args:
        path: a text file of YOLO.
    """

    shows: ClassVar[str] = "masks are drawn from annotations"
    unread: ClassVar[tuple[str, ...]] = ("color_table", "threshold", "mask_page")
    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def read(self, reader: MaskReader, size: Callable[[], Size]) -> Tensor:
        """See `MaskSource`."""
        found = size()
        return drawn(self._objects(reader, found), reader, found)

    def _objects(self, reader: MaskReader, size: Size) -> Iterator[tuple[Shape, int]]:
        height, width = size
        for number, line in enumerate(read_text(self.path, _MOST).splitlines(), 1):
            if not line.strip():
                continue
            try:
                index, *rest = line.split()
                raw, numbers = int(index), [float(one) for one in rest]
            except ValueError:
                raise ImageFileError(f"line {number} of {self.path} holds something other than numbers.") from None
            if len(numbers) < 6 or len(numbers) % 2:
                raise ImageFileError(
                    f"line {number} of {self.path} has {len(numbers)} numbers after its class, and a polygon has the x "
                    "and y of 3 corners or more; boxes are not masks."
                )
            label = self._label(raw, number, reader)
            pixels = [(x * width, y * height) for x, y in zip(numbers[::2], numbers[1::2], strict=True)]
            yield polygon(corners(pixels, 3, size, f"line {number} of {self.path}"), size), label

    def _label(self, raw: int, number: int, reader: MaskReader) -> int:
        if reader.values is not None:
            return int(reader.values(np.array([raw]), self.path)[0])
        label = raw if reader.multilabel else raw + 1
        if not 0 <= label < reader.num_values:
            raise ImageFileError(
                f"line {number} of {self.path} has class {raw}, which would be class {label} of {reader.num_values}: "
                "say which it is with data.values."
            )
        return label


@dataclass(frozen=True)
class CocoImage:
    """The objects of one image of a COCO file, by the names of their categories or, with `data.values`, their ids.

    Args:
        path: the JSON file.
        name: of the image in it.
        categories: name of each id.
        annotations: of the image.
    """

    shows: ClassVar[str] = "masks are drawn from annotations"
    unread: ClassVar[tuple[str, ...]] = ("color_table", "threshold", "mask_page")
    path: Path
    name: str
    categories: Mapping[int, str] = field(repr=False)
    annotations: Sequence[Mapping[str, Any]] = field(repr=False)

    def __str__(self) -> str:
        return f"{self.path} ({self.name})"

    def read(self, reader: MaskReader, size: Callable[[], Size]) -> Tensor:
        """See `MaskSource`.

        Raises:
            ImportError: pycocotools is not installed.
            ImageFileError: a category has no class, or an outline cannot be drawn.
        """
        found = size()
        return drawn(self._objects(reader, found), reader, found)

    def _objects(self, reader: MaskReader, size: Size) -> Iterator[tuple[Shape, int]]:
        for one in self.annotations:
            outline = one.get("segmentation")
            if not outline:
                raise ImageFileError(f"{self} has an annotation ({one.get('id')}) that has a box and no outline.")
            raw = one["category_id"]
            if reader.values is not None:
                label = int(reader.values(np.array([raw]), self)[0])
            else:
                label = _named(self.categories.get(raw, raw), reader, self)
            yield coco_shape(outline, size, f"{self}, annotation {one.get('id')},"), label


def read_coco(path: Path) -> dict[str, CocoImage]:
    """The images of a COCO file, by their `file_name`.

    Raises:
        OSError: it cannot be read.
        ImageFileError: it is no such file.
    """
    content = read_json(path, _MOST)
    parts = [
        content.get(name) if isinstance(content, dict) else None for name in ("images", "annotations", "categories")
    ]
    if not all(isinstance(part, list) for part in parts):
        raise ImageFileError(f"{path} is not a COCO file, which has images, annotations and categories.")
    images, annotations, categories = parts
    try:
        _check_different(categories, "id", "categories")
        _check_different(images, "id", "images")
        _check_different(images, "file_name", "images")
        for one in categories:  # type: ignore[union-attr]
            if type(one["id"]) is not int:
                raise ValueError(f"id={one['id']!r:.20}")
        names = {one["id"]: str(one["name"]) for one in categories}  # type: ignore[union-attr]
        of_image: dict[Any, list[Mapping[str, Any]]] = defaultdict(list)
        for one in annotations:  # type: ignore[union-attr]
            if type(one["category_id"]) is not int:
                raise ValueError(f"category_id={one['category_id']!r:.20}")
            of_image[one["image_id"]].append(one)
        return {
            str(one["file_name"]): CocoImage(path, str(one["file_name"]), names, of_image[one["id"]])
            for one in images  # type: ignore[union-attr]
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        wrong = f"lacks {error}" if isinstance(error, KeyError) else f"is malformed ({error})"
        raise ImageFileError(f"{path} {wrong} in one of its entries.") from None


def _check_different(entries: Any, key: str, what: str) -> None:
    twice = [name for name, count in Counter(one[key] for one in entries).items() if count > 1]
    if twice:
        raise ValueError(f"two of its {what} have the {key} {_short(twice[0])}")


def _short(value: object) -> str:
    return f"{value!s:.80}"


def drawn(objects: Iterable[tuple[Shape, int]], reader: MaskReader, size: Size) -> Tensor:
    """A mask of objects, each with where it is and its label; one of them is in memory at a time."""
    if reader.multilabel:
        channels = torch.zeros(reader.num_values, *size, dtype=torch.int64)
        for shape, label in objects:
            channels[label][torch.from_numpy(shape)] = 1
        return channels
    mask = np.zeros(size, np.int64)
    areas = np.full(size, size[0] * size[1], np.int64)  # of the objects that are seen
    for shape, label in objects:
        area = int(shape.sum())
        above = shape & (areas >= area)
        mask[above], areas[above] = label, area
    return torch.from_numpy(mask)


def _named(name: object, reader: MaskReader, place: object) -> int:
    if name in reader.class_names:
        return list(reader.class_names).index(str(name))
    if name == VOID and reader.ignore_index is not None and not reader.multilabel:
        return reader.ignore_index
    raise ImageFileError(
        f"{place} has an object of {_short(name)}, which is not one of data.class_names "
        f"({', '.join(reader.class_names)}): add it there, or, of COCO, map its id with data.values."
    )


def _labelme_shape(kind: str, points: Any, size: Size, place: str) -> Shape:
    found = corners(points, 3 if kind == "polygon" else 2, size, place)
    if kind == "polygon":
        return polygon(found, size)
    (x0, y0), (x1, y1) = found[:2]
    if kind == "rectangle":
        return polygon(np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]), size)
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    # Of a circle these are the center and a point of the rim.
    shape: Shape = (x - x0) ** 2 + (y - y0) ** 2 <= (x1 - x0) ** 2 + (y1 - y0) ** 2
    return shape
