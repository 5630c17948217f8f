"""Formats of masks and images besides the usual ones."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_seg.data import default_palette, load_image, load_mask
from tests.data.tiff import write_tiff

LABELS = np.array([[0, 1, 2, 11], [2, 2, 0, 255]], np.uint8)


def portable(path: Path, header: str, pixels: bytes) -> Path:
    path.write_bytes(header.encode() + pixels)
    return path


def test_lossless_webp_and_pgm_and_ppm_hold_labels(tmp_path: Path) -> None:
    gray = Image.fromarray(LABELS)
    gray.convert("RGB").save(tmp_path / "a.webp", lossless=True)
    gray.save(tmp_path / "a.pgm")
    gray.convert("RGB").save(tmp_path / "a.ppm")
    for suffix in ("webp", "pgm", "ppm"):
        assert load_mask(tmp_path / f"a.{suffix}").tolist() == LABELS.tolist(), suffix
    table = [[value] * 3 for value in (0, 1, 2, 11, 255)]
    assert load_mask(tmp_path / "a.webp", color_table=table).tolist() == [[0, 1, 2, 3], [2, 2, 0, 4]]


def test_a_lossless_webp_with_metadata_is_still_one(tmp_path: Path) -> None:
    Image.fromarray(LABELS).convert("RGB").save(
        tmp_path / "a.webp", lossless=True, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0", icc_profile=b"x" * 7
    )
    assert load_mask(tmp_path / "a.webp").tolist() == LABELS.tolist()


@pytest.mark.parametrize(
    ("header", "pixels", "labels"),
    [
        ("P5\n4 1\n12\n", bytes([0, 1, 11, 12]), [[0, 1, 11, 12]]),  # which Pillow stretches to 255
        ("P2\n3 1\n10\n", b"0 7 10\n", [[0, 7, 10]]),
        ("P5\n2 1\n300\n", bytes([0, 7, 1, 44]), [[7, 300]]),
        ("P5\n2 1\n65535\n", bytes([0, 7, 255, 255]), [[7, 65535]]),
        ("P5 2 1 255\n", bytes([3, 255]), [[3, 255]]),
    ],
)
def test_the_values_of_a_pgm_are_those_that_it_holds(
    tmp_path: Path, header: str, pixels: bytes, labels: list[list[int]]
) -> None:
    assert load_mask(portable(tmp_path / "a.pgm", header, pixels)).tolist() == labels


def test_a_pgm_image_is_a_share_of_its_largest_value(tmp_path: Path) -> None:
    image = load_image(portable(tmp_path / "a.pgm", "P5\n3 1\n1000\n", bytes([0, 0, 1, 244, 3, 232])))
    assert torch.allclose(image[0, 0], torch.tensor([0, 0.5, 1.0]), atol=1e-4)


REFUSED: dict[str, tuple[Any, str]] = {
    "a.pbm": (lambda path: portable(path, "P4\n8 1\n", b"\x55"), "a PBM, of which 1 is black"),
    "a.webp": (lambda path: Image.fromarray(LABELS).convert("RGB").save(path), "lossy WebP, whose compression changes"),
    "a.npy": (lambda path: np.save(path, LABELS / 2), "array of float64, and labels are integers"),
    "b.npy": (lambda path: np.save(path, np.array([{}])), "cannot be read as an array"),
    "c.npy": (lambda path: np.save(path, LABELS[None, None]), r"is an array of \(1, 1, 2, 4\)"),
    "beyond.npy": (
        lambda path: path.write_bytes(
            b"\x93NUMPY\1\0\x76\0"
            + f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({2**70}, 1)}}".ljust(118).encode()
        ),
        "cannot be read as an array",
    ),
    "d.npy": (lambda path: path.write_bytes(b"\x93NUMPY"), "cannot be read as an array"),
    "e.npy": (lambda path: np.save(path, np.zeros((3, 5, 3), np.uint8)), "it is unclear which axis holds the channels"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_exactly_is_refused(tmp_path: Path, name: str) -> None:
    write, message = REFUSED[name]
    write(tmp_path / name)
    with pytest.raises(ValueError, match=message):
        load_mask(tmp_path / name)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, bool])
def test_arrays_hold_labels(tmp_path: Path, dtype: Any) -> None:
    labels = LABELS % 2 if dtype is bool else LABELS
    np.save(tmp_path / "a.npy", labels.astype(dtype))
    assert load_mask(tmp_path / "a.npy").tolist() == labels.astype(int).tolist()


def test_a_page_is_read_if_it_is_named(tmp_path: Path) -> None:
    pages = [Image.fromarray(LABELS // (page + 1)) for page in range(3)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    assert load_mask(tmp_path / "a.tif", page=2).tolist() == (LABELS // 3).tolist()
    assert torch.equal(load_image(tmp_path / "a.tif", page=1)[0], torch.tensor(LABELS // 2) / 255)
    with pytest.raises(ValueError, match=r"several pages: say which with data\.page or data\.mask_page"):
        load_mask(tmp_path / "a.tif")
    with pytest.raises(ValueError, match="has 3 pages, and page 3, counted from 0"):
        load_mask(tmp_path / "a.tif", page=3)
    write_tiff(tmp_path / "b.tif", LABELS)
    assert load_mask(tmp_path / "b.tif", page=0).tolist() == LABELS.tolist()
    Image.fromarray(LABELS).save(tmp_path / "b.png")
    np.save(tmp_path / "b.npy", LABELS)
    for read in (load_mask, load_image):
        for name in ("b.tif", "b.png", "b.npy"):
            with pytest.raises(ValueError, match=rf"{name} has 1 page, and page 2, counted from 0, was asked for"):
                read(tmp_path / name, page=2)  # type: ignore[operator]


@pytest.mark.parametrize("suffix", ["png", "gif"])
def test_transparency_of_a_palette_changes_no_index(tmp_path: Path, suffix: str) -> None:
    image = Image.fromarray(LABELS % 3)  # with gaps Pillow packs the indices of a GIF
    image.putpalette([part for color in default_palette(256) for part in color])
    image.save(tmp_path / f"a.{suffix}", transparency=1)
    assert load_mask(tmp_path / f"a.{suffix}").tolist() == (LABELS % 3).tolist()


def test_more_than_256_classes_have_colors_and_masks_of_16_bits(tmp_path: Path) -> None:
    assert len(set(default_palette(1000))) == 1000
    Image.fromarray(np.array([[0, 999]], np.uint16)).save(tmp_path / "a.png")
    assert load_mask(tmp_path / "a.png").tolist() == [[0, 999]]
