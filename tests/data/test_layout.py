"""Pairs are found where patterns, lists and tables say, and what is not found is said."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_seg.data import FolderDataModule
from lightning_seg.data.layout import Layout
from lightning_seg.data.patterns import Pattern

SUFFIXES = (".png", ".jpg", ".gif")


def picture(path: Path, values: Any = ((0, 1), (2, 0))) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(values, np.uint8)).save(path)


def data(root: Path, images: str | None, masks: Any, **options: Any) -> FolderDataModule:
    defaults = {"num_classes": 3, "val_fraction": 0.25, "test_fraction": 0.0, "seed": 0, "batch_size": 1}
    return FolderDataModule(root, images=images, masks=masks, **{**defaults, "ignore_index": 255, **options})


def found(module: FolderDataModule) -> dict[str, dict[str, str]]:
    """The mask of each image, by split, below the root."""
    return {
        split: {str(p.image.relative_to(module.root)): str(p.mask).removeprefix(f"{module.root}/") for p in pairs}
        for split, pairs in module._splits().items()
    }


def names(module: FolderDataModule, *splits: str) -> list[list[str]]:
    pairs = module._splits()
    return [[pair.called for pair in pairs[split]] for split in splits]


LAYOUTS: dict[str, tuple[str, str, Sequence[tuple[str, str]]]] = {
    "split and suffix": (
        "images/{split}/{id}.jpg",
        "masks/{split}/{id}_mask.png",
        [("images/train/a.jpg", "masks/train/a_mask.png"), ("images/val/b.jpg", "masks/val/b_mask.png")],
    ),
    "further parts, the same stem in two": (
        "leftImg8bit/{split}/{city}/{id}_leftImg8bit.png",
        "gtFine/{split}/{city}/{id}_gtFine_labelIds.png",
        [
            ("leftImg8bit/train/ulm/1_leftImg8bit.png", "gtFine/train/ulm/1_gtFine_labelIds.png"),
            ("leftImg8bit/train/bonn/1_leftImg8bit.png", "gtFine/train/bonn/1_gtFine_labelIds.png"),
            ("leftImg8bit/val/ulm/2_leftImg8bit.png", "gtFine/val/ulm/2_gtFine_labelIds.png"),
        ],
    ),
    "deep folders": (
        "{split}/**/{id}.png",
        "labels/{split}/**/{id}.gif",
        [
            ("train/x/y/1.png", "labels/train/x/y/1.gif"),
            ("train/1.png", "labels/train/1.gif"),
            ("val/z/1.png", "labels/val/z/1.gif"),
        ],
    ),
    "a folder for each image": (
        "{split}/{id}/{id}.png",
        "{split}/{id}/label_*.png",
        [("train/a/a.png", "train/a/label_x1.png"), ("val/b/b.png", "val/b/label_x2.png")],
    ),
    "any suffix, in upper case, other names of splits": (
        "{split}/im/{id}.*",
        "{split}/gt/{id}.png",
        [("Training/im/a.JPG", "Training/gt/a.PNG"), ("Validation/im/b.png", "Validation/gt/b.png")],
    ),
    "split not in the masks": (
        "{split}/{id}.png",
        "masks/{id}.png",
        [("train/a.png", "masks/a.png"), ("val/b.png", "masks/b.png")],
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_patterns_pair_images_and_masks(tmp_path: Path, layout: str) -> None:
    images, masks, pairs = LAYOUTS[layout]
    for image, mask in pairs:
        picture(tmp_path / image)
        picture(tmp_path / mask)
        (tmp_path / Path(image).parent / f"._{Path(image).name}").touch()
    (tmp_path / Path(pairs[0][0]).parent / "Thumbs.db").touch()
    module = data(tmp_path, images, masks)
    module.setup()
    assert {image: mask for split in found(module).values() for image, mask in split.items()} == dict(pairs)
    assert set(found(module)) == {"train", "val"}
    everyone = [pair.called for split in module._splits().values() for pair in split]
    assert len(set(everyone)) == len(everyone)


def test_names_are_one_in_every_form_of_unicode(tmp_path: Path) -> None:
    for image, mask in (("é1.png", "e\u03011_m.png"), ("日本.png", "日本_m.png")):
        picture(tmp_path / "i" / image)
        picture(tmp_path / "m" / mask)
    assert len(data(tmp_path, "i/{id}.png", "m/{id}_m.png").layout.find(tmp_path).splits[None]) == 2


def test_the_first_lines_say_how_many_pairs_there_are_and_show_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for split, count in (("train", 3), ("val", 2)):
        for index in range(count):
            picture(tmp_path / "im" / split / f"{index}.png")
            picture(tmp_path / "gt" / split / f"{index}_m.png")
    module = data(tmp_path, "im/{split}/{id}.png", "gt/{split}/{id}_m.png")
    with caplog.at_level(logging.INFO, "lightning_seg.data.folder"):
        module.setup("fit")
        module.setup("test")
    said = [line for line in caplog.messages if "image-mask pairs" in line]
    assert said == [f"{tmp_path}: image-mask pairs: train 3, val 2; for example im/train/0.png with gt/train/0_m.png"]
    assert caplog.messages[0] == said[0]


def several(root: Path, stems: Sequence[str] = "abcdefgh") -> None:
    for stem in stems:
        picture(root / "im" / f"{stem}.png")
        picture(root / "gt" / f"{stem}.png")


PLAIN = ("im/{id}.png", "gt/{id}.png")


def test_a_number_is_the_name_of_a_folder() -> None:
    layout = Layout(images="{split}/{id}.png", masks="{split}/{id}_m.png", splits={"train": 2019, "val": [2020, 2021]})
    assert layout.given_splits == {"train": ["2019"], "val": ["2020", "2021"]}


def test_text_files_say_which_images_are_of_a_split(tmp_path: Path) -> None:
    several(tmp_path)
    picture(tmp_path / "im" / "unlisted.png")  # as most of VOC's images, which have no mask
    lists = {
        "train.txt": "# ids\na\nb 1 2\n\n",
        "more.txt": "im/c.png\n",
        "val.txt": "d.png\nim/e\n",
        "test.txt": "f\r\n",
    }
    for name, text in lists.items():
        (tmp_path / name).write_text(text)
    splits = {"train": ["train.txt", "more.txt"], "val": "val.txt", "test": "test.txt"}
    module = data(tmp_path, *PLAIN, splits=splits)
    assert names(module, "train", "val", "test") == [["a", "b", "c"], ["d", "e"], ["f"]]


@pytest.mark.parametrize("outside", ["../gt/a.png", "/gt/a.png", "im/../../gt/a.png"])
def test_a_table_names_files_below_the_root(tmp_path: Path, outside: str) -> None:
    several(tmp_path / "root")
    several(tmp_path)
    (tmp_path / "root/all.csv").write_text(f"image,mask,split\nim/a.png,{outside},train\nim/b.png,gt/b.png,val")
    with pytest.raises(ValueError, match=r"line 2 of \S+all\.csv names \S+, which is not below data\.root="):
        data(tmp_path / "root", None, None, table="all.csv").setup("fit")


def test_a_table_has_paths_and_splits(tmp_path: Path) -> None:
    several(tmp_path)
    rows = [f"im/{stem}.png;gt/{stem}.png;{fold}" for stem, fold in zip("abcd", ("tr", "tr", "va", "va"), strict=True)]
    (tmp_path / "all.csv").write_text("\ufefffile;mask;part\n" + "\n".join(rows))
    columns = {"image": "file", "split": "part"}
    module = data(tmp_path, None, None, table="all.csv", columns=columns, splits={"train": "tr", "val": "va"})
    assert names(module, "train", "val") == [["a", "b"], ["c", "d"]]
    by_pattern = data(
        tmp_path, "im/{id}.png", "gt/{id}.png", table="all.csv", columns=columns, splits={"train": "tr", "val": "va"}
    )
    assert found(by_pattern) == found(module)


def test_groups_stay_together_in_a_random_split_and_in_folds(tmp_path: Path) -> None:
    several(tmp_path, [f"p{patient}_{slice}" for patient in range(6) for slice in range(patient + 1)])
    images, masks = "im/{patient}_{id}.png", "gt/{patient}_{id}.png"

    def patients(**options: Any) -> list[set[str]]:
        module = data(tmp_path, images, masks, group="{patient}", **options)
        return [{name.split("_")[0] for name in split} for split in names(module, *module._splits())]

    for groups in (patients(test_fraction=0.2), *(patients(fold=fold, folds=3) for fold in range(3))):
        assert sum(map(len, groups)) == len(set().union(*groups)) == 6
        assert all(groups)
    validated = [
        names(data(tmp_path, images, masks, group="patient", fold=fold, folds=3), "val")[0] for fold in range(3)
    ]
    assert sorted(name for fold in validated for name in fold) == sorted(
        path.stem for path in (tmp_path / "im").iterdir()
    )


def test_folds_divide_training_and_validation_images_and_leave_the_test(tmp_path: Path) -> None:
    for split, stems in (("train", "abcdef"), ("val", "gh"), ("test", "xy")):
        several(tmp_path / split, stems)
    folds = [
        names(data(tmp_path, "{split}/im/{id}.png", "{split}/gt/{id}.png", fold=fold, folds=4), "train", "val", "test")
        for fold in range(4)
    ]
    assert all(test == ["x", "y"] and sorted(train + val) == list("abcdefgh") for train, val, test in folds)
    assert sorted(name for _, val, _ in folds for name in val) == list("abcdefgh")


def test_binary_files_of_each_class_become_one_map(tmp_path: Path) -> None:
    for stem in "abcd":
        picture(tmp_path / "im" / f"{stem}.png")
        picture(tmp_path / "road" / f"{stem}.png", [[255, 0], [0, 0]])
        picture(tmp_path / "cars" / f"{stem}_1.png", [[0, 1], [0, 0]])
        picture(tmp_path / "cars" / f"{stem}_2.png", [[0, 0], [1, 0]])
    (tmp_path / "road" / "d.png").unlink()
    masks = {"road": "road/{id}.png", "car": "cars/{id}_*.png"}
    module = data(tmp_path, "im/{id}.png", masks, class_names=["background", "road", "car"])
    module.setup()
    samples = {s["name"]: s["mask"].tolist() for s in (*module.train_set, *module.val_set)}  # type: ignore[misc]
    assert samples == {**{stem: [[1, 2], [2, 0]] for stem in "abc"}, "d": [[0, 2], [2, 0]]}
    channels = data(tmp_path, "im/{id}.png", masks, num_classes=2, class_names=["road", "car"], task="multilabel")
    channels.setup()
    samples = {s["name"]: s["mask"] for s in (*channels.train_set, *channels.val_set)}  # type: ignore[misc]
    assert samples["a"].tolist() == [[[1, 0], [0, 0]], [[0, 1], [1, 0]]]
    assert samples["d"].tolist() == [[[0, 0], [0, 0]], [[0, 1], [1, 0]]]
    assert sum(channels.pixel_counts.values()).tolist() == [3, 8]  # type: ignore[union-attr]
    batch = next(iter(channels.train_dataloader()))
    assert batch["mask"].shape == (1, 2, 2, 2)


def test_class_in_a_pattern_is_each_of_the_class_names(tmp_path: Path) -> None:
    for stem in "ab":
        picture(tmp_path / "im" / f"{stem}.png")
        for name in ("road", "car"):
            picture(
                tmp_path / name / f"{stem}.png",
                [[255, 0], [0, int(name == "car")]] if name == "road" else [[0, 9], [9, 0]],
            )
    module = data(
        tmp_path, "im/{id}.png", "{class}/{id}.png", num_classes=2, class_names=["road", "car"], task="multilabel"
    )
    module.setup()
    assert module.train_set[0]["mask"].tolist() == [[[1, 0], [0, 0]], [[0, 1], [1, 0]]]  # type: ignore[index]


def test_pixels_of_no_class_are_void_where_the_background_has_a_file(tmp_path: Path) -> None:
    for stem in "ab":
        picture(tmp_path / "im" / f"{stem}.png")
        picture(tmp_path / "sky" / f"{stem}.png", [[1, 0], [0, 0]])
        picture(tmp_path / "sea" / f"{stem}.png", [[0, 1], [0, 0]])
    options: dict[str, Any] = {"num_classes": 2, "class_names": ["sky", "sea"]}
    module = data(tmp_path, "im/{id}.png", "{class}/{id}.png", **options)
    module.setup()
    assert module.train_set[0]["mask"].tolist() == [[0, 1], [255, 255]]  # type: ignore[index]
    with pytest.raises(ValueError, match=r"2 pixels of .* have no class: set data\.ignore_index"):
        data(tmp_path, "im/{id}.png", "{class}/{id}.png", **options, ignore_index=None).setup()


def test_images_without_a_mask_show_no_object_if_told_so(tmp_path: Path) -> None:
    several(tmp_path, "abcd")
    (tmp_path / "gt" / "c.png").unlink()
    with pytest.raises(ValueError, match=r"c\.png has no mask: .*data\.missing_masks=background"):
        data(tmp_path, *PLAIN).setup()
    module = data(tmp_path, *PLAIN, missing_masks="background")
    module.setup()
    samples = {s["name"]: s["mask"].tolist() for s in (*module.train_set, *module.val_set)}  # type: ignore[misc]
    assert samples["c"] == [[0, 0], [0, 0]]
    assert samples["a"] == [[0, 1], [2, 0]]


def test_a_test_split_without_masks_is_said_and_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for split in ("train", "val"):
        several(tmp_path / split, "ab")
    for split in ("test", "extra"):
        picture(tmp_path / split / "im" / "t.png")
    module = data(tmp_path, "{split}/im/{id}.png", "{split}/gt/{id}.png")
    assert set(module._splits()) == {"train", "val"}
    assert "the test images have no masks: the test is done on the validation images." in caplog.messages
    assert "{split} of data.images is also extra (1 image), which is not used." in caplog.messages


def test_groups_that_are_in_several_given_splits_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    several(tmp_path / "train", ["p1_a", "p2_b"])
    several(tmp_path / "val", ["p1_c"])
    data(tmp_path, "{split}/im/{patient}_{id}.png", "{split}/gt/{patient}_{id}.png", group="{patient}")._splits()
    assert "images of the group p1 are in train and val, so scores may be too good." in caplog.messages


def lists(root: Path, **files: str) -> None:
    for name, text in files.items():
        (root / f"{name}.txt").write_text(text)


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "no such folder": (
        {"images": "img/{id}.png"},
        r"img/\{id\}\.png fits no file below .*: nothing in data\.root is called img; there are 2 \.txt files and",
    ),
    "no such suffix": (
        {"images": "im/{id}.jpg"},
        r"nothing in im/ is called \{id\}\.jpg; there are 3 \.png files \(a\.png, b\.png, c\.png\)",
    ),
    "masks that fit nothing": ({"masks": "gt/{id}_mask.png"}, r"data\.masks=gt/\{id\}_mask\.png fits no file"),
    "only one of both": ({"masks": None}, r"data\.images is given and data\.masks is not"),
    "no part in common": ({"masks": "gt/a.png"}, "no part that pairs them"),
    "a part of masks alone": (
        {"masks": "gt/{id}{x}.png"},
        r"has the part \{x\}, which data\.images=.* does not have: write \*",
    ),
    "above the root": ({"images": "../{id}.png"}, r"must be a path below data\.root"),
    "a brace alone": ({"images": "im/{id.png"}, "must name its parts in braces"),
    "no suffix": ({"images": "im/{id}"}, "must end with the suffix of a file"),
    "two masks": ({"masks": "gt/{id}*.png"}, r"a\.png has 2 masks, a\.png and a2\.png among them"),
    "a mask too many": ({}, r"gt/a2\.png has no image: data\.images=im/\{id\}\.png fits none"),
    "an unknown split": (
        {"splits": {"train": "tr"}},
        r"data\.splits\.train=tr is neither a file .* nor what \{split\} is",
    ),
    "a list that is not there": ({"splits": {"train": "no.txt"}}, r"no\.txt does not exist"),
    "a name that is not there": (
        {"splits": {"train": "wrong.txt"}},
        r"line 2 of .*wrong\.txt names z{200}, which is not an image",
    ),
    "an image in two": (
        {"splits": {"train": "one.txt", "val": "one.txt"}},
        r"a\.png is in data\.splits\.train and data\.splits\.val",
    ),
    "an unknown class": (
        {"masks": {"car": "gt/{id}.png"}},
        r"data\.masks\.car is not one of data\.class_names, 0, 1, 2",
    ),
    "a column without a table": (
        {"columns": {"image": "file", "mask": "mask"}},
        r"data\.columns\.image=file is a column of data\.table, and there is none",
    ),
    "half a fold": ({"fold": 1}, r"data.fold is given and data.folds is not"),
    "a fold too many": ({"fold": 3, "folds": 3}, r"data\.fold=3 of data\.folds=3"),
    "more folds than images": (
        {"fold": 0, "folds": 9, "masks": "gt/{id}.png", "clean": True},
        r"data\.folds=9, but there are 3 images",
    ),
    "an unknown group": (
        {"group": "{city}"},
        r"data\.group=\{city\} has a part that data\.images does not name: it has \{id\}",
    ),
    "splits without patterns": (
        {"images": None, "masks": None, "splits": {"train": "one.txt"}},
        "needs? data.images and data.masks",
    ),
    "no such table": ({"images": None, "masks": None, "table": "no.csv"}, r"no\.csv does not exist"),
    "no such column": (
        {"images": None, "masks": None, "table": "a.csv"},
        r"has no column mask, for masks: it has image, split",
    ),
    "a way of missing masks": ({"missing_masks": "skip"}, r"data\.missing_masks=skip is neither refuse nor background"),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_mistakes_are_said_in_one_line(tmp_path: Path, what: str) -> None:
    options, message = MISTAKES[what]
    several(tmp_path, "abc")
    options = {"images": PLAIN[0], "masks": PLAIN[1], **options}
    if not options.pop("clean", False):
        picture(tmp_path / "gt" / "a2.png")
    lists(tmp_path, one="a\n", wrong="a\n" + "z" * 100_000)
    (tmp_path / "a.csv").write_text("image,split\nim/a.png,train\n")
    with pytest.raises((ValueError, OSError), match=message) as raised:
        data(tmp_path, **options)._splits()
    assert "\n" not in str(raised.value)


UNREAD = {
    "ann/{id}.json": ("color_table", "values", "threshold", "mask_page"),
    "ann/{id}.txt": ("color_table", "threshold", "mask_page"),
    "ann/{id}.mat": ("color_table", "mask_page"),
    "ann/{class}_{id}.png": ("color_table", "values"),
}


@pytest.mark.parametrize(("masks", "option"), [(masks, one) for masks, unread in UNREAD.items() for one in unread])
@pytest.mark.parametrize("by_table", [False, True])
def test_ways_of_reading_that_a_kind_of_masks_has_not_are_refused(
    tmp_path: Path, masks: str, option: str, by_table: bool
) -> None:
    given = {"color_table": [[0, 0, 0], [1, 1, 1]], "values": {0: 0, 1: 1}, "threshold": 128, "mask_page": 0}
    files = [masks.replace("{id}", one).replace("{class}", "1") for one in "abc"]
    for one, mask in zip("abc", files, strict=True):
        picture(tmp_path / "im" / f"{one}.png")
        (tmp_path / mask).parent.mkdir(exist_ok=True)
        (tmp_path / mask).touch()
    if by_table and "{class}" in masks:
        pytest.skip("a table names one mask")
    lines = [f"im/{one}.png,{mask}" for one, mask in zip("abc", files, strict=True)]
    (tmp_path / "all.csv").write_text("\n".join(["image,mask", *lines]))
    places = ("im/{id}.png", masks) if not by_table else (None, None)
    of_table = {"table": "all.csv"} if by_table else {}
    module = data(tmp_path, *places, num_classes=2, **{option: given[option]}, **of_table)
    with pytest.raises(ValueError, match=rf"data\.{option} is for masks of labels, and here .*: leave it out"):
        module._splits()


def test_ways_of_reading_labels_are_taken_where_some_of_the_masks_have_labels(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png", "b_mask.png", "c_mask.png"):
        picture(tmp_path / name)
    (tmp_path / "a.json").touch()
    (tmp_path / "all.csv").write_text("image,mask\na.png,a.json\nb.png,b_mask.png\nc.png,c_mask.png\n")
    found = data(tmp_path, None, None, num_classes=2, table="all.csv", values={0: 0, 1: 1})._splits()
    assert sum(map(len, found.values())) == 3


def test_a_part_that_comes_again_is_the_same_text(tmp_path: Path) -> None:
    for path in ("a/a.png", "a/b.png", "b/b.png"):
        picture(tmp_path / path)
    assert [one.parts for one in Pattern("{id}/{id}.png", "data.images", SUFFIXES).find(tmp_path)] == [
        {"id": "a"},
        {"id": "b"},
    ]
    assert Pattern("{id}/{id}.png", "data.images", SUFFIXES).match("a/b.png") is None


def test_links_that_lead_back_are_followed_once(tmp_path: Path) -> None:
    picture(tmp_path / "x" / "a.png")
    (tmp_path / "x" / "again").symlink_to(tmp_path)
    assert [one.path.name for one in Pattern("**/{id}.png", "data.images", SUFFIXES).find(tmp_path)] == ["a.png"]


def test_masks_of_classes_are_resized_and_augmented_together(tmp_path: Path) -> None:
    for stem in "ab":
        picture(tmp_path / "im" / f"{stem}.png", np.zeros((4, 6)))
        for name in ("x", "y"):
            picture(tmp_path / name / f"{stem}.png", np.eye(4, 6) * (name == "x"))
    module = data(
        tmp_path, "im/{id}.png", "{class}/{id}.png", num_classes=2, class_names=["x", "y"], task="multilabel", scale=0.5
    )
    module.setup()
    sample = module.train_set[0]  # type: ignore[index]
    assert (sample["image"].shape, sample["mask"].shape) == ((3, 2, 3), (2, 2, 3))
    assert sample["mask"].dtype == torch.int64
