"""Masks and overlays written block by block, with the georeference of their image."""

import errno
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import numpy.typing as npt
from PIL import Image

from lightning_seg.inference.masks import PNG, overlay
from lightning_seg.inference.rasters import NO_OTHER_FILES, Raster

Labels = npt.NDArray[np.integer[Any]]
Palette = Sequence[Sequence[int]]
_ROWS = 256
_CACHE = 64  # MB that GDAL may keep of what it writes


def row_blocks(height: int) -> Iterator[slice]:
    """The rows of an image, a few hundred at a time."""
    for start in range(0, height, _ROWS):
        yield slice(start, min(start + _ROWS, height))


def write_geo_mask(
    path: Path, raster: Raster, labels: Labels, palette: Palette, invalid: npt.NDArray[np.bool_] | None
) -> None:
    """Writes labels as a GeoTIFF with the palette, and where the image has no data, with the nodata value.

    That is 255, with more than 255 classes 65535.

    Args:
        path: the file.
        raster: the image, whose CRS and transform are written.
        labels: `(H, W)`.
        palette: `(red, green, blue)` of each label.
        invalid: bool `(H, W)`, pixels without data.
    """
    kind, nodata = (np.uint8, 255) if len(palette) <= 255 else (np.uint16, 65535)
    options: dict[str, Any] = {} if invalid is None else {"nodata": nodata}
    colors = {label: (*map(int, color), 255) for label, color in enumerate(palette)} if len(palette) <= 255 else None

    def block(rows: slice) -> npt.NDArray[Any]:
        values = labels[rows].astype(kind)
        if invalid is not None:
            values[invalid[rows]] = nodata
        return values[None]

    _write_geotiff(path, raster, block, colors, dtype=kind, count=1, **options)


def write_overlay(
    path: Path, raster: Raster, labels: Labels, palette: Palette, invalid: npt.NDArray[np.bool_] | None
) -> None:
    """Writes the image with the colors of its labels over it, as what the suffix of the file says.

    Args:
        path: the file; a `.tif` has the georeference of the image.
        raster: the image.
        labels: `(H, W)`.
        palette: `(red, green, blue)` of each label.
        invalid: bool `(H, W)`, pixels without data, which stay as they are, and of which the mask of a `.tif` says so.
    """
    height, width = raster.size

    def block(rows: slice) -> npt.NDArray[np.uint8]:
        image = raster[..., rows, slice(None)][0]
        drawn = overlay(image, labels[rows], palette)
        if invalid is not None:
            plain = np.rint(255 * image.permute(1, 2, 0).numpy()).astype(np.uint8)
            drawn = np.where(invalid[rows][..., None], plain, drawn)
        return drawn

    if path.suffix == ".tif":
        bands = lambda rows: np.moveaxis(block(rows), -1, 0)  # noqa: E731
        _write_geotiff(path, raster, bands, invalid=invalid, dtype=np.uint8, count=3)
        return
    whole = Image.new("RGB", (width, height))
    for rows in row_blocks(height):
        whole.paste(Image.fromarray(block(rows)), (0, rows.start))
    whole.save(path, **PNG)


def _write_geotiff(
    path: Path,
    raster: Raster,
    block: Callable[[slice], npt.NDArray[Any]],
    colors: dict[int, tuple[int, ...]] | None = None,
    invalid: npt.NDArray[np.bool_] | None = None,
    **options: Any,
) -> None:
    """Writes blocks `(bands, rows, W)`, and reads them again: GDAL says nothing of a disk that is full as it closes.

    Where `invalid` is given, a mask of the file says which pixels have no data.

    Raises:
        OSError: they cannot be written, with the system's reason.
    """
    import rasterio

    height, width = raster.size
    written = found = 0
    try:
        environment = rasterio.Env(GDAL_CACHEMAX=_CACHE, GDAL_TIFF_INTERNAL_MASK=True)
        with environment, rasterio.open(path, "w", **_profile(raster), **options) as file:
            if colors is not None:
                file.write_colormap(1, colors)
            for rows in row_blocks(height):
                window = (rows.start, rows.stop), (0, width)
                values = np.ascontiguousarray(block(rows))
                _check_room(path, (height - rows.start) * values.nbytes // len(range(height)[rows]))
                written = crc32(values.data, written)
                file.write(values, window=window)
                if invalid is not None:
                    file.write_mask(~invalid[rows], window=window)
        with rasterio.Env(**NO_OTHER_FILES), rasterio.open(path, driver="GTiff") as file:
            for rows in row_blocks(height):
                found = crc32(file.read(window=((rows.start, rows.stop), (0, width))), found)
    except rasterio.errors.RasterioError as error:
        _say_why(path)
        raise OSError(f"{path} cannot be written: {error.__cause__ or error}") from None
    if found != written:
        _say_why(path)
        raise OSError(f"{path} does not hold what was written to it.")


def _check_room(path: Path, size: int) -> None:
    """Raises that the disk is full before what is left to write may not fit, of which libtiff prints its own lines."""
    needed = min(size, 2 * _CACHE * 10**6)
    if shutil.disk_usage(path.parent).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def _say_why(path: Path) -> None:
    """Raises what the system says of a little more in a file."""
    with path.open("ab") as file:
        file.write(bytes(2**20))


def _profile(raster: Raster) -> dict[str, Any]:
    height, width = raster.size
    blocks = {"tiled": True, "blockxsize": 256, "blockysize": 256}
    return {
        "driver": "GTiff",
        "height": height,
        "width": width,
        "compress": "deflate",
        "BIGTIFF": "IF_SAFER",
        **blocks,
        **(raster.georeference or {}),
    }
