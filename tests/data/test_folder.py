import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from lightning_seg.data import FolderDataModule, load_image
from lightning_seg.data.pairs import find_pairs, split_off

CAMVID = Path(os.environ.get("LIGHTNING_SEG_DATA", Path(__file__).parents[3] / "shared" / "data")) / "camvid"


def write(folder: Path, stem: str, mask: Any = ((0, 1), (2, 255)), image_suffix: str = "png") -> None:
    """A mask, and a gray image whose pixels are 10 times its values."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    values = np.array(mask, np.uint8)
    Image.fromarray(values).save(folder / "masks" / f"{stem}.png")
    Image.fromarray(values * 10).save(folder / "images" / f"{stem}.{image_suffix}")


def folder(root: Path, **options: Any) -> FolderDataModule:
    defaults = {"num_classes": 3, "val_fraction": 0.25, "test_fraction": 0.25, "seed": 0, "batch_size": 1}
    return FolderDataModule(root, **{**defaults, "ignore_index": 255, **options})


def stems(dataset: Any) -> list[str]:
    return [dataset[index]["name"] for index in range(len(dataset))]


def test_three_folders_are_the_three_splits(tmp_path: Path) -> None:
    for split, names in (("train", "ab"), ("val", "cd"), ("test", "ef")):
        for stem in names:
            write(tmp_path / split, stem)
    data = folder(tmp_path)
    data.setup()
    assert [stems(part) for part in (data.train_set, data.val_set, data.test_set)] == [
        ["a", "b"],
        ["c", "d"],
        ["e", "f"],
    ]
    sample = data.val_set[0]  # type: ignore[index]
    assert sample["mask"].tolist() == [[0, 1], [2, 255]]
    assert torch.equal(sample["image"], (sample["mask"] * 10 % 256 / 255).expand(3, 2, 2))


def test_pixels_of_each_class_are_counted_at_setup(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for split in ("train", "val"):
        write(tmp_path / split, "a")
        write(tmp_path / split, "b", [[0, 0], [1, 255]])
    data = folder(tmp_path, class_names=["sky", "tree", "car"])
    with caplog.at_level(logging.INFO, "lightning_seg.data.folder"):
        data.setup("fit")
    assert {split: counts.tolist() for split, counts in data.pixel_counts.items()} == {
        "train": [3, 2, 1],
        "val": [3, 2, 1],
    }
    assert "train: 2 images; sky 50.00%, tree 33.33%, car 16.67%" in caplog.messages


def test_without_test_folder_the_test_is_done_on_val(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "train", "a")
    write(tmp_path / "val", "b")
    data = folder(tmp_path)
    with caplog.at_level(logging.INFO, "lightning_seg.data.folder"):
        data.setup("test")
    assert stems(data.test_set) == ["b"]
    assert "no test images: the test is done on the validation images." in caplog.messages


def test_without_val_folder_a_share_of_train_is_split_off(tmp_path: Path) -> None:
    for index in range(8):
        write(tmp_path / "train", f"{index}")
    data = folder(tmp_path)
    data.setup()
    train, val = stems(data.train_set), stems(data.val_set)
    assert (len(train), len(val)) == (6, 2)
    assert sorted(train + val) == [f"{index}" for index in range(8)]
    assert stems(data.test_set) == val


def test_one_folder_is_split_by_fraction_and_seed(tmp_path: Path) -> None:
    for index in range(20):
        write(tmp_path, f"{index:02d}")

    def splits(seed: int, **options: Any) -> list[list[str]]:
        data = folder(tmp_path, seed=seed, **options)
        data.setup()
        return [stems(part) for part in (data.train_set, data.val_set, data.test_set)]

    train, val, test = splits(0)
    assert (len(train), len(val), len(test)) == (10, 5, 5)
    assert sorted(train + val + test) == [f"{index:02d}" for index in range(20)]
    assert splits(0) == [train, val, test]
    assert splits(1) != [train, val, test]
    train, val, test = splits(0, test_fraction=0)
    assert (len(train), len(val)) == (15, 5)
    assert test == val


def test_split_depends_neither_on_order_nor_much_on_other_files(tmp_path: Path) -> None:
    for index in range(20):
        write(tmp_path, f"{index:02d}")
    pairs = find_pairs(tmp_path)
    kept, off = split_off(pairs, 0.25, 0, "val")
    assert split_off(pairs[::-1], 0.25, 0, "val") == (kept, off)
    # Without one of the kept, those split off stay where they are.
    assert split_off([pair for pair in pairs if pair != kept[0]], 0.25, 0, "val") == (kept[1:], off)


def test_only_a_test_folder_is_enough_to_test(tmp_path: Path) -> None:
    write(tmp_path / "test", "a")
    data = folder(tmp_path)
    data.setup("test")
    assert stems(data.test_set) == ["a"]
    with pytest.raises(ValueError, match="train is missing"):
        data.setup("fit")


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert folder("~/photos").root == tmp_path / "photos"


def test_scale_resizes_training_masks_and_leaves_the_others(tmp_path: Path) -> None:
    mask = np.kron([[0, 1], [2, 255]], np.ones((8, 12)))
    for split in ("train", "val"):
        write(tmp_path / split, "a", mask)
    data = folder(tmp_path, scale=0.5)
    data.setup()
    train, val = data.train_set[0], data.val_set[0]  # type: ignore[index]
    assert train["image"].shape == val["image"].shape == (3, 8, 12)
    assert train["mask"].tolist() == np.kron([[0, 1], [2, 255]], np.ones((4, 6))).tolist()
    assert val["mask"].tolist() == mask.tolist()


def test_masks_in_colors_and_void_colors(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write(tmp_path / split, "a")
        colors = np.array([[[1, 1, 1], [2, 0, 0]], [[3, 0, 0], [9, 9, 9]]], np.uint8)
        Image.fromarray(colors).save(tmp_path / split / "masks" / "a.png")
    table = [[1, 1, 1], [2, 0, 0], [3, 0, 0]]
    data = folder(tmp_path, color_table=table, void_colors=[[9, 9, 9]], ignore_index=11)
    data.setup()
    assert data.val_set[0]["mask"].tolist() == [[0, 1], [2, 11]]  # type: ignore[index]


def test_binary_masks_hold_zero_and_one(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write(tmp_path / split, "a", [[0, 1], [1, 255]])
    data = folder(tmp_path, num_classes=1, class_names=["cell"])
    data.setup()
    assert data.pixel_counts["train"].tolist() == [1, 2]


def test_hidden_and_other_files_are_passed_over(tmp_path: Path) -> None:
    write(tmp_path, "a", image_suffix="JPG")
    (tmp_path / "images" / ".hidden.png").touch()
    (tmp_path / "images" / "notes.txt").touch()
    assert [pair.image.name for pair in find_pairs(tmp_path)] == ["a.JPG"]


def break_pairs(root: Path, how: str) -> None:
    train = root / "train"
    if how == "no mask":
        (train / "masks" / "a.png").unlink()
    elif how == "no image":
        (train / "images" / "a.png").unlink()
    elif how == "size":
        Image.new("L", (5, 4)).save(train / "images" / "a.png")
    elif how == "value":
        write(train, "a", [[17, 17], [0, 1]])
    elif how == "stem":
        Image.new("L", (2, 2)).save(train / "images" / "a.jpg")
    elif how == "empty":
        for path in (train / "images").iterdir():
            path.unlink()
    elif how == "no folder":
        for path in (train / "masks").iterdir():
            path.unlink()
        (train / "masks").rmdir()
    elif how == "broken":
        (train / "images" / "a.png").write_text("no picture")


MISTAKES = {
    "no mask": r"images/a\.png has no mask: put a mask called a\.\*",
    "no image": r"masks/a\.png has no image",
    "size": r"a\.png is 4×5 and its mask .*a\.png is 2×2",
    "value": r"a\.png holds label 17 in 2 pixels, which is out of range: .* 0 to 2, with ignore_index=255",
    "stem": r"a\.jpg and a\.png have the same stem",
    "empty": r"images is empty: it holds no jpg, jpeg, png",
    "no folder": r"masks is missing: images belong in images/",
    "broken": r"a\.png cannot be read as an image",
}


@pytest.mark.parametrize("how", MISTAKES)
def test_mistakes_in_the_files_are_named_before_training(tmp_path: Path, how: str) -> None:
    for split in ("train", "val"):
        write(tmp_path / split, "a")
        write(tmp_path / split, "b")
    break_pairs(tmp_path, how)
    with pytest.raises(ValueError, match=MISTAKES[how]):
        folder(tmp_path).setup("fit")


@pytest.mark.parametrize("how", ["size", "value"])
def test_without_the_check_a_mistake_is_named_when_the_file_is_used(tmp_path: Path, how: str) -> None:
    for split in ("train", "val"):
        write(tmp_path / split, "a")
    break_pairs(tmp_path, how)
    data = folder(tmp_path, check_masks=False)
    data.setup("fit")
    assert data.pixel_counts == {}
    with pytest.raises(ValueError, match=MISTAKES[how]):
        data.train_set[0]  # type: ignore[index]


def test_wrong_roots_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.root=.*nowhere is not a directory"):
        folder(tmp_path / "nowhere").setup("fit")
    with pytest.raises(ValueError, match="holds neither train/"):
        folder(tmp_path).setup("fit")
    write(tmp_path, "a")
    with pytest.raises(ValueError, match="1 image cannot be divided"):
        folder(tmp_path).setup("fit")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val_fraction": 0}, "data.val_fraction=0"),
        ({"val_fraction": 0.5, "test_fraction": 0.5}, "both together below 1"),
        ({"scale": 0}, "data.scale=0"),
        ({"void_colors": [[0, 0, 0]]}, "data.void_colors are only used with data.color_table"),
        ({"color_table": [[0, 0, 0]]}, "has 1 colors, but masks hold 3 classes"),
        ({"ignore_index": 2}, "ignore_index=2 is also class_names"),
    ],
)
def test_arguments_out_of_range_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        folder(tmp_path, **options)


@pytest.mark.skipif(not CAMVID.is_dir(), reason="CamVid is not here; LIGHTNING_SEG_DATA names the folder that holds it")
def test_camvid_is_read_as_it_is() -> None:
    data = folder(CAMVID, num_classes=11, ignore_index=11, scale=0.5, check_masks=False)
    data.setup()
    assert (len(data.train_set), len(data.val_set), len(data.test_set)) == (367, 101, 101)  # type: ignore[arg-type]
    train, val = data.train_set[0], data.val_set[0]  # type: ignore[index]
    assert (train["image"].shape, train["mask"].shape) == ((3, 180, 240), (180, 240))
    assert (val["image"].shape, val["mask"].shape) == ((3, 180, 240), (360, 480))
    assert set(val["mask"].unique().tolist()) <= set(range(12))
    full = load_image(data.val_set.pairs[0].image)  # type: ignore[union-attr]
    assert full.shape == (3, 360, 480)


def three(root: Path) -> None:
    for split in ("train", "val", "test"):
        write(root / split, "a")
        write(root / split, "b")


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


TEST_MISTAKES: dict[str, tuple[Any, str]] = {
    "a wrong mask": (lambda test: write(test, "a", [[17, 17], [0, 1]]), r"test/masks/a\.png holds label 17"),
    "another size": (lambda test: Image.new("L", (5, 4)).save(test / "images" / "a.png"), "a.png is 4×5"),
    "an empty folder": (lambda test: empty(test / "masks"), "test/masks is empty"),
    "a broken image": (lambda test: (test / "images" / "a.png").write_text(""), r"test/images/a\.png cannot be read"),
}


@pytest.mark.parametrize("what", TEST_MISTAKES)
def test_a_mistake_in_the_test_split_shows_before_training(tmp_path: Path, what: str) -> None:
    three(tmp_path)
    damage, message = TEST_MISTAKES[what]
    damage(tmp_path / "test")
    with pytest.raises(ValueError, match=message):
        folder(tmp_path).setup("fit")


def test_masks_of_the_test_split_are_read_once_to_check_them(tmp_path: Path) -> None:
    three(tmp_path)
    data = folder(tmp_path)
    data.setup("fit")
    checked = data.test_set
    data.setup("test")
    assert checked is not None
    assert data.test_set is checked


def test_a_test_split_without_masks_is_said_and_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    three(tmp_path)
    empty(tmp_path / "test" / "masks")
    (tmp_path / "test" / "masks").rmdir()
    data = folder(tmp_path)
    data.setup("fit")
    data.setup("test")
    assert data.test_set.pairs == data.val_set.pairs  # type: ignore[union-attr]
    assert (
        sum("test has images and no masks: the test is done on the validation" in line for line in caplog.messages) == 1
    )


@pytest.mark.parametrize(
    ("place", "named"),
    [
        ("valid/images", "valid/"),
        ("validation", "validation/"),
        ("images", "images/"),
        ("extra", "extra/"),
        ("train/images/city", "train/images/city/"),
        ("train/labels", "train/labels/"),
    ],
)
def test_folders_that_look_like_data_and_are_not_used_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, place: str, named: str
) -> None:
    three(tmp_path)
    (tmp_path / place).mkdir(parents=True)
    Image.new("L", (2, 2)).save(tmp_path / place / "x.png")
    (tmp_path / "notes").mkdir()
    (tmp_path / ".hidden" / "images").mkdir(parents=True)
    folder(tmp_path).setup("fit")
    (line,) = [line for line in caplog.messages if "not used" in line]
    assert line.startswith(f"{named} in {tmp_path} looks like data and is not used; used: train/, val/, test/.")


@pytest.mark.parametrize(("image", "mask"), [("é", "e\u0301"), ("e\u0301", "é")])
def test_a_name_pairs_with_itself_in_another_form_of_unicode(tmp_path: Path, image: str, mask: str) -> None:
    write(tmp_path, "a")
    (tmp_path / "images" / "a.png").rename(tmp_path / "images" / f"straß{image}s.png")
    (tmp_path / "masks" / "a.png").rename(tmp_path / "masks" / f"straß{mask}s.png")
    assert [pair.mask.stem for pair in find_pairs(tmp_path)] == [f"straß{mask}s"]


def test_names_that_are_no_utf8_are_split(tmp_path: Path) -> None:
    for name in (b"caf\xe9", b"\xff"):
        write(tmp_path, os.fsdecode(name))
    assert len(split_off(find_pairs(tmp_path), 0.5, 0, "val")[0]) == 1


def test_a_folder_without_images_says_what_it_holds(tmp_path: Path) -> None:
    write(tmp_path, "a")
    (tmp_path / "images" / "a.png").rename(tmp_path / "images" / "a.gif")
    (tmp_path / "images" / "more").mkdir()
    with pytest.raises(ValueError, match=r"images holds no jpg, .* file, but 1 \.gif file and 1 folder\."):
        find_pairs(tmp_path)


def test_masks_may_be_gif_and_folders_may_be_links(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere", "a")
    Image.fromarray(np.array([[0, 1], [2, 255]], np.uint8)).save(tmp_path / "elsewhere" / "masks" / "a.gif")
    (tmp_path / "elsewhere" / "masks" / "a.png").unlink()
    (tmp_path / "images").symlink_to("elsewhere/images")
    (tmp_path / "masks").symlink_to("elsewhere/masks")
    assert [pair.mask.name for pair in find_pairs(tmp_path)] == ["a.gif"]


def test_training_masks_that_are_all_void_are_refused(tmp_path: Path) -> None:
    three(tmp_path)
    for stem in "ab":
        write(tmp_path / "train", stem, [[255, 255], [255, 255]])
    with pytest.raises(ValueError, match="all 2 training masks hold nothing but ignore_index=255"):
        folder(tmp_path).setup("fit")


def test_what_no_training_mask_and_no_validation_mask_has_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    three(tmp_path)
    for stem in "ab":
        write(tmp_path / "train", stem, [[0, 0], [0, 255]])
        write(tmp_path / "val", stem, [[255, 255], [255, 255]])
    folder(tmp_path, class_names=["sky", "tree", "car"]).setup("fit")
    assert "no training mask has a pixel of tree, car, which cannot be learned." in caplog.messages
    assert "no val mask has a pixel of a class, so there is nothing to score." in caplog.messages


@pytest.mark.parametrize(("crop", "said"), [(32, True), (2, False), (None, False)])
def test_a_crop_that_is_mostly_outside_of_the_images_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, crop: int | None, said: bool
) -> None:
    three(tmp_path)
    steps = [] if crop is None else [v2.RandomCrop((crop, crop), pad_if_needed=True)]
    folder(tmp_path, augment=v2.Compose([*steps, v2.Identity()])).setup("fit")
    assert (
        any("crop_size=32×32 is larger than the training images: 99.6% of a crop" in line for line in caplog.messages)
        == said
    )


def test_max_pixels_is_that_of_images_and_masks(tmp_path: Path) -> None:
    three(tmp_path)
    with pytest.raises(ValueError, match="max_pixels=3"):
        folder(tmp_path, max_pixels=3).setup("fit")
    data = folder(tmp_path, max_pixels=3, check_masks=False)
    data.setup("fit")
    with pytest.raises(ValueError, match="max_pixels=3"):
        data.train_set[0]  # type: ignore[index]
