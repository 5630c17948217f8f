"""What the values of mask files stand for."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lightning_seg.data import FolderDataModule
from lightning_seg.data.values import Values

NAMES = ["road", "car", "sky"]


def values(mapping: dict[Any, Any], ignore_index: int | None = 255) -> Values:
    return Values(mapping, 3, NAMES, ignore_index)


MAPPINGS: dict[str, tuple[dict[Any, Any], list[int], list[int]]] = {
    "numbers": ({7: 0, 8: 1, 255: "void"}, [7, 8, 8, 255], [0, 1, 1, 255]),
    "several in one class": ({1: 0, 2: 0, 9: 2}, [1, 2, 9], [0, 0, 2]),
    "names": ({1: "sky", 2: "car"}, [1, 2], [2, 1]),
    "a range": ({"1-3": 0, 4: "void"}, [1, 2, 3, 4], [0, 0, 0, 255]),
    "a range onto a range": ({0: "void", "1-3": "0-2"}, [0, 1, 2, 3], [255, 0, 1, 2]),
    "everything else": ({11: 1, "else": "void"}, [11, 0, 99, 255], [1, 255, 255, 255]),
    "everything else is a class": ({0: 0, "else": 1}, [0, 3, 200], [0, 1, 1]),
    "keys as text, as a checkpoint has them": ({"7": 0, "-1": "void"}, [7, -1], [0, 255]),
    "above 255": ({1000: 1, "60000 .. 60001": 2}, [1000, 60000, 60001], [1, 2, 2]),
    "negative range": ({"-3--1": "void", 0: 0}, [-3, -1, 0], [255, 255, 0]),
}


@pytest.mark.parametrize("what", MAPPINGS)
@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_values_become_classes_and_void(what: str, dtype: Any) -> None:
    mapping, raw, labels = MAPPINGS[what]
    if dtype == np.uint8 and not all(0 <= value < 256 for value in raw):
        return
    assert values(mapping)(np.array([raw], dtype), "a.png").tolist() == [labels]


def test_a_value_that_is_not_named_is_refused_with_file_and_pixels() -> None:
    with pytest.raises(
        ValueError, match=r"mask a\.png holds the value 4 in 1,200 pixels \(and 1 more such values\).*4: "
    ):
        values({1: 0})(np.array([4] * 1200 + [5, 1], np.uint8), "a.png")


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({1: 3}, r"data\.values has 1: 3, but classes are 0 to 2, their names, or void"),
        ({1: "tree"}, r"data\.values has 1: tree"),
        ({"x": 1}, r"names x, which is neither an integer, a range \(1-150\), nor else"),
        ({"1-3": 0, 2: 1}, "names 2 twice"),
        ({"1-3": "0-1"}, "ranges of 3 and 2 numbers"),
        ({"3-1": 0}, "names 3-1"),
        ({}, "names no value"),
        ({1: True}, "1: True"),
    ],
)
def test_mappings_that_say_nothing_are_refused(mapping: dict[Any, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        values(mapping)


def test_void_needs_a_value() -> None:
    with pytest.raises(ValueError, match=r"1: void, which needs data\.ignore_index"):
        values({1: "void", 2: 0}, None)


def folder(root: Path, mask: Any, suffix: str, **options: Any) -> FolderDataModule:
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros(np.shape(mask)[:2], np.uint8)).save(root / split / "images" / "a.png")
        path = root / split / "masks" / f"a.{suffix}"
        if suffix == "npy":
            np.save(path, np.array(mask))
        else:
            Image.fromarray(np.array(mask, np.uint8)).save(path, quality=90)
    defaults: dict[str, Any] = {"num_classes": 2, "val_fraction": 0.2, "test_fraction": 0, "seed": 0, "batch_size": 1}
    module = FolderDataModule(root, **{**defaults, **options})
    module.setup("fit")
    return module


def test_a_binary_mask_may_be_0_and_255(tmp_path: Path) -> None:
    module = folder(tmp_path, [[0, 255]], "png", num_classes=1, values={0: 0, 255: 1})
    assert module.train_set[0]["mask"].tolist() == [[0, 1]]  # type: ignore[index]


SOFT = np.kron([[0, 255], [90, 160]], np.ones((8, 8)))


@pytest.mark.parametrize("suffix", ["png", "jpg", "npy"])
def test_a_threshold_makes_two_values_of_a_soft_or_compressed_mask(tmp_path: Path, suffix: str) -> None:
    raw = SOFT if suffix != "npy" else SOFT / 255
    module = folder(tmp_path, raw, suffix, threshold=0.5 if suffix == "npy" else 128)
    assert module.train_set[0]["mask"].tolist() == (SOFT >= 128).astype(int).tolist()  # type: ignore[index]


@pytest.mark.parametrize("suffix", ["jpg", "npy"])
def test_without_a_threshold_such_masks_are_refused(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(ValueError, match=r"data\.threshold"):
        folder(tmp_path, SOFT / 255 if suffix == "npy" else SOFT, suffix)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 1, "values": {1: 1}}, r"data\.values and data\.threshold both say"),
        ({"color_table": [[0, 0, 0], [1, 1, 1]], "values": {1: 1}}, r"data\.color_table and data\.values both say"),
        (
            {"threshold": 128, "num_classes": 3},
            r"data\.threshold=128 makes two values of a mask, and there are 3 classes",
        ),
    ],
)
def test_two_ways_to_read_a_mask_exclude_each_other(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        folder(tmp_path, [[0, 1]], "png", **options)


def test_several_colors_are_one_class(tmp_path: Path) -> None:
    colors = [[[1, 1, 1], [2, 0, 0], [3, 0, 0], [9, 9, 9]]]
    table = [[1, 1, 1], [[2, 0, 0], [3, 0, 0]]]
    module = folder(tmp_path, colors, "png", color_table=table, void_colors=[[9, 9, 9]], ignore_index=255)
    assert module.train_set[0]["mask"].tolist() == [[0, 1, 1, 255]]  # type: ignore[index]
