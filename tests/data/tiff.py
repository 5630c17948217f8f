"""TIFF and PNG files of kinds that Pillow does not write."""

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

_FORMATS = {"u": 1, "i": 2, "f": 3}


def write_tiff(
    path: Path, *pages: Any, photometric: int | None = None, extra: int | None = None, subfile: Sequence[int] = ()
) -> None:
    """Uncompressed pages `(H, W)` or `(H, W, C)`, in their own dtype, little-endian.

    Args:
        path: the file.
        pages: one array each.
        photometric: 0 for white is zero, 1 for gray, 2 for RGB. Default: by the number of channels.
        extra: what the last channel is: 0 unspecified, 1 premultiplied alpha, 2 alpha.
        subfile: of each page; 1 for reduced resolution.
    """
    content = bytearray(b"II*\0\0\0\0\0")
    link = 4
    for number, page in enumerate(pages):
        array = np.ascontiguousarray(page)
        height, width, channels = (*array.shape, 1)[:3]
        kind = photometric if photometric is not None else (2 if channels >= 3 else 1)
        data_at = len(content)
        content += array.astype(array.dtype.newbyteorder("<")).tobytes()
        tags: dict[int, list[int]] = {
            254: [subfile[number] if number < len(subfile) else 0],
            256: [width],
            257: [height],
            258: [8 * array.dtype.itemsize] * channels,
            259: [1],
            262: [kind],
            273: [data_at],
            277: [channels],
            278: [height],
            279: [array.nbytes],
            339: [_FORMATS[array.dtype.kind]] * channels,
        }
        if extra is not None:
            tags[338] = [extra] * (channels - (3 if kind == 2 else 1))
        entries = b""
        for tag, values in sorted(tags.items()):
            packed = struct.pack(f"<{len(values)}I", *values)
            if len(packed) > 4:
                where = len(content)
                content += packed
                packed = struct.pack("<I", where)
            entries += struct.pack("<HHI", tag, 4, len(values)) + packed
        content += b"\0" * (len(content) % 2)
        content[link : link + 4] = struct.pack("<I", len(content))
        content += struct.pack("<H", len(tags)) + entries
        link = len(content)
        content += b"\0\0\0\0"
    path.write_bytes(bytes(content))


def write_png(path: Path, pixels: Any, depth: int, color: int) -> None:
    """A PNG of `depth` bits and color type 0 (gray), 2 (RGB), 4 (gray and alpha) or 6 (RGB and alpha)."""
    array = np.asarray(pixels)
    rows = array.reshape(len(array), -1)
    if depth == 16:
        lines = [row.astype(">u2").tobytes() for row in rows]
    else:
        bits = (rows[..., None] >> np.arange(depth - 1, -1, -1)) & 1
        lines = [np.packbits(row.reshape(-1).astype(np.uint8)).tobytes() for row in bits]
    header = struct.pack(">IIBBBBB", array.shape[1], len(array), depth, color, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"".join(b"\0" + line for line in lines))), (b"IEND", b"")]
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
            for name, data in chunks
        )
    )
