"""The decoders of torchvision, which take half of Pillow's time, where this release has them: they are deprecated."""

from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor

from lightning_seg.data.image_files import ImageFileError
from lightning_seg.reading import open_regular


def decoded(path: str | Path, name: str) -> Tensor | None:
    """The pixels of a file, uint8 or uint16 `(channels, H, W)`; None where torchvision has no such decoder.

    Args:
        path: the file.
        name: `decode_jpeg` or `decode_png`.

    Raises:
        ImageFileError: it cannot be decoded.
    """
    decode = _decoder(name)
    if decode is None:
        return None
    with open_regular(path) as file:
        content = torch.frombuffer(bytearray(file.read()), dtype=torch.uint8)
    try:
        return decode(content)
    except RuntimeError as error:  # whose message begins with a place in torchvision's own source
        raise ImageFileError(f"{path} cannot be read as an image: {str(error).rpartition(', ')[2].strip()}.") from None


@cache
def _decoder(name: str) -> Callable[[Tensor], Tensor] | None:
    try:
        found: Callable[[Tensor], Tensor] | None = getattr(import_module("torchvision.io"), name, None)
    except ImportError:
        return None
    return found
