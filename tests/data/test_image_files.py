"""No file is read as what it is not: exactly, or refused with the reason."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_seg import memory
from lightning_seg.data import image_size, load_image, load_mask
from tests.data.tiff import write_png, write_tiff

RANDOM = np.random.default_rng(0)
GRAY = RANDOM.integers(0, 200, (6, 9), dtype=np.uint8)
WIDE = RANDOM.integers(0, 65536, (6, 9), dtype=np.uint16)
COLOR = RANDOM.integers(0, 256, (6, 9, 3), dtype=np.uint8)
READERS: dict[str, Callable[[Path], Any]] = {"image": load_image, "size": image_size, "mask": load_mask}
TURNS: dict[int, Callable[[Any], Any]] = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: np.rot90,
}


def picture(mode: str) -> Image.Image:
    if mode == "I;16":
        return Image.fromarray(WIDE)
    if mode == "RGB":
        return Image.fromarray(COLOR)
    gray = Image.fromarray(GRAY)
    if mode == "P":
        gray.putpalette([part for index in range(256) for part in (index, 255 - index, index // 2)])
        return gray
    return gray.convert(mode)


MODES = {
    "png": ["1", "L", "P", "LA", "RGB", "RGBA", "I;16"],
    "tif": ["1", "L", "P", "LA", "RGB", "RGBA", "I;16", "CMYK"],
    "webp": ["L", "RGB", "RGBA"],
    "jpg": ["L", "RGB", "CMYK"],
}


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize(("suffix", "mode"), [(suffix, mode) for suffix, modes in MODES.items() for mode in modes])
def test_image_mask_and_size_agree_in_what_is_upright(tmp_path: Path, suffix: str, mode: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"lossless": True} if suffix == "webp" else {}
    picture(mode).save(tmp_path / f"plain.{suffix}", **options)
    picture(mode).save(tmp_path / f"turned.{suffix}", exif=exif, **options)
    turn = TURNS[orientation]
    plain, turned = load_image(tmp_path / f"plain.{suffix}"), load_image(tmp_path / f"turned.{suffix}")
    expected = turn(plain.permute(1, 2, 0).numpy())
    assert np.array_equal(turned.permute(1, 2, 0).numpy(), expected)
    assert image_size(tmp_path / f"turned.{suffix}") == expected.shape[:2]
    if suffix in ("png", "tif") and mode in ("1", "L", "P", "LA", "I;16"):
        mask = load_mask(tmp_path / f"turned.{suffix}")
        assert np.array_equal(mask.numpy(), turn(load_mask(tmp_path / f"plain.{suffix}").numpy()))
        assert tuple(mask.shape) == expected.shape[:2]


def test_orientation_after_the_pixels_of_a_png_counts_too(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture("L").save(tmp_path / "a.png", exif=exif)
    content = (tmp_path / "a.png").read_bytes()
    at = content.index(b"eXIf") - 4
    length = int.from_bytes(content[at : at + 4]) + 12
    end = content.index(b"IEND") - 4
    moved = content[:at] + content[at + length : end] + content[at : at + length] + content[end:]
    (tmp_path / "a.png").write_bytes(moved)
    assert image_size(tmp_path / "a.png") == tuple(load_image(tmp_path / "a.png").shape[1:]) == (9, 6)


def test_broken_metadata_turn_nothing(tmp_path: Path) -> None:
    picture("RGB").save(tmp_path / "a.jpg", exif=b"Exif\0\0garbage")
    assert image_size(tmp_path / "a.jpg") == (6, 9)
    assert load_image(tmp_path / "a.jpg").shape == (3, 6, 9)


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        (np.uint8, [0, 1, 254, 255]),
        (np.int8, [0, 1, -1, 127]),
        (np.uint16, [0, 300, 32768, 65535]),
        (np.int16, [0, 300, -1, -32768]),
        (np.uint32, [0, 70_000, 2**31, 2**32 - 1]),
        (np.int32, [0, 70_000, -1, -(2**31)]),
    ],
)
def test_labels_of_every_width_and_sign_are_read_exactly(tmp_path: Path, dtype: Any, values: list[int]) -> None:
    write_tiff(tmp_path / "a.tif", np.array([values], dtype))
    assert load_mask(tmp_path / "a.tif").tolist() == [values]


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_labels_of_every_depth_of_a_gray_png_are_read_exactly(tmp_path: Path, depth: int) -> None:
    labels = np.arange(6 * 9).reshape(6, 9) % 2**depth
    write_png(tmp_path / "a.png", labels, depth, 0)
    assert load_mask(tmp_path / "a.png").tolist() == labels.tolist()


@pytest.mark.parametrize("colors", [2, 4, 16, 256])
def test_indices_of_a_palette_are_read_exactly(tmp_path: Path, colors: int) -> None:
    labels = (np.arange(6 * 9).reshape(6, 9) % colors).astype(np.uint8)
    image = Image.fromarray(labels)
    image.putpalette(RANDOM.integers(0, 256, 3 * colors, dtype=np.uint8).tolist())
    for suffix in ("png", "bmp", "tif", "gif"):
        image.save(tmp_path / f"a.{suffix}", **({"optimize": False} if suffix == "gif" else {}))
        assert load_mask(tmp_path / f"a.{suffix}").tolist() == labels.tolist(), suffix
    image.save(tmp_path / "b.png", transparency=0)
    assert load_mask(tmp_path / "b.png").tolist() == labels.tolist()


@pytest.mark.parametrize(("color", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_sixteen_bits_of_a_color_png_keep_their_precision(tmp_path: Path, color: int, channels: int) -> None:
    pixels = RANDOM.integers(0, 65536, (6, 9, channels), dtype=np.uint16)
    write_png(tmp_path / "a.png", pixels, 16, color)
    colors = pixels[..., : 1 if channels == 2 else 3].astype(np.float32) / np.float32(65535)
    expected = torch.from_numpy(np.broadcast_to(colors, (6, 9, 3)).copy()).permute(2, 0, 1)
    assert torch.equal(load_image(tmp_path / "a.png"), expected)


def gif(path: Path, frames: int) -> None:
    images = [Image.fromarray(GRAY // (frame + 1)) for frame in range(frames)]
    images[0].save(path, format="GIF", save_all=True, append_images=images[1:])


def frames(kind: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        other = Image.fromarray(255 - COLOR)
        options = {"lossless": True} if kind == "WEBP" else {}
        Image.fromarray(COLOR).save(path, format=kind, save_all=True, append_images=[other], **options)

    return write


def alpha_only(path: Path) -> None:
    pixels = np.zeros((6, 9, 4), np.uint8)
    pixels[..., 3] = GRAY % 3
    Image.fromarray(pixels).save(path)


def as_kind(kind: str, **options: Any) -> Callable[[Path], None]:
    return lambda path: Image.fromarray(GRAY).convert("RGB").save(path, format=kind, **options)


def tiff(*pages: Any, **options: Any) -> Callable[[Path], None]:
    return lambda path: write_tiff(path, *pages, **options)


def text(content: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content) and None


GRAY_ALPHA = np.stack([GRAY, GRAY], -1)
FOUR = np.concatenate([COLOR, GRAY[..., None]], -1)
FIVE = np.concatenate([FOUR, GRAY[..., None]], -1)
REFUSED: dict[str, tuple[str, Callable[[Path], None], dict[str, str]]] = {
    "floating point": ("tif", tiff(GRAY.astype(np.float32)), dict.fromkeys(("image", "mask"), "floating-point pixels")),
    "32 bits": ("tif", tiff(GRAY.astype(np.uint32)), {"image": "signed or 32-bit pixels"}),
    "negative": ("tif", tiff(GRAY.astype(np.int16) - 100), {"image": "signed or 32-bit pixels"}),
    "a sign": ("tif", tiff(GRAY.astype(np.int8)), {"image": "signed or 32-bit pixels"}),
    "white is zero": ("tif", tiff(GRAY, photometric=0), {"mask": "of which 0 is white"}),
    "white is zero, 16 bits": (
        "tif",
        tiff(WIDE, photometric=0),
        {"mask": "of which 0 is white", "image": "of which 0 is white"},
    ),
    "16-bit colors in TIFF": (
        "tif",
        tiff(COLOR.astype(np.uint16) * 257),
        {"image": "16 bits a channel", "mask": "16 bits a channel"},
    ),
    "a fourth band": ("tif", tiff(FOUR, extra=0), {"image": "neither colors nor alpha", "mask": "Pillow's type"}),
    "a second band": ("tif", tiff(GRAY_ALPHA, extra=0), {"image": "neither colors nor alpha", "mask": "Pillow's type"}),
    "premultiplied alpha": ("tif", tiff(FOUR, extra=1), {"mask": r"Pillow's type 'RGBA' \(RGBa\)"}),
    "five bands": ("tif", tiff(FIVE, photometric=1), dict.fromkeys(READERS, "is a TIFF of 5 channels of 8 bits")),
    "64-bit floats": ("tif", tiff(GRAY.astype(np.float64)), dict.fromkeys(READERS, "of 64 floating-point bits")),
    "several pages": ("tif", tiff(GRAY, GRAY), dict.fromkeys(READERS, "has several pages")),
    "an overview and a page": ("tif", tiff(GRAY, GRAY, subfile=(1, 0)), dict.fromkeys(READERS, "reduced resolution")),
    "frames of a GIF": ("gif", lambda path: gif(path, 2), {"mask": "has 2 frames", "image": "it is a GIF file"}),
    "frames of a PNG": ("png", frames("PNG"), dict.fromkeys(READERS, "has 2 frames")),
    "frames of a WebP": ("webp", frames("WEBP"), {"image": "has 2 frames", "size": "has 2 frames"}),
    "labels in alpha": ("png", alpha_only, {"mask": "of one color that differ in their alpha channel"}),
    "a JPEG called PNG": ("png", as_kind("JPEG"), {"mask": "is a JPEG, whose compression changes labels"}),
    "a WebP called PNG": ("png", as_kind("WEBP"), {"mask": "is a lossy WebP, whose compression changes labels"}),
    "JPEG within TIFF": ("tif", as_kind("TIFF", compression="jpeg"), {"mask": "TIFF with JPEG or WebP compression"}),
    "PostScript": ("png", as_kind("EPS"), dict.fromkeys(READERS, "it is a PostScript file")),
    "PDF": ("png", as_kind("PDF"), dict.fromkeys(READERS, "it is a PDF file")),
    "JPEG 2000": ("jpg", as_kind("JPEG2000"), dict.fromkeys(READERS, "it is a JPEG 2000 file")),
    "AVIF": ("jpg", as_kind("AVIF"), dict.fromkeys(READERS, "it is a HEIF or AVIF file")),
    "ICO": ("png", as_kind("ICO"), dict.fromkeys(READERS, "it is not in a known format")),
    "TGA": ("png", as_kind("TGA"), dict.fromkeys(READERS, "it is not in a known format")),
    "PCX": ("png", as_kind("PCX"), dict.fromkeys(READERS, "it is not in a known format")),
    "empty": ("png", text(b""), dict.fromkeys(READERS, "it is empty")),
    "a pointer": ("png", text(b"version https://git-lfs.github.com/spec/v1\n"), dict.fromkeys(READERS, "git lfs pull")),
    "a page of the web": ("jpg", text(b"<!DOCTYPE html>"), dict.fromkeys(READERS, "it is a HTML file")),
    "a header alone": ("png", text(b"\x89PNG\r\n\x1a\n"), dict.fromkeys(READERS, "cannot be read as an image")),
    "a broken TIFF": ("tif", text(b"II*\0\xff\xff\xff\xff"), dict.fromkeys(READERS, "cannot be read as an image")),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_read_as_it_is_is_refused_with_the_reason(tmp_path: Path, what: str) -> None:
    suffix, write, messages = REFUSED[what]
    path = tmp_path / f"a.{suffix}"
    write(path)
    for reader, message in messages.items():
        with pytest.raises(ValueError, match=message) as raised:
            READERS[reader](path)
        assert str(path) in str(raised.value)
        assert "\n" not in str(raised.value)


def test_previews_within_a_file_are_passed_over(tmp_path: Path) -> None:
    write_tiff(tmp_path / "a.tif", GRAY, GRAY[::2, ::2], subfile=(0, 1))
    assert load_mask(tmp_path / "a.tif").tolist() == GRAY.tolist()
    small = Image.fromarray(COLOR[:3])
    Image.fromarray(COLOR).save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[small])
    assert load_image(tmp_path / "a.jpg").shape == (3, 6, 9)


def test_alpha_that_follows_from_the_colors_is_passed_over(tmp_path: Path) -> None:
    labels = GRAY % 2
    pixels = np.stack([255 * labels, 0 * labels, 0 * labels, 255 * labels], -1).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert load_mask(tmp_path / "a.png", color_table=[[0, 0, 0], [255, 0, 0]]).tolist() == labels.tolist()


@pytest.mark.parametrize("array", [WIDE, GRAY.astype(np.int32), GRAY.astype(np.float32), GRAY.astype(np.int8) - 100])
def test_a_color_table_is_of_eight_bits(tmp_path: Path, array: Any) -> None:
    write_tiff(tmp_path / "a.tif", array)
    with pytest.raises(ValueError, match=r"a\.tif (is gray with more than 8 bits|holds)"):
        load_mask(tmp_path / "a.tif", color_table=[[value] * 3 for value in range(256)])


@pytest.mark.parametrize("reader", READERS)
def test_max_pixels_decides_what_is_too_large(tmp_path: Path, reader: str) -> None:
    Image.new("L", (1000, 1000)).save(tmp_path / "a.png")
    read: Any = READERS[reader]
    with pytest.raises(ValueError, match=r"a\.png is 1000×1000, 1,000,000 pixels, and max_pixels=999,999: raise"):
        read(tmp_path / "a.png", max_pixels=999_999)
    read(tmp_path / "a.png", max_pixels=1_000_000)


def test_an_image_that_pillow_takes_for_a_bomb_is_read_by_default(tmp_path: Path) -> None:
    Image.new("1", (20_000, 10_000)).save(tmp_path / "a.png")
    assert image_size(tmp_path / "a.png") == (10_000, 20_000)
    Image.new("1", (30_000, 20_000)).save(tmp_path / "b.png")
    with pytest.raises(ValueError, match="max_pixels=500,000,000"):
        load_image(tmp_path / "b.png")


@pytest.mark.parametrize("read", [load_image, load_mask])
def test_an_image_that_does_not_fit_is_said_not_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], Any]
) -> None:
    Image.new("1", (10_000, 10_000)).save(tmp_path / "a.png")
    monkeypatch.setattr(memory, "available_memory", lambda: 2**29)
    with pytest.raises(MemoryError, match=r"a\.png takes 1\.\d GiB of memory, and 0\.5 are free"):
        read(tmp_path / "a.png")


@pytest.mark.parametrize("reader", READERS)
def test_what_is_not_a_file_is_not_waited_for(tmp_path: Path, reader: str) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(OSError, match=r"a\.png is a named pipe"):
        READERS[reader](tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("b.png")
    with pytest.raises(OSError, match=r"b\.png is a link that leads back to itself"):
        READERS[reader](tmp_path / "b.png")


def test_a_name_that_is_not_utf8_is_read(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.png")
    Image.fromarray(GRAY).save(path)
    assert load_mask(path).tolist() == GRAY.tolist()
