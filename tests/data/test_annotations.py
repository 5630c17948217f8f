"""Annotations are drawn as masks, the smaller object over the larger."""

import json
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask
import pytest
from PIL import Image

from lightning_seg.data import FolderDataModule
from lightning_seg.data.annotations import drawn
from lightning_seg.data.mask_sources import MaskReader
from lightning_seg.data.outlines import coco_shape, corners, polygon

NAMES = ["background", "car", "wheel"]


def box(x0: float, y0: float, x1: float, y1: float) -> list[list[float]]:
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]


def data(root: Path, masks: str, **options: Any) -> FolderDataModule:
    for split in ("train", "val"):
        (root / split).mkdir(exist_ok=True)
        Image.new("RGB", (10, 8)).save(root / split / "a.png")
    defaults: dict[str, Any] = {"num_classes": 3, "class_names": NAMES, "ignore_index": 255, "batch_size": 1}
    return FolderDataModule(
        root,
        images="{split}/{id}.png",
        masks=masks,
        **{**defaults, "val_fraction": 0.2, "test_fraction": 0, "seed": 0, **options},
    )


def mask(module: FolderDataModule) -> Any:
    module.setup("fit")
    return module.train_set[0]["mask"].numpy()  # type: ignore[index]


# A car with a wheel in it, which the file names first, as boxes of pixels.
EXPECTED = np.zeros((8, 10), int)
EXPECTED[1:7, 1:9] = 1
EXPECTED[4:7, 2:5] = 2


def labelme(root: Path, shapes: list[dict[str, Any]], **more: Any) -> None:
    for split in ("train", "val"):
        (root / split).mkdir(exist_ok=True)
        (root / split / "a.json").write_text(json.dumps({"shapes": shapes, **more}))


def shape(label: str, points: Any, kind: str = "polygon") -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": kind}


def test_labelme_polygons_and_rectangles_are_drawn(tmp_path: Path) -> None:
    labelme(tmp_path, [shape("wheel", box(2, 4, 5, 7)), shape("car", [[1, 1], [9, 7]], "rectangle")])
    made = mask(data(tmp_path, "{split}/{id}.json"))
    assert made.tolist() == EXPECTED.tolist()  # the smaller lies over the larger, whichever comes first


def test_of_objects_over_each_other_the_smallest_is_seen_and_of_equal_ones_the_last() -> None:
    random = np.random.default_rng(0)
    shapes = [random.random((6, 7)) < random.choice([0.2, 0.5, 0.8]) for _ in range(40)] + [np.ones((6, 7), bool)] * 2
    objects = [(shape, int(label)) for shape, label in zip(shapes, random.integers(1, 9, len(shapes)), strict=True)]
    expected = np.zeros((6, 7))
    for shape, label in sorted(objects, key=lambda one: -int(one[0].sum())):
        expected[shape] = label
    assert drawn(objects, MaskReader(9, [], None), (6, 7)).tolist() == expected.tolist()


def test_objects_of_one_image_are_in_memory_one_at_a_time() -> None:
    alive: list[weakref.ref[Any]] = []

    def objects() -> Iterator[tuple[Any, int]]:
        for _ in range(1000):
            shape = np.ones((4, 4), bool)
            alive.append(weakref.ref(shape))
            yield shape, 1
            del shape
            assert sum(one() is not None for one in alive) <= 1

    drawn(objects(), MaskReader(2, [], None), (4, 4))


def test_polygons_and_circles_hold_the_pixels_whose_centers_they_hold(tmp_path: Path) -> None:
    labelme(tmp_path, [shape("car", [[0, 0], [8, 0], [0, 8]]), shape("wheel", [[7, 6], [9, 6]], "circle")])
    made = mask(data(tmp_path, "{split}/{id}.json"))
    y, x = np.mgrid[:8, :10] + 0.5
    assert ((made == 1) == (x + y < 8))[x + y != 8].all()
    assert ((made == 2) == ((x - 7) ** 2 + (y - 6) ** 2 <= 4)).all()


def test_yolo_polygons_are_drawn(tmp_path: Path) -> None:
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        lines = [
            f"{index} " + " ".join(f"{x / 10} {y / 8}" for x, y in corners)
            for index, corners in ((1, box(2, 4, 5, 7)), (0, box(1, 1, 9, 7)))
        ]
        (tmp_path / split / "a.txt").write_text("\n".join(lines) + "\n\n")
    made = mask(data(tmp_path, "{split}/{id}.txt"))
    assert made.tolist() == EXPECTED.tolist()
    other = mask(data(tmp_path, "{split}/{id}.txt", values={0: "wheel", 1: "void"}))
    assert (other[5, 3], other[2, 5]) == (255, 2)
    channels = mask(data(tmp_path, "{split}/{id}.txt", task="multilabel", num_classes=2, class_names=["car", "wheel"]))
    assert channels[:, 5, 3].tolist() == [1, 1]


def coco(root: Path, **changes: Any) -> None:
    (root / "annotations").mkdir()
    coco_mask = pytest.importorskip("pycocotools.mask")
    runs = coco_mask.encode(np.asfortranarray((EXPECTED == 2).astype(np.uint8)))
    outlines = [
        {"counts": runs["counts"].decode(), "size": [8, 10]},
        [np.array(box(1, 1, 9, 7)).flatten().tolist()],
    ]
    for split in ("train", "val"):
        content = {
            "images": [{"id": 7, "file_name": "a.png", "height": 8, "width": 10}],
            "categories": [{"id": 3, "name": "car"}, {"id": 44, "name": "wheel"}],
            "annotations": [
                {"id": 1, "image_id": 7, "category_id": 44, "segmentation": outlines[0], "iscrowd": 1},
                {"id": 2, "image_id": 7, "category_id": 3, "segmentation": outlines[1]},
            ],
            **changes,
        }
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))


def test_coco_polygons_and_run_lengths_are_drawn(tmp_path: Path) -> None:
    coco(tmp_path)
    made = mask(data(tmp_path, "annotations/instances_{split}.json"))
    assert made.tolist() == EXPECTED.tolist()
    ids = {3: 2, 44: "void"}
    other = mask(data(tmp_path, "annotations/instances_{split}.json", values=ids))
    assert (other[5, 3], other[2, 5]) == (255, 2)


MISTAKES: dict[str, tuple[Any, str, str]] = {
    "unknown category": (
        lambda root: coco(root, categories=[{"id": 3, "name": "car"}, {"id": 44, "name": "tyre"}]),
        "annotations/instances_{split}.json",
        r"object of tyre, which is not one of data\.class_names \(background, car, wheel\)",
    ),
    "an image that COCO does not name": (
        lambda root: coco(root, images=[]),
        "annotations/instances_{split}.json",
        r"a\.png .*has no mask|a\.png has no mask",
    ),
    "no COCO file": (
        lambda root: coco(root, categories=None),
        "annotations/instances_{split}.json",
        "is not a COCO file, which has images, annotations and categories",
    ),
    **{
        f"COCO's {what}": (
            lambda root, changes=changes: coco(root, **changes),
            "annotations/instances_{split}.json",
            rf"instances_train\.json is malformed \({message}\)",
        )
        for what, changes, message in [
            ("endless id", {"categories": [{"id": float("inf"), "name": "car"}]}, "id=inf"),
            ("broken id", {"categories": [{"id": 3.7, "name": "car"}]}, r"id=3\.7"),
            ("second category", {"categories": [{"id": 3, "name": "car"}] * 2}, "two of its categories have the id 3"),
            (
                "second image",
                {"images": [{"id": 7, "file_name": "a.png"}, {"id": 7, "file_name": "b.png"}]},
                "two of its images have the id 7",
            ),
            (
                "second name",
                {"images": [{"id": 7, "file_name": "a.png"}, {"id": 8, "file_name": "a.png"}]},
                r"two of its images have the file_name a\.png",
            ),
        ]
    },
    "an endless label": (
        lambda root: labelme(root, [shape("x" * 10**6, box(1, 1, 2, 2))]),
        "{split}/{id}.json",
        r"a\.json has an object of x{80}, which",
    ),
    "unknown label": (
        lambda root: labelme(root, [shape("tree", box(1, 1, 2, 2))]),
        "{split}/{id}.json",
        r"a\.json has an object of tree",
    ),
    "another size": (
        lambda root: labelme(root, [], imageHeight=9, imageWidth=10),
        "{split}/{id}.json",
        "describes an image of 9×10, and its image is 8×10",
    ),
    "a line": (
        lambda root: labelme(root, [shape("car", [[1, 1], [2, 2]], "line")]),
        "{split}/{id}.json",
        r"has a line as shape 0, and polygons, rectangles and circles are drawn",
    ),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_annotations_that_cannot_be_drawn_are_refused(tmp_path: Path, what: str) -> None:
    write, masks, message = MISTAKES[what]
    write(tmp_path)
    with pytest.raises(ValueError, match=message):
        data(tmp_path, masks).setup("fit")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.1 0.1 0.5 0.5", r"line 1 of .* has 4 numbers after its class, .* boxes are not masks"),
        ("7 0 0 1 0 1 1", "has class 7, which would be class 8 of 3"),
        ("car 0 0 1 0 1 1", "holds something other than numbers"),
    ],
)
def test_lines_of_yolo_that_are_no_polygon_are_refused(tmp_path: Path, line: str, message: str) -> None:
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "a.txt").write_text(line)
    with pytest.raises(ValueError, match=message):
        data(tmp_path, "{split}/{id}.txt").setup("fit")


OBJECTS: dict[str, tuple[Any, str]] = {  # a segmentation, and what is said of it
    "run lengths of another size": ({"size": [2**31, 2**31], "counts": "1"}, r"run lengths of .* in an image of 8×10"),
    "too many pixels": ({"size": [8, 10], "counts": [0, 10**9]}, "do not add up to 8×10 pixels"),
    "too few pixels": ({"size": [8, 10], "counts": [5]}, "do not add up to 8×10 pixels"),
    "a negative run": ({"size": [8, 10], "counts": [-5, 85]}, "do not add up to 8×10 pixels"),
    "text that does not end": ({"size": [8, 10], "counts": "o" * 1000}, "do not add up to 8×10 pixels"),
    "other characters": ({"size": [8, 10], "counts": "é\0"}, "do not add up to 8×10 pixels"),
    "corners far away": ([[0, 0, 1e9, 0, 1e9, 1e9]], "far outside of the image"),
    "no numbers": ([[float("nan")] * 6], "not finite"),
    "a rim of gigabytes": ([[0, 0, 60, 0] * 50_000], "far longer than any in an image"),
    "rims of gigabytes together": ([[0, 0, 60, 0] * 5_000] * 10, "far longer than any in an image"),
    "a box": ([[1, 2, 3, 4]], "not 3 corners or more"),
    "half a corner": ([[1, 2, 3, 4, 5, 6, 7]], "neither polygons"),
    "something else": ("abc", "neither polygons"),
}


@pytest.mark.parametrize("what", OBJECTS)
def test_outlines_of_coco_are_checked_before_c_code_draws_them(what: str) -> None:
    outline, message = OBJECTS[what]
    with pytest.raises(ValueError, match=message):
        coco_shape(outline, (8, 10), "a.json")


def test_run_lengths_as_text_are_those_of_pycocotools() -> None:
    for seed in range(20):
        random = np.random.default_rng(seed)
        drawn = random.random((37, 53)) < random.choice([0.001, 0.1, 0.5, 0.99])
        encoded = pycocotools.mask.encode(np.asfortranarray(drawn.astype(np.uint8)))
        outline = {"size": encoded["size"], "counts": encoded["counts"].decode()}
        assert (coco_shape(outline, (37, 53), "a.json") == drawn).all()


@pytest.mark.parametrize(
    "points", [5, "abc", None, [[1, 2], [3]], [[1, 2, 3]] * 4, [[10**400, 1]] * 3, {"a": 1}, [[1, 1]]]
)
def test_what_is_no_list_of_corners_is_refused(points: Any) -> None:
    with pytest.raises(ValueError, match="not 3 corners or more"):
        corners(points, 3, (8, 10), "a.json")


def test_a_rim_of_gigabytes_is_refused_wherever_its_corners_come_from() -> None:
    with pytest.raises(ValueError, match="far longer than any in an image"):
        corners([[0, 0], [60, 60]] * 50_000, 3, (8, 10), "a.json")


def test_polygons_are_drawn_alike_in_one_go_and_in_many() -> None:
    size = (40, 50)
    points = np.random.default_rng(0).random((700, 2)) * 60 - 5
    y, x = np.mgrid[:40, :50] + 0.5
    inside = np.zeros(size, bool)
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        inside ^= ((y0 > y) != (y1 > y)) & (x >= x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    assert (polygon(points, size) == inside).all()


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 1e300, -1000])
def test_corners_lie_in_or_near_the_image(number: float) -> None:
    with pytest.raises(ValueError, match="not finite, or far outside"):
        corners([[1, 2], [3, 4], [5, number]], 3, (8, 10), "a.json")
