from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_seg.data import default_palette, load_mask
from lightning_seg.data.masks import check_color_table, check_values

LABELS = np.array([[0, 1, 2, 11], [2, 2, 0, 255]])
TABLE = [[0, 0, 0], [128, 64, 128], [255, 0, 0]]


def stored(form: str) -> Image.Image:
    eight = LABELS.astype(np.uint8)
    if form == "gray, 16 bits":
        return Image.fromarray(LABELS.astype(np.uint16))
    if form == "palette":
        # Two equal colors: indices, and not colors, are what counts.
        image = Image.new("P", (4, 2))
        image.putdata(eight.reshape(-1).tolist())
        image.putpalette([part for color in [(9, 9, 9), (9, 9, 9), *default_palette(254)] for part in color])
        return image
    image = Image.fromarray(eight)
    if form == "gray, 8 bits":
        return image
    image = image.convert({"gray as RGB": "RGB", "gray as RGBA": "RGBA", "gray and alpha": "LA"}[form])
    if "A" in image.getbands():
        image.putalpha(40)
    return image


FORMS = ["gray, 8 bits", "gray, 16 bits", "palette", "gray as RGB", "gray as RGBA", "gray and alpha"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_values_are_read_from_every_form(tmp_path: Path, form: str, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    stored(form).save(path)
    mask = load_mask(path)
    assert mask.dtype == torch.int64
    assert mask.tolist() == LABELS.tolist()


def test_sixteen_bits_hold_values_above_255(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 300, 65535]], np.uint16)).save(tmp_path / "a.png")
    assert load_mask(tmp_path / "a.png").tolist() == [[0, 300, 65535]]


def test_one_bit_is_zero_and_one(tmp_path: Path) -> None:
    Image.fromarray(np.array([[True, False, True]])).save(tmp_path / "a.png")
    assert load_mask(tmp_path / "a.png").tolist() == [[1, 0, 1]]


@pytest.mark.parametrize("mode", ["RGB", "P", "RGBA"])
def test_colors_become_classes_through_the_table(tmp_path: Path, mode: str) -> None:
    classes = np.array([[0, 1, 2], [2, 1, 3]])
    colors = np.array([*TABLE, [255, 255, 255]], np.uint8)[classes]
    image = Image.fromarray(colors)
    image = image.quantize(4) if mode == "P" else image.convert(mode)
    image.save(tmp_path / "a.png")
    mask = load_mask(tmp_path / "a.png", color_table=TABLE, void_colors=[[255, 255, 255]], ignore_index=-1)
    assert mask.tolist() == [[0, 1, 2], [2, 1, -1]]


def test_grey_of_0_and_255_becomes_two_classes_through_a_table(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 255]], np.uint8)).save(tmp_path / "a.png")
    assert load_mask(tmp_path / "a.png", color_table=[[0, 0, 0], [255, 255, 255]]).tolist() == [[0, 1]]


def test_unknown_color_is_named_with_its_file_and_pixels(tmp_path: Path) -> None:
    colors = np.zeros((50, 50, 3), np.uint8)
    colors[:30] = [1, 2, 3]
    colors[30] = [4, 5, 6]
    Image.fromarray(colors).save(tmp_path / "a.png")
    expected = r"a\.png holds color \[1, 2, 3\] in 1,500 pixels \(and 1 more such colors\).*data\.color_table"
    with pytest.raises(ValueError, match=expected):
        load_mask(tmp_path / "a.png", color_table=TABLE)


def test_colors_without_a_table_ask_for_one(tmp_path: Path) -> None:
    Image.new("RGB", (3, 2), (128, 64, 0)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"colored, \[128, 64, 0\] for instance, in 6 pixels.*data\.color_table"):
        load_mask(tmp_path / "a.png")


def test_jpeg_masks_are_refused(tmp_path: Path) -> None:
    Image.new("L", (3, 2)).save(tmp_path / "a.jpg")
    with pytest.raises(ValueError, match="JPEG, whose compression changes labels"):
        load_mask(tmp_path / "a.jpg")


def test_exif_orientation_turns_the_mask_too(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    stored("gray, 8 bits").save(tmp_path / "a.png", exif=exif)
    assert load_mask(tmp_path / "a.png").tolist() == np.rot90(LABELS, -1).tolist()


@pytest.mark.parametrize("ignore_index", [255, 11, -1, None])
def test_pixels_are_counted_by_class_and_void_is_not(ignore_index: int | None) -> None:
    mask = torch.tensor([[0, 0, 2], [2, 2, 0]])
    if ignore_index is not None:
        mask[1, 2] = ignore_index
    void = ignore_index is not None
    assert check_values(mask, "a.png", 3, ignore_index).tolist() == [2 if void else 3, 0, 3]


def test_value_that_is_not_a_class_is_named_with_its_file_and_pixels() -> None:
    mask = torch.zeros(60, 60, dtype=torch.int64)
    mask[:20] = 17
    mask[20, :4] = 18
    expected = (
        r"mask a\.png holds label 17 in 1,200 pixels \(and 1 more such labels\), which is out of range: "
        r"expected labels from 0 to 11, with ignore_index=255; .* give data\.values, or data\.color_table\."
    )
    with pytest.raises(ValueError, match=expected):
        check_values(mask, "a.png", 12, 255)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((TABLE, [], 4, None), "has 3 colors, but masks hold 4 classes"),
        (([[0, 0, 0], [0, 0]], [], 2, None), r"holds \[0, 0\]"),
        (([[0, 0, 0], [0, 0, 256]], [], 2, None), r"holds \[0, 0, 256\]"),
        (([[0, 0, 0], [0, 0, 0]], [], 2, None), r"\[0, 0, 0\] occurs twice"),
        ((TABLE, [[1, 1, 1]], 3, None), "data.void_colors need data.ignore_index"),
    ],
)
def test_color_table_that_does_not_fit_is_refused(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_color_table(*arguments)
