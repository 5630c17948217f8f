"""Images as text that a page can hold."""

import base64
import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from lightning_seg.report.runs import Sample

_VOID = (150, 150, 150)
_ERROR = (230, 30, 40)


def image_uri(sample: Sample) -> str:
    """The image, as WebP."""
    return data_uri(Image.fromarray(sample.image), "WEBP", quality=88)


def target_uri(sample: Sample) -> str:
    """The target in the colors of the classes, void pixels gray."""
    return _labels_uri(sample.target, [*sample.palette, list(_VOID)])


def labels_uri(sample: Sample) -> str:
    """The prediction in the colors of the classes."""
    return _labels_uri(sample.labels, sample.palette)


def errors_uri(sample: Sample) -> str:
    """Wrong pixels red, void ones gray, all others transparent."""
    kinds = (sample.target != sample.labels).astype(np.uint8)
    kinds[sample.target == sample.void] = 2
    picture = Image.fromarray(kinds)
    picture.putpalette([0, 0, 0, *_ERROR, *_VOID])
    return data_uri(picture, "PNG", transparency=0, bits=2)


def data_uri(picture: Image.Image, kind: str, **options: object) -> str:
    """A picture as text, in the format `kind` of Pillow with its options for saving."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"


def _labels_uri(labels: npt.NDArray[np.integer[Any]], colors: list[list[int]]) -> str:
    table = np.array(colors, dtype=np.uint8)
    if len(table) <= 256:
        picture = Image.fromarray(labels.astype(np.uint8))
        picture.putpalette(table.flatten().tolist())
    else:
        picture = Image.fromarray(table[labels])
    return data_uri(picture, "PNG")
