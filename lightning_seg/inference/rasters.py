"""Images that are read window by window, so that one of any size takes little memory."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL.TiffImagePlugin import ImageFileDirectory_v2
from torch import Tensor

from lightning_seg.data.arrays import is_array_file, load_array
from lightning_seg.data.bands import has_plain_bands, is_banded, load_bands
from lightning_seg.data.image_files import MAX_PIXELS, ImageFileError
from lightning_seg.data.images import all_bands, read_image
from lightning_seg.inference.bands import BandedRaster
from lightning_seg.reading import open_regular

_COLORS: Mapping[str, Any] = {"channels": "rgb"}
_TOPS = {"uint8": 255, "uint16": 65535}
_GEOGRAPHIC = (33550, 34264, 34735)  # tags of a TIFF that say where it lies
_WIDTH, _HEIGHT = 256, 257
_LARGE = 25_000_000  # pixels above which any TIFF is read by windows
_CACHE = 256  # MB that GDAL may keep
NO_OTHER_FILES = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"}  # than the one that is opened


@dataclass
class Raster:
    """A picture `(1, 3, H, W)` whose parts are read when they are asked for: `raster[..., rows, columns]`.

    Args:
        size: height and width.
        pixels: uint8 or uint16 `(H, W, channels)`, or None.
        top: their largest value.
        dataset: of rasterio, or None.
        georeference: CRS and transform, as rasterio writes them; None where the file has none.
        bands: what a network of given channels sees, of which the picture shows the first three; None: the picture.
    """

    size: tuple[int, int]
    pixels: npt.NDArray[Any] | None
    top: int
    dataset: Any = None
    georeference: dict[str, Any] | None = None
    bands: BandedRaster | None = None

    ndim = 4

    @property
    def seen(self) -> "Raster | BandedRaster":
        """What the network sees."""
        return self if self.bands is None else self.bands

    @property
    def shape(self) -> torch.Size:
        """`(1, 3, H, W)`."""
        return torch.Size((1, 3, *self.size))

    def numel(self) -> int:
        """Of the whole image."""
        return self.shape.numel()

    def __getitem__(self, index: Any) -> Tensor:
        rows, columns = (index[-2], index[-1]) if isinstance(index, tuple) else (slice(None), slice(None))
        if self.bands is not None:
            return self.bands.picture(rows, columns)
        (top, bottom, _), (left, right, _) = rows.indices(self.size[0]), columns.indices(self.size[1])
        if self.pixels is not None:
            part = torch.from_numpy(np.ascontiguousarray(self.pixels[top:bottom, left:right])).movedim(-1, 0)
        else:
            part = torch.from_numpy(self._read(top, bottom, left, right))
        return part.float().div_(self.top).expand(3, -1, -1)[None]

    def invalid(self, rows: slice) -> npt.NDArray[np.bool_] | None:
        """Where some rows hold no data, bool `(rows, W)`; None where the file has no such value."""
        if self.bands is not None:
            return self.bands.invalid(rows)
        if self.dataset is None or self.dataset.nodata is None:
            return None
        values = self._read(rows.start, rows.stop, 0, self.size[1])
        found: npt.NDArray[np.bool_] = (values == self.dataset.nodata).all(0)
        return found

    def window(self, rows: slice, columns: slice) -> npt.NDArray[Any]:
        """All bands `(rows, columns, bands)` of a part."""
        return np.moveaxis(self._read(rows.start, rows.stop, columns.start, columns.stop, all_bands=True), 0, -1)

    def _read(self, top: int, bottom: int, left: int, right: int, *, all_bands: bool = False) -> npt.NDArray[Any]:
        bands = None if all_bands else [1] if self.dataset.count < 3 else [1, 2, 3]
        try:
            values: npt.NDArray[Any] = self.dataset.read(bands, window=((top, bottom), (left, right)))
        except Exception as error:  # of rasterio's own classes
            reason = " ".join(str(error.__cause__ or error).split())
            raise ImageFileError(f"{self.dataset.name} cannot be read: {reason}") from None
        return values


@contextmanager
def open_raster(
    path: Path, *, max_pixels: int = MAX_PIXELS, reading: Mapping[str, Any] | None = None, keep_place: bool = True
) -> Iterator[Raster]:
    """An image, to be read within the block.

    A `.npy` array is mapped; a TIFF that has a georeference, or is large, is read by
    windows with rasterio, the extra `geo`; others are decoded once, to 8 or 16 bits.

    Args:
        path: the file.
        max_pixels: see `load_image`.
        reading: its `channels` and `value_range`, for a network of others than RGB.
        keep_place: whether a georeference is needed, without which a GeoTIFF is refused where rasterio is missing.

    Raises:
        ImageFileError: it cannot be read as an image.
        OSError: there is no such file, or it cannot be read.
    """
    if reading is not None or is_array_file(path):
        with _open_banded(path, max_pixels, reading or _COLORS, keep_place) as raster:
            yield raster
        return
    if path.suffix.lower() in (".tif", ".tiff") and _by_windows(path, keep_place):
        with _dataset(path, max_pixels) as raster:
            yield raster
        return
    values = read_image(path, max_pixels=max_pixels)
    top = 255 if values.dtype == torch.uint8 else 65535
    yield Raster((values.shape[1], values.shape[2]), values.movedim(0, -1).numpy(), top)


@contextmanager
def _open_banded(path: Path, max_pixels: int, reading: Mapping[str, Any], keep_place: bool) -> Iterator[Raster]:
    """The same for a network of given channels; see `load_bands`, as which windows are read."""
    if is_array_file(path):
        array = load_array(path, max_pixels=max_pixels)
        yield _of_bands(path, array if array.ndim == 3 else array[..., None], reading)
    elif not is_banded(path):
        yield _of_bands(path, all_bands(path, max_pixels, keep_alpha=reading["channels"] != "rgb"), reading)
    elif not _by_windows(path, keep_place):
        yield _of_bands(path, load_bands(path, max_pixels=max_pixels, page=None), reading)
    else:
        with _opened(path) as dataset:
            raster = Raster((dataset.height, dataset.width), None, 255, dataset, _georeference(dataset))
            if has_plain_bands(path, max_pixels=max_pixels):
                raster.bands = BandedRaster(path, raster.size, raster.window, dataset.nodata, **reading)
            else:
                whole = load_bands(path, max_pixels=max_pixels, page=None)
                raster.bands = _of_bands(path, whole, reading).bands
            yield raster


def _of_bands(path: Path, bands: npt.NDArray[Any], reading: Mapping[str, Any]) -> Raster:
    size = bands.shape[0], bands.shape[1]
    part = lambda rows, columns: bands[rows, columns]  # noqa: E731
    return Raster(size, None, 255, bands=BandedRaster(path, size, part, **reading))


def is_geotiff(path: Path) -> bool:
    """Whether an image file says where on Earth, or in which plane, it lies; False where it cannot be read."""
    try:
        return path.suffix.lower() in (".tif", ".tiff") and _tiff_kind(path)[0]
    except OSError:
        return False


def _tiff_kind(path: Path) -> tuple[bool, bool]:
    """Whether a TIFF has a georeference, and is large."""
    with open_regular(path) as file:
        try:  # of the tags alone: Pillow does not open each kind of TIFF that rasterio reads
            header = file.read(8)
            header += file.read(8) if header[2:3] + header[3:4] in (b"+\0", b"\0+") else b""  # of a BigTIFF
            tags = ImageFileDirectory_v2(header)
            file.seek(tags.next)
            tags.load(file)
            return any(tag in tags for tag in _GEOGRAPHIC), tags[_WIDTH] * tags[_HEIGHT] > _LARGE
        except Exception:  # whatever Pillow makes of a damaged file
            return False, False


def _by_windows(path: Path, keep_place: bool) -> bool:
    is_geographic, is_large = _tiff_kind(path)
    has_library = find_spec("rasterio") is not None
    if is_geographic and keep_place and not has_library:
        raise ImageFileError(
            f'{path} is a GeoTIFF, whose georeference would be lost: pip install "lightning-seg[geo]" to keep it.'
        )
    return (is_geographic or is_large) and has_library


@contextmanager
def _dataset(path: Path, max_pixels: int) -> Iterator[Raster]:
    with _opened(path) as dataset:
        _check_pixels(path, dataset.width * dataset.height, max_pixels)
        if dataset.subdatasets:
            raise ImageFileError(f"{path} has several pages: save the one that is meant.")
        kinds = set(dataset.dtypes)
        alpha = dataset.count in (2, 4) and dataset.colorinterp[-1].name == "alpha"
        if (dataset.count not in (1, 3) and not alpha) or len(kinds) != 1 or not kinds <= set(_TOPS):
            raise ImageFileError(
                f"{path} has {dataset.count} bands of {', '.join(sorted(kinds))}; expected 1 or 3, and alpha, of "
                "uint8 or uint16."
            )
        yield Raster((dataset.height, dataset.width), None, _TOPS[kinds.pop()], dataset, _georeference(dataset))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A TIFF as a dataset of rasterio."""
    import rasterio

    with warnings.catch_warnings(), rasterio.Env(GDAL_CACHEMAX=_CACHE, **NO_OTHER_FILES):
        warnings.simplefilter("ignore")
        try:
            dataset = rasterio.open(path, driver="GTiff")
        except Exception as error:  # of rasterio's own classes
            raise ImageFileError(f"{path} cannot be read as a TIFF: {' '.join(str(error).split())}") from None
        with dataset:
            yield dataset


def _georeference(dataset: Any) -> dict[str, Any] | None:
    has_place = dataset.crs is not None or not dataset.transform.is_identity
    return {"crs": dataset.crs, "transform": dataset.transform} if has_place else None


def _check_pixels(path: Path, pixels: int, max_pixels: int) -> None:
    if pixels > max_pixels:
        raise ImageFileError(f"{path} has {pixels:,} pixels, more than max_pixels={max_pixels:,}; raise it to read it.")
