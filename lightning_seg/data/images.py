"""Reading photographs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import resize

from lightning_seg.data.arrays import is_array_file
from lightning_seg.data.bands import Channels, banded_size, chosen, in_range, is_banded, load_bands, plain_window
from lightning_seg.data.image_files import MAX_PIXELS, ImageFileError, OpenedImage, check_page, open_image
from lightning_seg.data.torch_decoders import decoded
from lightning_seg.data.windows import Box

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".ppm", ".pgm", ".pbm", ".pnm")
IMAGE_KINDS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "PPM")
_BYTES_PER_PIXEL = 20  # three numbers of four bytes, and what Pillow has beside them


def load_image(
    path: str | Path,
    scale: float = 1.0,
    *,
    max_pixels: int = MAX_PIXELS,
    page: int | None = None,
    channels: Channels = "rgb",
    value_range: Sequence[float] | None = None,
) -> Tensor:
    """An image as float32 `(3, H, W)` in [0, 1], upright by its EXIF orientation.

    Gray images get three equal channels, an alpha channel is dropped (of a TIFF only if it is one value), 16 bits (of
    gray files, and of color in PNG) are divided by 65535. What has another range, or channels of another kind, is
    refused.

    Args:
        path: JPEG, PNG, TIFF, BMP, WebP, PPM or PGM, by its content.
        scale: height and width are multiplied by it, bilinear and antialiased.
        max_pixels: an image of more pixels is refused before it is decoded.
        page: which page of a TIFF of several, from 0. Default: these are refused.
        channels: `rgb`, `all` bands of the file, alpha among them, or a list of bands, from 0.
        value_range: the values that become 0 and 1, beyond which they are clipped. Default: those of all bits.

    Raises:
        OSError: there is no such file (`FileNotFoundError`), it cannot be read, or it is a named pipe or a device.
        ValueError: the file cannot be read as an image.
        MemoryError: it does not fit into memory.
    """
    return scaled_image(
        in_unit_range(read_image(path, max_pixels=max_pixels, page=page, channels=channels, value_range=value_range)),
        scale,
    )


def read_image(
    path: str | Path,
    *,
    max_pixels: int = MAX_PIXELS,
    page: int | None = None,
    channels: Channels = "rgb",
    value_range: Sequence[float] | None = None,
    box: Box | None = None,
) -> Tensor:
    """An image as it lies in the file, uint8 or uint16 `(channels, H, W)`, upright; else as `load_image`, which see.

    Of a file of fewer bits than its type has, values are those of all bits. With a range they are float32 in [0, 1].
    With a `box` it is that part of the image, the same as of the whole; of arrays and TIFFs, where they allow it, no
    more is read.
    """
    if channels != "rgb" or value_range is not None or is_array_file(path):
        if is_banded(path):
            bands = load_bands(path, max_pixels=max_pixels, page=page, box=box)
        else:
            check_page(path, 1, page)
            bands = all_bands(path, max_pixels, keep_alpha=channels != "rgb")
            bands = bands if box is None else bands[box.parts]
        bands = in_range(chosen(bands, channels, path), value_range, path)
        taken = torch.from_numpy(np.array(np.moveaxis(bands, -1, 0), order="C"))
        return taken.expand(3, -1, -1) if channels == "rgb" else taken
    if box is not None:
        stored = plain_window(path, box, max_pixels=max_pixels, page=page, samples=(1, 3))
        if stored is None:
            return read_image(path, max_pixels=max_pixels, page=page)[(..., *box.parts)]
        return torch.from_numpy(stored).movedim(-1, 0).expand(3, -1, -1)
    with open_image(path, IMAGE_KINDS, max_pixels=max_pixels, bytes_per_pixel=_BYTES_PER_PIXEL, page=page) as source:
        if source.kind == "JPEG" and source.orientation == 1 and source.image.mode in ("L", "RGB"):
            pixels = decoded(path, "decode_jpeg")
            if pixels is not None:
                return pixels.expand(3, -1, -1)
        values, top = _values(source)
        upright = source.upright(values)
        if top not in (255, 65535):
            upright = np.rint(upright * (65535 / top)).astype(np.uint16)
        return torch.from_numpy(upright).movedim(-1, 0).expand(3, -1, -1)


def in_unit_range(image: Tensor) -> Tensor:
    """Pixels of uint8 or uint16 as float32 in [0, 1]; floats as they are."""
    if image.is_floating_point():
        return image
    return image.float().div_(255 if image.dtype == torch.uint8 else 65535).contiguous()


def scaled_image(image: Tensor, scale: float) -> Tensor:
    """An image of uint8, or of floats in [0, 1], with height and width multiplied by `scale`, in its own type."""
    if scale == 1.0:
        return image
    size = list(scaled_size(image.shape[-2:], scale))
    resized: Tensor = resize(image, size, interpolation=InterpolationMode.BILINEAR, antialias=True)
    # Interpolation weights do not sum to exactly one.
    return resized.clamp(0, 1) if image.is_floating_point() else resized


def scaled_floats(image: Tensor, scale: float) -> Tensor:
    """An image in [0, 1] at another scale, as `scaled_image` of `in_unit_range`; a channel at a time saves memory."""
    return torch.cat([scaled_image(in_unit_range(channel), scale) for channel in torch.split(image, 1)])


def image_size(
    path: str | Path, *, max_pixels: int = MAX_PIXELS, page: int | None = None, by_bands: bool = False
) -> tuple[int, int]:
    """Height and width of an image as `load_image` gives it, read from the file's header.

    Raises:
        OSError: see `load_image`.
        ValueError: the file cannot be read as an image.
    """
    # `by_bands`: of any TIFF that `load_image` reads where its channels or range are given.
    if is_array_file(path) or (by_bands and is_banded(path)):
        return banded_size(path, max_pixels=max_pixels, page=page)
    with open_image(path, IMAGE_KINDS, max_pixels=max_pixels, page=page) as source:
        return source.size


def all_bands(path: str | Path, max_pixels: int, *, keep_alpha: bool) -> npt.NDArray[Any]:
    """The bands of a file that is neither an array nor a TIFF, `(H, W, bands)`."""
    with open_image(path, IMAGE_KINDS, max_pixels=max_pixels, bytes_per_pixel=_BYTES_PER_PIXEL) as source:
        if keep_alpha and source.is_wide_color and source.kind == "PNG":
            return source.upright(_wide_png(source).movedim(0, -1).numpy())
        if keep_alpha and source.image.mode in ("LA", "RGBA"):
            return source.upright(np.asarray(source.image))
        values, _ = _values(source)
        return source.upright(values)


def scaled_size(size: tuple[int, ...] | torch.Size, scale: float) -> tuple[int, int]:
    """Height and width multiplied by `scale` and rounded, 1 at least."""
    height, width = (max(1, round(length * scale)) for length in size)
    return height, width


def _values(source: OpenedImage) -> tuple[npt.NDArray[np.integer[Any]], int]:
    """As they lie in the file, uint8 or uint16 `(H, W, 1)` or `(H, W, 3)`, and the largest that there may be."""
    _check_range(source)
    if source.is_wide_color:
        return _wide_color(source), 65535
    image = source.image
    _refuse_hidden_band(source)
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)[..., None], 4095 if source.rawmode == "I;12" else 65535
    if source.kind == "PPM" and image.mode == "I":
        return np.asarray(image).astype(np.uint16)[..., None], 65535
    if image.mode in ("1", "L", "LA", "La"):
        return np.asarray(image.convert("L"))[..., None], 255
    return np.asarray(image.convert("RGB")), 255


def _check_range(source: OpenedImage) -> None:
    mode, path = source.image.mode, source.path
    if mode == "F":
        raise ImageFileError(f"{path} holds floating-point pixels, whose range is unknown: save it with 8 or 16 bits.")
    if (mode == "I" and source.kind != "PPM") or source.is_signed:
        raise ImageFileError(
            f"{path} holds signed or 32-bit pixels, whose range is unknown: save it with 8 or 16 bits, unsigned."
        )
    if mode.startswith("I;16") and source.is_inverted:
        raise ImageFileError(f"{path} holds 16-bit pixels of which 0 is white: save it with 0 as black.")
    if source.kind == "TIFF" and "X" in source.rawmode:
        raise ImageFileError(
            f"{path} has channels that are neither colors nor alpha: save the three, or the one, that are meant."
        )


def _refuse_hidden_band(source: OpenedImage) -> None:
    """Refuses a TIFF whose last band is marked as alpha and is not one value throughout: it may be a measurement."""
    if source.kind != "TIFF" or source.image.mode not in ("LA", "RGBA"):
        return
    low, high = source.image.getchannel("A").getextrema()
    if low != high:
        bands = len(source.image.getbands())
        named = ",".join(map(str, range(bands - 1)))
        raise ImageFileError(
            f"{source.path} has {bands} bands, of which the last is marked as alpha and holds {low} to {high}: say "
            f"which are meant with data.channels=[{named}], or data.channels=all."
        )


def _wide_png(source: OpenedImage) -> Tensor:
    pixels = decoded(source.path, "decode_png")
    if pixels is None:
        raise ImageFileError(
            f"{source.path} has 16 bits a channel, which Pillow does not read, and this torchvision has no decoder: "
            "save it with 8 bits, or as TIFF, of which data.channels=[0,1,2] reads 16."
        )
    return pixels


def _wide_color(source: OpenedImage) -> npt.NDArray[np.uint16]:
    if source.kind != "PNG":
        raise ImageFileError(
            f"{source.path} has 16 bits a channel, which are read of PNG files alone: save it as PNG, or with 8 bits."
        )
    channels = _wide_png(source)
    colors: npt.NDArray[np.uint16] = channels[: 1 if len(channels) < 3 else 3].movedim(0, -1).numpy()
    return colors
