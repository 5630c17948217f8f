"""Whatever befalls a file, it is read or refused in one line."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from lightning_seg.data import image_size, load_image, load_mask

GRAY = np.random.default_rng(0).integers(0, 200, (12, 9), dtype=np.uint8)


def written(kind: str, mode: str, **options: Any) -> bytes:
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    if kind not in ("GIF", "BMP"):
        options["exif"] = exif
    Image.fromarray(GRAY).convert(mode).save(file, kind, **options)
    return file.getvalue()


FILES = [
    *(written("PNG", mode) for mode in ("1", "L", "P", "RGBA", "I;16")),
    *(written("TIFF", mode) for mode in ("1", "L", "P", "RGB", "I;16")),
    *(written("TIFF", "L", compression=name) for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits")),
    *(written(kind, "RGB") for kind in ("JPEG", "WEBP", "BMP")),
    *(written(kind, "P") for kind in ("GIF", "BMP")),
]


@pytest.mark.filterwarnings("ignore")  # of Pillow, about metadata
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused_in_one_line(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from(FILES)))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(content)))
        content[at : at + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=8))
    path = tmp_path / "a.png"
    path.write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]))
    sizes, lines = [], []
    for read in (load_image, load_mask, image_size):
        try:
            found: Any = read(path, max_pixels=10_000)  # type: ignore[operator]
        except (OSError, ValueError, MemoryError) as error:
            lines.append(str(error))
        else:
            sizes.append(found if isinstance(found, tuple) else tuple(found.shape[-2:]))
    assert all(str(path) in line and "\n" not in line for line in lines)
    assert len(set(sizes)) <= 1
