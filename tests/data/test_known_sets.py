"""Public data sets by name: the layout of each archive, in miniature, is read as it is documented."""

from collections.abc import Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision
from hydra import compose, initialize_config_module
from hydra.utils import instantiate
from omegaconf import DictConfig
from PIL import Image
from scipy.io import savemat

from lightning_seg.data import FolderDataModule, default_palette

CONF = Path(__file__).parents[2] / "conf" / "data"
VOC = "VOCdevkit/VOC2012"
SBD = "benchmark_RELEASE/dataset"
ADE = "ADEChallengeData2016"
ISIC = "ISIC2018_Task1"

# The image and the mask of each split, what the mask's file holds, and what it stands for.
Case = tuple[dict[str, Sequence[tuple[str, str]]], Any, Any]
SETS: dict[str, Case] = {
    "cityscapes": (
        {
            split: [
                (
                    f"leftImg8bit/{split}/{city}/{city}_000000_000019_leftImg8bit.png",
                    f"gtFine/{split}/{city}/{city}_000000_000019_gtFine_labelIds.png",
                )
                for city in ("ulm", "bochum")
            ]
            for split in ("train", "val", "test")
        },
        [[7, 8, 11, 33], [0, 1, 34, 30]],
        [[0, 1, 2, 18], [255, 255, 255, 255]],
    ),
    "voc": (
        {
            split: [
                (f"{VOC}/JPEGImages/2007_{split}{i}.jpg", f"{VOC}/SegmentationClass/2007_{split}{i}.png") for i in "12"
            ]
            for split in ("train", "val")
        },
        [[0, 1, 20, 255]],
        [[0, 1, 20, 255]],
    ),
    "sbd": (
        {
            split: [(f"{SBD}/img/2008_{split}{i}.jpg", f"{SBD}/cls/2008_{split}{i}.mat") for i in "12"]
            for split in ("train", "val")
        },
        [[0, 1, 20, 5]],
        [[0, 1, 20, 5]],
    ),
    "ade20k": (
        {
            split: [(f"{ADE}/images/{folder}/ADE_{split}_1.jpg", f"{ADE}/annotations/{folder}/ADE_{split}_1.png")]
            for split, folder in (("train", "training"), ("val", "validation"))
        },
        [[0, 1, 2, 150]],
        [[255, 0, 1, 149]],
    ),
    "camvid": (
        {
            "all": [
                (f"701_StillsRaw_full/{name}.png", f"LabeledApproved_full/{name}_L.png")
                for name in ("0001TP_006690", "0001TP_006720", "0006R0_f00930", "0016E5_00390", "Seq05VD_f00000")
            ]
        },
        [[(128, 128, 128), (0, 0, 64), (192, 0, 192), (0, 0, 0)]],
        [[0, 2, 10, 255]],
    ),
    "oxford_pet": (
        {
            "trainval": [(f"images/Abyssinian_{i}.jpg", f"annotations/trimaps/Abyssinian_{i}.png") for i in (1, 2, 3)],
            "test": [("images/great_pyrenees_9.jpg", "annotations/trimaps/great_pyrenees_9.png")],
        },
        [[1, 2, 3, 2]],
        [[1, 0, 255, 0]],
    ),
    "coco_stuff": (
        {
            split: [(f"images/{split}2017/000000000009.jpg", f"annotations/{split}2017/000000000009.png")]
            for split in ("train", "val")
        },
        [[0, 12, 89, 91, 181, 255]],
        [[0, 11, 79, 80, 170, 255]],
    ),
    "loveda": (
        {
            split: [
                (f"{split}/{area}/images_png/{i}.png", f"{split}/{area}/masks_png/{i}.png")
                for area, i in (("Urban", 3), ("Rural", 4))
            ]
            for split in ("Train", "Val")
        },
        [[0, 1, 7, 3]],
        [[255, 0, 6, 2]],
    ),
    "isic": (
        {
            split: [(f"{ISIC}-2_{split}_Input/ISIC_1.jpg", f"{ISIC}_{split}_GroundTruth/ISIC_1_segmentation.png")]
            for split in ("Training", "Validation", "Test")
        },
        [[0, 255, 255, 0]],
        [[0, 1, 1, 0]],
    ),
    "kvasir": (
        {"all": [(f"images/cju{i}.jpg", f"masks/cju{i}.jpg") for i in range(4)]},
        np.kron([[0, 255]], np.ones((8, 8))).tolist(),
        np.kron([[0, 1]], np.ones((8, 8))).astype(int).tolist(),
    ),
}
CASES = pytest.mark.parametrize("name", SETS)


def build(root: Path, name: str) -> None:
    """The tree of an archive, with what lies beside the images in it."""
    splits, raw, _ = SETS[name]
    for pairs in splits.values():
        for image, mask in pairs:
            for path in (root / image, root / mask):
                path.parent.mkdir(parents=True, exist_ok=True)
            values = np.array(raw, np.uint8)
            Image.fromarray(np.zeros((*values.shape[:2], 3), np.uint8)).save(root / image)
            if name == "sbd":
                savemat(root / mask, {"GTcls": {"Segmentation": values, "CategoriesPresent": [1, 5, 20]}})
                continue
            picture = Image.fromarray(values)
            if name == "voc":
                picture.putpalette([part for color in default_palette(256) for part in color])
            picture.save(root / mask)
    if name == "voc":
        Image.new("RGB", (2, 2)).save(root / VOC / "JPEGImages" / "2008_of_another_task.jpg")
        lists = root / VOC / "ImageSets" / "Segmentation"
        lists.mkdir(parents=True)
        for split in splits:
            (lists / f"{split}.txt").write_text("".join(f"{Path(image).stem}\n" for image, _ in splits[split]))
    if name == "sbd":
        for split in splits:
            (root / SBD / f"{split}.txt").write_text("".join(f"{Path(image).stem}\n" for image, _ in splits[split]))
    if name == "oxford_pet":
        (root / "images" / "Abyssinian_1.mat").touch()
        (root / "annotations" / "trimaps" / "._Abyssinian_1.png").touch()
        for split, pairs in splits.items():
            (root / "annotations" / f"{split}.txt").write_text(
                "".join(f"{Path(image).stem} 1 1 1\n" for image, _ in pairs)
            )
    if name == "cityscapes":
        for _, mask in splits["train"]:
            (root / mask.replace("labelIds.png", "polygons.json")).write_text("{}")
            Image.new("L", (2, 2)).save(root / mask.replace("labelIds", "instanceIds"))


@cache
def composed(name: str) -> DictConfig:
    """The configuration of a training with the set, which is not to be changed."""
    with initialize_config_module("lightning_seg.conf", version_base="1.3"):
        return compose("train", [f"data={name}", "augment=none"])


def configured(name: str, root: Path, **values: Any) -> FolderDataModule:
    config = deepcopy(composed(name))
    config.data.update({"root": str(root), **values})
    built = instantiate(config.data)
    assert isinstance(built, FolderDataModule)
    return built


def test_every_named_set_has_a_case() -> None:
    assert set(SETS) == {path.stem for path in CONF.glob("*.yaml")} - {
        "custom",
        "folder",
        "shared",
        "shapes",
        "huggingface",
        "volumes",
    }


@CASES
def test_the_archive_is_read_as_it_is(tmp_path: Path, name: str) -> None:
    build(tmp_path, name)
    data = configured(name, tmp_path)
    data.setup()
    splits, _, labels = SETS[name]
    pairs = data._splits()
    found = {
        (str(p.image.relative_to(tmp_path)), str(Path(str(p.mask)).relative_to(tmp_path)))
        for s in pairs.values()
        for p in s
    }  # type: ignore[union-attr]
    usable = {split: listed for split, listed in splits.items() if (name, split) != ("cityscapes", "test")}
    assert found == {pair for listed in usable.values() for pair in listed}
    assert data.val_set[0]["mask"].tolist() == labels  # type: ignore[index]
    assert len(data.class_names) == data.num_classes == len(set(data.class_names))
    assert len({tuple(color) for color in data.palette[: data.num_values]}) == data.num_values


@CASES
def test_splits_are_those_of_the_archive(tmp_path: Path, name: str) -> None:
    build(tmp_path, name)
    pairs = configured(name, tmp_path)._splits()
    splits, _, _ = SETS[name]
    if "all" in splits:
        sequences = [{pair.group for pair in split} for split in pairs.values()]
        assert name != "camvid" or sum(map(len, sequences)) == 4
        return
    counts = {"train": 0, "val": 0, "test": 0} | {split: len(members) for split, members in pairs.items()}
    expected = {"oxford_pet": (2, 1, 1), "isic": (1, 1, 1), "ade20k": (1, 1, 0), "coco_stuff": (1, 1, 0)}
    assert tuple(counts.values()) == expected.get(name, (2, 2, 0))


def test_an_empty_folder_says_what_is_looked_for(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"data\.images=leftImg8bit/.* fits no file .* nothing in data\.root is called left"
    ):
        configured("cityscapes", tmp_path)._splits()


def test_torchvision_finds_the_same_files(tmp_path: Path) -> None:
    for name in ("voc", "cityscapes", "oxford_pet"):
        build(tmp_path / name, name)
    (tmp_path / "pets").mkdir()
    (tmp_path / "pets" / "oxford-iiit-pet").symlink_to(tmp_path / "oxford_pet")
    voc = torchvision.datasets.VOCSegmentation(str(tmp_path / "voc"), image_set="train")
    city = torchvision.datasets.Cityscapes(str(tmp_path / "cityscapes"), split="val", target_type="semantic")
    pets = torchvision.datasets.OxfordIIITPet(str(tmp_path / "pets"), split="test", target_types="segmentation")
    theirs = {
        "voc": zip(voc.images, voc.masks, strict=True),
        "cityscapes": zip(city.images, [one for (one,) in city.targets], strict=True),
        "oxford_pet": zip(pets._images, pets._segs, strict=True),
    }
    for (name, pairs), split in zip(theirs.items(), ("train", "val", "test"), strict=True):
        ours = configured(name, tmp_path / name)._splits()[split]
        assert {(one.image.resolve(), Path(str(one.mask)).resolve()) for one in ours} == {
            (Path(image).resolve(), Path(mask).resolve()) for image, mask in pairs
        }


def test_torchvision_reads_the_same_of_sbd(tmp_path: Path) -> None:
    build(tmp_path, "sbd")
    theirs = torchvision.datasets.SBDataset(str(tmp_path / SBD), image_set="train", mode="segmentation")
    data = configured("sbd", tmp_path)
    data.setup("fit")
    assert [np.asarray(mask).tolist() for _, mask in theirs] == [one["mask"].tolist() for one in data.train_set]  # type: ignore[union-attr]


def test_cityscapes_classes_are_torchvisions(tmp_path: Path) -> None:
    data = configured("cityscapes", tmp_path)
    scored = [one for one in torchvision.datasets.Cityscapes.classes if 0 <= one.train_id < 255]
    assert data.class_names == [one.name for one in sorted(scored, key=lambda one: one.train_id)]
    assert data.palette == [one.color for one in sorted(scored, key=lambda one: one.train_id)]
    ids = np.arange(34, dtype=np.uint8)
    train_ids = [one.train_id for one in torchvision.datasets.Cityscapes.classes if one.id >= 0]
    assert data.values is not None
    assert data.values(ids, "a.png").tolist() == train_ids


def test_coco_things_are_torchvisions(tmp_path: Path) -> None:
    from torchvision.models._meta import _COCO_CATEGORIES

    data = configured("coco_stuff", tmp_path)
    known = {index - 1: name for index, name in enumerate(_COCO_CATEGORIES) if index and name != "N/A"}
    assert data.values is not None
    labels = data.values(np.array(list(known), np.uint8), "a.png").tolist()
    assert [data.class_names[label] for label in labels] == list(known.values())


def test_voc_classes_are_torchvisions(tmp_path: Path) -> None:
    from torchvision.models._meta import _VOC_CATEGORIES

    assert [name.replace("__background__", "background") for name in _VOC_CATEGORIES] == configured(
        "voc", tmp_path
    ).class_names
