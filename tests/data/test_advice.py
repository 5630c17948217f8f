"""What to type for folders as they are downloaded: it is tried before it is said."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_module
from hydra.core.override_parser.overrides_parser import OverridesParser
from PIL import Image

from lightning_seg.data import FolderDataModule, VolumesDataModule
from lightning_seg.data.advice import classes_advice
from lightning_seg.data.layout_guess import guess_layout
from lightning_seg.data.value_guess import guess_values

LABELS = np.repeat(np.arange(3, dtype=np.uint8), 4)[:, None].repeat(8, 1)
POLYGON = [[1, 1], [6, 1], [6, 6]]
COCO = {
    "images": [{"id": index, "file_name": f"{index}.jpg", "height": 12, "width": 8} for index in range(3)],
    "categories": [{"id": 0, "name": "things"}, {"id": 1, "name": "cat"}],
    "annotations": [{"id": 5, "image_id": 1, "category_id": 1, "segmentation": [[1, 1, 6, 1, 6, 6]]}],
}


def save(path: Path, pixels: np.ndarray = LABELS) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in (".txt", ".json"):
        path.write_text("0 0.1 0.1 0.5 0.1 0.5 0.5\n")
    elif path.suffix == ".npy":
        np.save(path, pixels)
    else:
        Image.fromarray(pixels).save(path)


@pytest.mark.parametrize(
    ("files", "images", "masks"),
    [
        ("Images/{}.jpg Labels/{}.png", "Images/{id}.jpg", "Labels/{id}.png"),
        ("image/{}.png label/{}.png", "image/{id}.png", "label/{id}.png"),
        ("a/b/images/{}.jpg a/b/masks/{}.png", "a/b/images/{id}.jpg", "a/b/masks/{id}.png"),
        ("images/{}.jpg masks/{}_mask.png", "images/{id}.jpg", "masks/{id}_mask.png"),
        ("images/{}_sat.jpg masks/{}_mask.png", "images/{id}_sat.jpg", "masks/{id}_mask.png"),
        ("images/image_{}.jpg masks/mask_{}.png", "images/image_{id}.jpg", "masks/mask_{id}.png"),
        ("{}.jpg {}_seg.png", "{id}.jpg", "{id}_seg.png"),
        ("{}_image.png {}-label.png", "{id}_image.png", "{id}-label.png"),
        ("case{}/image.png case{}/mask.png", "{folder}/image.png", "{folder}/mask.png"),
        ("train_images/{}.jpg train_labels/{}.png", "train_images/{id}.jpg", "train_labels/{id}.png"),
        ("imgs/train/{}.jpg imgs/val/{}.jpg annotations/train/{}.png annotations/val/{}.png",
         "imgs/{split}/{id}.jpg", "annotations/{split}/{id}.png"),
        ("train/{}.png test/{}.png trainannot/{}.png testannot/{}.png", "{split}/{id}.png", "{split}annot/{id}.png"),
        ("training/images/{}.tif validation/images/{}.tif training/1st_manual/{}.gif validation/1st_manual/{}.gif",
         "{split}/images/{id}.tif", "{split}/1st_manual/{id}.gif"),
        ("images/a/{}.jpg images/b/{}.jpg masks/a/{}.png masks/b/{}.png", "images/{folder}/{id}.jpg",
         "masks/{folder}/{id}.png"),
        ("images/a/{}.jpg images/{}.jpg masks/a/{}.png masks/{}.png", "images/**/{id}.jpg", "masks/**/{id}.png"),
        ("images/{}.jpg images/x{}.png masks/{}.png masks/x{}.png", "images/{id}.*", "masks/{id}.png"),
        ("images/train/{}.jpg labels/train/{}.txt", "images/train/{id}.jpg", "labels/train/{id}.txt"),
        ("leftImg8bit/train/a/{}_leftImg8bit.png gtFine/train/a/{}_gtFine_labelIds.png "
         "gtFine/train/a/{}_gtFine_color.png",
         "leftImg8bit/train/a/{id}_leftImg8bit.png", "gtFine/train/a/{id}_gtFine_labelIds.png"),
        ("{}.jpg {}.json", "{id}.jpg", "{id}.json"),
        ("JPEGImages/{}.jpg SegmentationClass/{}.png SegmentationObject/{}.png", "JPEGImages/{id}.jpg",
         "SegmentationClass/{id}.png"),
        ("training/images/{}_training.tif training/1st_manual/{}_manual1.gif training/mask/{}_training_mask.gif",
         "training/images/{id}_training.tif", "training/1st_manual/{id}_manual1.gif"),
        ("rgb/{}.png depth/{}.png label/{}.png", "rgb/{id}.png", "label/{id}.png"),
        ("training/image_2/{}_10.png training/semantic/{}_10.png training/semantic_rgb/{}_10.png",
         "training/image_2/{id}.png", "training/semantic/{id}.png"),
        ("Original/{}.tif GroundTruth/{}.tif", "Original/{id}.tif", "GroundTruth/{id}.tif"),
        ("train_{}.bmp train_{}_anno.bmp", "{id}.bmp", "{id}_anno.bmp"),
        ("images/._{}.jpg images/{}.jpg masks/{}.png .cache/images/{}.jpg", "images/{id}.jpg", "masks/{id}.png"),
    ],
)  # fmt: skip
def test_a_layout_is_found_that_finds_the_pairs(tmp_path: Path, files: str, images: str, masks: str) -> None:
    for pattern in files.split():
        for number in range(21, 24):
            save(tmp_path / pattern.format(number))
    found = guess_layout(tmp_path)
    assert found is not None
    assert (found.options["images"], found.options["masks"]) == (images, masks)
    assert len(found.pairs) % 3 == 0
    assert found.is_complete


@pytest.mark.parametrize(
    ("files", "images", "masks"),
    [
        ("imagesTr/a_{}_0000.nii.gz labelsTr/a_{}.nii.gz", "imagesTr/{id}_0000.nii.gz", "labelsTr/{id}.nii.gz"),
        ("p{}/p{}_flair.nii.gz p{}/p{}_seg.nii.gz", "{folder}/p{id}_flair.nii.gz", "{folder}/p{id}_seg.nii.gz"),
    ],
)
def test_layouts_of_volumes_are_found(tmp_path: Path, files: str, images: str, masks: str) -> None:
    for pattern in files.split():
        for index in range(3):
            path = tmp_path / pattern.format(index, index)
            path.parent.mkdir(exist_ok=True)
            path.touch()
    given = {"val_fraction": 0.3, "test_fraction": 0, "seed": 0, "batch_size": 1}
    with pytest.raises(ValueError, match="neither train/") as refused:
        VolumesDataModule(tmp_path, 2, **given).setup("fit")
    assert str(refused.value).endswith(f"3 pairs here are found by 'data.images={images}' 'data.masks={masks}'")


@pytest.mark.parametrize(
    "names", [("x", "y", "png"), ("Bilder", "Masken", "png"), ("图像", "标签", "png"), ("X", "Y", "npy")]
)
def test_folders_whose_names_say_nothing_are_told_by_what_lies_in_them(
    tmp_path: Path, names: tuple[str, str, str]
) -> None:
    random = np.random.default_rng(0)
    images, masks, suffix = names
    for index in range(3):
        save(tmp_path / images / f"{index}.{suffix}", random.integers(0, 255, (16, 20, 3), dtype=np.uint8))
        save(tmp_path / masks / f"{index}.{suffix}")
    found = guess_layout(tmp_path)
    assert found is not None
    assert found.options == {"images": f"{images}/{{id}}.{suffix}", "masks": f"{masks}/{{id}}.{suffix}"}


def test_images_without_masks_beside_them_hide_no_pairs(tmp_path: Path) -> None:
    for index in range(9):
        save(tmp_path / f"test/images/t{index}.png")
        if index < 3:
            save(tmp_path / f"train/images/{index}.png")
            save(tmp_path / f"train/masks/{index}.png")
    assert "are read by data.num_classes=3" in classes_advice(tmp_path, {})


def test_lists_of_splits_are_found(tmp_path: Path) -> None:
    for index in range(3):
        save(tmp_path / f"JPEGImages/{index}.jpg")
        save(tmp_path / f"SegmentationClass/{index}.png")
    for folder in ("Main", "Segmentation"):
        (tmp_path / "ImageSets" / folder).mkdir(parents=True)
        (tmp_path / "ImageSets" / folder / "train.txt").write_text("0\n1\n")
        (tmp_path / "ImageSets" / folder / "val.txt").write_text("2\n")
    found = guess_layout(tmp_path)
    assert found is not None
    assert found.options["splits.train"] == "ImageSets/Segmentation/train.txt"
    assert found.options["splits.val"] == "ImageSets/Segmentation/val.txt"


def test_annotations_of_coco_are_found_with_the_classes_that_occur(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    for split in ("train", "valid"):
        for index in range(3):
            save(tmp_path / split / f"{index}.jpg")
        (tmp_path / split / "_annotations.coco.json").write_text(json.dumps(COCO))
    found = guess_layout(tmp_path)
    assert found is not None
    assert found.options == {"images": "{split}/{id}.jpg", "masks": "{split}/_annotations.coco.json"}
    assert guess_values(found.pairs, tmp_path) == {"num_classes": "2", "class_names": "[background,cat]"}


@pytest.mark.parametrize(
    "name",
    [
        *(
            "${oc.env:HOME}",
            "\\${oc.env:HOME}",
            "$${oc.env:HOME}",
            'a"],b',
            "a\\",
            'a\\"',
            "it's",
            "a,b",
            "null",
            "1",
            "",
        ),
        *("a b", "é", "{a: b}", "$(touch x)", "`x`"),
    ],
)
def test_a_class_is_proposed_as_words_that_give_its_name_and_nothing_else(tmp_path: Path, name: str) -> None:
    for index in range(2):
        save(tmp_path / f"{index}.jpg")
        shape = {"label": name, "points": POLYGON}
        (tmp_path / f"{index}.json").write_text(json.dumps({"shapes": [shape]}))
    typed = shlex.split(classes_advice(tmp_path, {}).split(" are read by ")[1])
    override = next(word for word in typed if word.startswith("data.class_names="))
    with initialize_config_module("lightning_seg.conf", version_base="1.3"):
        names = compose("data/folder", [override]).data.class_names
    assert list(names) == ["background", name]


def test_classes_of_yolo_and_labelme_are_named(tmp_path: Path) -> None:
    for index in range(2):
        save(tmp_path / f"yolo/images/{index}.jpg")
        save(tmp_path / f"yolo/labels/{index}.txt")
        save(tmp_path / f"labelme/{index}.jpg")
        shape = {"label": ["cat", "big dog"][index], "points": POLYGON}
        (tmp_path / f"labelme/{index}.json").write_text(json.dumps({"shapes": [shape]}))
    for name, expected in {"yolo": "2", "labelme": "3"}.items():
        found = guess_layout(tmp_path / name)
        assert found is not None
        assert guess_values(found.pairs, tmp_path / name)["num_classes"] == expected
    (tmp_path / "yolo" / "data.yaml").write_text("names:\n  0: cell\n  1: nucleus\n")
    assert "'data.class_names=[background,cell,nucleus]'" in classes_advice(tmp_path / "yolo", {})
    (tmp_path / "yolo" / "data.yaml").write_text("names: cell\n")  # not a list, so only the indices of objects tell
    assert "data.num_classes=2" in classes_advice(tmp_path / "yolo", {})
    (tmp_path / "yolo/labels/0.txt").write_text("-5 0.1 0.1 0.5 0.1 0.5 0.5\n")
    assert "num_classes" not in classes_advice(tmp_path / "yolo", {})
    assert """'data.class_names=[background,cat,"big dog"]'""" in classes_advice(tmp_path / "labelme", {})


def binary(pixels: np.ndarray) -> np.ndarray:
    return (pixels > 0).astype(np.uint8) * 255


def colored(pixels: np.ndarray) -> np.ndarray:
    return np.array([[0, 0, 0], [128, 0, 0], [0, 128, 0]], np.uint8)[pixels]


@pytest.mark.parametrize(
    ("change", "suffix", "options"),
    [
        (lambda pixels: pixels, "png", "data.num_classes=3"),
        (lambda pixels: pixels.astype(np.uint16), "png", "data.num_classes=3"),
        (lambda pixels: np.where(pixels == 2, np.uint8(255), pixels), "png",
         "data.num_classes=2 data.ignore_index=255"),
        (binary, "png", "data.num_classes=2 data.threshold=128"),
        (binary, "jpg", "data.num_classes=2 data.threshold=128"),
        (lambda pixels: np.stack([binary(pixels)] * 3, -1), "png", "data.num_classes=2 data.threshold=128"),
        (lambda pixels: pixels + 1, "png", "data.num_classes=3 'data.values={1-3:0-2}'"),
        (lambda pixels: pixels * 100, "png", "data.num_classes=3 'data.values={0:0,100:1,200:2}'"),
        (colored, "png", "data.num_classes=3 'data.color_table=[[0,0,0],[0,128,0],[128,0,0]]'"),
        (lambda pixels: pixels * 0, "png", "data.num_classes=2"),
        (lambda pixels: np.where(pixels == 2, np.uint8(250), pixels), "png",
         "data.num_classes=2 data.ignore_index=250"),
        (lambda pixels: pixels.astype(np.int16) - 1, "npy", "data.num_classes=2 data.ignore_index=-1"),
        (lambda pixels: np.array([1, 2, 65535], np.uint16)[pixels], "png",
         "data.num_classes=2 data.ignore_index=65535 'data.values={1-2:0-1,65535:void}'"),
    ],
)  # fmt: skip
def test_what_is_said_for_the_values_of_masks_reads_them(
    tmp_path: Path, change: Callable[[np.ndarray], np.ndarray], suffix: str, options: str
) -> None:
    for index in range(4):
        save(tmp_path / f"images/{index}.jpg")
        save(tmp_path / f"masks/{index}.{suffix}", change(LABELS))
    advice = classes_advice(tmp_path, {}).partition(", or, if 2 is void")[0]
    assert advice == f" The masks of {tmp_path} are read by {options}"
    given = {"val_fraction": 0.2, "test_fraction": 0.2, "seed": 0, "batch_size": 1}
    read = OverridesParser.create().parse_overrides(shlex.split(options))
    FolderDataModule(
        tmp_path, **{**given, **{one.key_or_group.removeprefix("data."): one.value() for one in read}}
    ).setup("fit")
    if "values" in options or "threshold" in options or "color_table" in options:
        with pytest.raises(ValueError, match=r"These masks are read by data\.num_classes"):
            FolderDataModule(tmp_path, 2, **given).setup("fit")


def test_that_the_last_class_may_be_void_is_said_where_values_do_not_tell(tmp_path: Path) -> None:
    given = {"val_fraction": 0.2, "test_fraction": 0.2, "seed": 0, "batch_size": 1}
    for index in range(4):
        save(tmp_path / f"images/{index}.jpg")
        save(tmp_path / f"masks/{index}.png")
    expected = "by data.num_classes=3, or, if 2 is void, with data.num_classes=2 data.ignore_index=2"
    assert classes_advice(tmp_path, {}).endswith(expected)
    with pytest.raises(ValueError, match="holds label 2") as refused:
        FolderDataModule(tmp_path, 2, **given).setup("fit")
    assert str(refused.value).endswith(expected)
    FolderDataModule(tmp_path, 2, **given, ignore_index=2).setup("fit")


def test_the_binary_task_has_one_class_where_masks_hold_two_values(tmp_path: Path) -> None:
    given = {"val_fraction": 0.2, "test_fraction": 0.2, "seed": 0, "batch_size": 1}
    for index in range(4):
        save(tmp_path / f"images/{index}.jpg")
        save(tmp_path / f"masks/{index}.png", np.where(LABELS > 0, 255, 0).astype(np.uint8))
    assert classes_advice(tmp_path, {}, is_binary=True).endswith("by data.num_classes=1 data.threshold=128")
    with pytest.raises(ValueError, match=r"read by data\.num_classes=1 data\.threshold=128$"):
        FolderDataModule(tmp_path, 1, **given).setup("fit")
    FolderDataModule(tmp_path, 1, **given, threshold=128).setup("fit")
    for index in range(4):
        save(tmp_path / f"masks/{index}.png")
    assert "by data.num_classes=3" in classes_advice(tmp_path, {}, is_binary=True)  # which the task then refuses


@pytest.mark.parametrize(
    ("image", "masks"),
    [
        ("stage1_train/{}/images/{}.png", "stage1_train/{}/masks"),
        ("images/{}.png", "masks/{}"),
        ("train/{}/x.jpg", "train/{}/labels"),
    ],
)
def test_several_masks_of_an_image_are_joined_as_is_said(tmp_path: Path, image: str, masks: str) -> None:
    given = {"val_fraction": 0.3, "test_fraction": 0, "seed": 0, "batch_size": 1}
    for index in range(3):
        name = f"{index * 7919:05x}"
        save(tmp_path / image.format(name, name))
        for row in range(index + 1):
            one = np.zeros_like(LABELS)
            one[row] = 255
            save(tmp_path / masks.format(name) / f"{row}.png", one)
    *_, typed = classes_advice(tmp_path, {}).partition("are read by ")
    options = dict(one.removeprefix("+").removeprefix("data.").split("=") for one in shlex.split(typed))
    assert (options["num_classes"], options["class_names"]) == ("2", "[background,object]")
    masks_of = {"object": options["masks.object"]}
    names = ["background", "object"]
    data = FolderDataModule(tmp_path, 2, images=options["images"], masks=masks_of, class_names=names, **given)
    data.setup("fit")
    assert sum(data.pixel_counts.values())[1] == (1 + 2 + 3) * LABELS.shape[1]
    with pytest.raises(ValueError, match="3 pairs here are found by") as refused:
        FolderDataModule(tmp_path, 2, **given).setup("fit")
    assert str(refused.value).endswith(typed)


def test_a_folder_that_is_not_found_says_where_the_pairs_are(tmp_path: Path) -> None:
    given = {"val_fraction": 0.2, "test_fraction": 0.2, "seed": 0, "batch_size": 1}
    for index in range(4):
        save(tmp_path / f"Images/{index}.jpg")
        save(tmp_path / f"Labels/{index}.png")
    found = "4 pairs here are found by 'data.images=Images/{id}.jpg' 'data.masks=Labels/{id}.png'"
    for options in ({}, {"images": "images/{id}.jpg", "masks": "masks/{id}.png"}):
        with pytest.raises(ValueError, match="data") as refused:
            FolderDataModule(tmp_path, 3, **given, **options).setup("fit")
        assert str(refused.value).endswith(found)
    FolderDataModule(tmp_path, 3, **given, images="Images/{id}.jpg", masks="Labels/{id}.png").setup("fit")


def test_images_without_a_mask_show_no_object_if_that_is_said(tmp_path: Path) -> None:
    given = {"val_fraction": 0.2, "test_fraction": 0, "seed": 0, "batch_size": 1}
    for index in range(4):
        save(tmp_path / f"images/{index}.jpg")
    save(tmp_path / "masks/1.png")
    with pytest.raises(
        ValueError, match=r"0\.jpg \(and 2 more\) has no mask: .* data\.missing_masks=background"
    ) as said:
        FolderDataModule(tmp_path, 3, **given).setup("fit")
    assert "are found by" not in str(said.value)
    data = FolderDataModule(tmp_path, 3, **given, missing_masks="background")
    data.setup("fit")
    counts = sum(data.pixel_counts.values())
    assert counts.tolist() == [4 * 96 - 64, 32, 32]


def test_a_folder_without_data_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "data.zip").write_bytes(b"PK")
    expected = f" {tmp_path} holds 1 .zip file, and no images with masks are found in it."
    assert classes_advice(tmp_path, {}) == expected
