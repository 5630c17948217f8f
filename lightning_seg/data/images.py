"""Reading photographs."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import resize

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp")
_SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap height and width.
_ORIENTATION = 0x0112


def load_image(path: str | Path, scale: float = 1.0) -> Tensor:
    """An image as float32 `(3, H, W)` in [0, 1], upright by its EXIF orientation.

    Gray images get three equal channels, an alpha channel is dropped, 16-bit gray is divided by 65535.

    Args:
        path: JPEG, PNG, TIFF or anything else that Pillow reads.
        scale: height and width are multiplied by it, bilinear and antialiased.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file cannot be read as an image.
    """
    image = open_upright(path)
    if image.mode == "F":
        raise ValueError(f"{path} holds floating-point pixels, whose range is unknown: save it with 8 or 16 bits.")
    if image.mode.startswith("I"):
        gray = np.asarray(image).astype(np.float32)
        if gray.min() < 0 or gray.max() > 65535:
            raise ValueError(
                f"{path} holds pixels from {gray.min():.0f} to {gray.max():.0f}: save it with 8 or 16 bits."
            )
        pixels = torch.from_numpy(gray / 65535).expand(3, -1, -1)
    else:
        pixels = torch.from_numpy(np.array(image.convert("RGB"))).movedim(-1, 0).float() / 255
    pixels = pixels.contiguous()
    if scale == 1.0:
        return pixels
    size = list(scaled_size(pixels.shape[-2:], scale))
    # Interpolation weights do not sum to exactly one.
    resized: Tensor = resize(pixels, size, interpolation=InterpolationMode.BILINEAR, antialias=True)
    return resized.clamp(0, 1)


def image_size(path: str | Path) -> tuple[int, int]:
    """Height and width of an image as `load_image` gives it, read from the file's header.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file cannot be read as an image.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            sideways = image.getexif().get(_ORIENTATION) in _SIDEWAYS
    except FileNotFoundError:
        raise
    except Exception as error:
        raise _unreadable(path, error) from error
    return (width, height) if sideways else (height, width)


def scaled_size(size: tuple[int, ...] | torch.Size, scale: float) -> tuple[int, int]:
    """Height and width multiplied by `scale` and rounded, 1 at least."""
    height, width = (max(1, round(length * scale)) for length in size)
    return height, width


def open_upright(path: str | Path) -> Image.Image:
    """A decoded Pillow image, turned by its EXIF orientation.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file cannot be read as an image.
    """
    try:
        with Image.open(path) as image:
            image.load()
            return ImageOps.exif_transpose(image)
    except FileNotFoundError:
        raise
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError and more for a broken file.
        raise _unreadable(path, error) from error


def _unreadable(path: str | Path, error: Exception) -> ValueError:
    reason = "it is in no known format" if "cannot identify" in str(error) else str(error)
    return ValueError(f"{path} cannot be read as an image: {reason}.")
