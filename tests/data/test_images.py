from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_seg.data import image_size, load_image


def ramp(dtype: type = np.uint8, top: int = 255) -> np.ndarray:
    return np.linspace(0, top, 6 * 9).reshape(6, 9).astype(dtype)


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
def test_colors_are_divided_by_255(tmp_path: Path, suffix: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(pixels).save(path)
    image = load_image(path)
    assert image.dtype == torch.float32
    assert torch.equal(image, torch.from_numpy(pixels).permute(2, 0, 1) / 255)
    assert image_size(path) == (6, 9)


def test_jpeg_is_read(tmp_path: Path) -> None:
    Image.new("RGB", (9, 6), (200, 100, 50)).save(tmp_path / "a.jpg", quality=95)
    expected = torch.tensor([200, 100, 50]).view(3, 1, 1).expand(3, 6, 9) / 255
    torch.testing.assert_close(load_image(tmp_path / "a.jpg"), expected, atol=0.02, rtol=0)


def test_grey_fills_three_channels_and_alpha_is_dropped(tmp_path: Path) -> None:
    gray = Image.fromarray(ramp())
    expected = torch.from_numpy(ramp()).expand(3, 6, 9) / 255
    for mode in ("L", "LA", "RGB", "RGBA"):
        image = gray.convert(mode)
        if mode.endswith("A"):
            image.putalpha(17)
        image.save(tmp_path / "a.png")
        assert torch.equal(load_image(tmp_path / "a.png"), expected), mode


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_keep_their_precision(tmp_path: Path, suffix: str) -> None:
    pixels = ramp(np.uint16, 65535)
    Image.fromarray(pixels).save(tmp_path / f"a.{suffix}")
    expected = torch.from_numpy(pixels.astype(np.float32) / 65535).expand(3, 6, 9)
    assert torch.equal(load_image(tmp_path / f"a.{suffix}"), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_respected(tmp_path: Path, orientation: int) -> None:
    pixels = torch.from_numpy(ramp()) / 255
    turned = {
        1: pixels,
        2: pixels.flip(1),
        3: pixels.rot90(2),
        4: pixels.flip(0),
        5: pixels.T,
        6: pixels.rot90(-1),
        7: pixels.rot90(2).T,
        8: pixels.rot90(1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(ramp()).save(tmp_path / "a.png", exif=exif)
    assert torch.equal(load_image(tmp_path / "a.png")[0], turned)
    assert image_size(tmp_path / "a.png") == tuple(turned.shape)


def test_scale_averages_as_an_antialiased_resize_does(tmp_path: Path) -> None:
    # A checkerboard of single pixels becomes even gray; without antialiasing it would not.
    board = np.indices((32, 48)).sum(0) % 2 * 255
    Image.fromarray(board.astype(np.uint8)).save(tmp_path / "a.png")
    image = load_image(tmp_path / "a.png", scale=0.25)
    assert image.shape == (3, 8, 12)
    assert (image[:, 1:-1, 1:-1] - 0.5).abs().max() < 0.05
    assert load_image(tmp_path / "a.png", scale=0.001).shape == (3, 1, 1)


def test_broken_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no picture")
    for read in (load_image, image_size):
        with pytest.raises(ValueError, match=r"a\.png cannot be read as an image: it is not in a known format"):
            read(tmp_path / "a.png")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "b.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "b.png").read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"b\.png cannot be read as an image"):
        load_image(tmp_path / "b.png")
    with pytest.raises(FileNotFoundError):
        load_image(tmp_path / "c.png")


def test_floating_point_pixels_are_refused(tmp_path: Path) -> None:
    Image.fromarray(ramp(np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match="floating-point pixels"):
        load_image(tmp_path / "a.tif")
