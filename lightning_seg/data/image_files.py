"""Opening image files that may be anybody's: by what they hold, not by their name, and never larger than allowed."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

# Each registers its format with Pillow, of whose many other ones none is opened.
from PIL import (
    BmpImagePlugin,  # noqa: F401
    GifImagePlugin,  # noqa: F401
    Image,
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    PpmImagePlugin,  # noqa: F401
    TiffImagePlugin,
    WebPImagePlugin,  # noqa: F401
)

from lightning_seg.memory import check_memory
from lightning_seg.reading import open_regular

MAX_PIXELS = 500_000_000

_SIGNATURES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"BM": "BMP",
    **{
        b"P" + digit + end: "PPM"
        for digit in (b"1", b"2", b"3", b"4", b"5", b"6")
        for end in (b"\n", b" ", b"\r", b"\t")
    },
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"%!PS": "PostScript",
    b"\xc5\xd0\xd3\xc6": "PostScript",
    b"%PDF": "PDF",
    b"8BPS": "Photoshop",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\x93NUMPY": "NumPy",
    b"PK\x03\x04": "zip",
    b"\x1f\x8b": "gzip",
    b"<svg": "SVG",
    b"<!DOCTYPE": "HTML",
    b"<html": "HTML",
}
_LFS = b"version https://git-lfs"
_ORIENTATION = 0x0112
_SIDEWAYS = (5, 6, 7, 8)  # swap height and width
_PAGES = 64  # of a TIFF's overviews, beyond which nobody looks
_SUBFILE, _OLD_SUBFILE, _PHOTOMETRIC, _EXTRA, _SAMPLE_FORMAT = 254, 255, 262, 338, 339
_SAMPLES, _BITS = 277, 258


class ImageFileError(ValueError):
    """A file that cannot be read as an image or a mask; the message is one line that names it."""


@dataclass(frozen=True)
class OpenedImage:
    """An image whose header has been read.

    Args:
        path: its file.
        kind: `JPEG`, `PNG`, `TIFF`, `BMP`, `WEBP` or `GIF`, by its content.
        image: Pillow's, as it lies in the file.
        rawmode: how Pillow unpacks it: `L`, `RGB;16B`, ...
        orientation: 1 to 8, by which it is still to be turned.
        tags: of a TIFF.
        top: of a PPM, the largest value of its pixels, which Pillow stretches to that of all bits.
        is_lossy: whether the compression changes values.
    """

    path: str | Path
    kind: str
    image: Image.Image
    rawmode: str
    orientation: int
    tags: dict[int, Any]
    top: int | None = None
    is_lossy: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the upright image."""
        width, height = self.image.size
        return (width, height) if self.orientation in _SIDEWAYS else (height, width)

    @property
    def is_signed(self) -> bool:
        """Whether the file's values have a sign, of which Pillow takes no notice where they have 8 bits."""
        return 2 in _numbers(self.tags.get(_SAMPLE_FORMAT, 1))

    @property
    def is_unsigned_32(self) -> bool:
        """Whether values have 32 bits and no sign, where Pillow gives them one."""
        return _numbers(self.tags.get(_BITS, 1)) == (32,) and _numbers(self.tags.get(_SAMPLE_FORMAT, 1)) == (1,)

    @property
    def is_inverted(self) -> bool:
        """Whether 0 is white."""
        return self.kind == "TIFF" and self.tags.get(_PHOTOMETRIC) == 0

    @property
    def is_wide_color(self) -> bool:
        """Whether colors have 16 bits a channel, of which Pillow keeps 8."""
        return ";16" in self.rawmode and not self.image.mode.startswith("I")

    def unstretched(self, pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The values as the file has them, where Pillow stretches these."""
        if self.top is None:
            return pixels
        most = 65535 if self.image.mode.startswith("I") else 255
        return pixels if self.top == most else np.rint(pixels.astype(np.float64) * (self.top / most)).astype(np.int64)

    def upright(self, pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Pixels `(H, W, ...)` as they lie in the file, turned as they are displayed."""
        if self.orientation in _SIDEWAYS:
            pixels = pixels.swapaxes(0, 1)
        if self.orientation in (3, 4, 7, 8):
            pixels = pixels[::-1]
        if self.orientation in (2, 3, 6, 7):
            pixels = pixels[:, ::-1]
        return np.array(pixels, order="C")  # Pillow's own is read-only, of which torch warns


@contextmanager
def open_image(
    path: str | Path, kinds: Sequence[str], *, max_pixels: int, bytes_per_pixel: int = 0, page: int | None = None
) -> Iterator[OpenedImage]:
    """Reads an image's header, for its pixels to be read within the block; whatever is wrong with it is one line.

    Args:
        path: the file.
        kinds: those that are read; see `OpenedImage.kind`.
        max_pixels: a larger image is refused.
        bytes_per_pixel: of memory that the block will take.
        page: which page of a file of several, from 0. Default: these are refused.

    Raises:
        OSError: see `lightning_seg.reading.open_regular`.
        ImageFileError: it is not an image of these kinds, is damaged, is too large, or has several pages or frames.
        MemoryError: it does not fit.
    """
    with open_regular(path) as file:
        try:
            kind = _kind(path, file, kinds)
            yield _opened(path, kind, file, max_pixels, bytes_per_pixel, page)
        except ImageFileError:
            raise
        except MemoryError as error:
            raise MemoryError(str(error) or f"{path} does not fit into memory.") from None
        except (
            Exception
        ) as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError and more for a broken file.
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ImageFileError(f"{path} cannot be read as an image: {reason}.") from None


def _opened(
    path: str | Path, kind: str, file: BinaryIO, max_pixels: int, bytes_per_pixel: int, page: int | None
) -> OpenedImage:
    if kind not in Image.OPEN:
        raise ImageFileError(f"{path} is a {kind} file, which this installation of Pillow cannot read.")
    try:
        image = Image.OPEN[kind][0](file, "")  # with no name, by which Pillow would open it again
    except Exception as error:
        if kind != "TIFF":
            raise
        raise ImageFileError(f"{path} cannot be read as an image: {_tiff(file) or error}.") from None
    is_lossy = kind == "JPEG" or (kind == "WEBP" and not _is_lossless(file))
    _choose_page(path, kind, image, page)
    width, height = image.size
    if width * height > max_pixels:
        raise ImageFileError(
            f"{path} is {height}×{width}, {width * height:,} pixels, and max_pixels={max_pixels:,}: "
            "raise max_pixels if it is meant to be that large."
        )
    if width < 1 or height < 1:
        raise ImageFileError(f"{path} is {height}×{width} and has no pixel.")
    check_memory(width * height * bytes_per_pixel, path)
    tags = _tags(image) if kind == "TIFF" else {}
    top = _top(image) if kind == "PPM" else None
    return OpenedImage(path, kind, image, _rawmode(image), _orientation(kind, image), tags, top, is_lossy)


def _kind(path: str | Path, file: BinaryIO, kinds: Sequence[str]) -> str:
    start = file.read(32)
    file.seek(0)
    kind = next((name for signature, name in _SIGNATURES.items() if start.startswith(signature)), None)
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        kind = "WEBP"
    if start[4:8] == b"ftyp":
        kind = "HEIF or AVIF"
    if kind in kinds:
        assert kind is not None
        return kind
    if not start:
        reason = "it is empty"
    elif start.startswith(_LFS):
        reason = "it is a pointer of Git LFS: git lfs pull fetches the file itself"
    elif kind is None:
        reason = "it is not in a known format"
    else:
        reason = f"it is a {kind} file, and {', '.join(kinds)} are read"
    raise ImageFileError(f"{path} cannot be read as an image: {reason}.")


def check_page(path: str | Path, pages: int, page: int | None) -> None:
    """Refuses a page that a file does not have.

    Raises:
        ImageFileError: it has fewer.
    """
    if page is not None and page >= pages:
        has = "1 page" if pages == 1 else f"{pages} pages"
        raise ImageFileError(f"{path} has {has}, and page {page}, counted from 0, was asked for.")


def _choose_page(path: str | Path, kind: str, image: Any, page: int | None) -> None:
    """Turns to the page that is meant, and refuses several, none of which is known to be.

    A JPEG's further pictures are previews of its first, and so are a TIFF's pages of reduced resolution.
    """
    if kind == "TIFF":
        if not _is_page(image):
            raise ImageFileError(f"{path} begins with a page of reduced resolution: save the page itself.")
        pages = [0]
        for number in range(1, _PAGES):
            try:
                image.seek(number)
            except EOFError:
                break
            if _is_page(image):
                pages.append(number)
                if page is None or len(pages) > page + 1:
                    break
        else:
            if page is None or len(pages) <= page:
                raise ImageFileError(f"{path} has {_PAGES} pages or more: save the one that is meant.")
        if len(pages) > 1 and page is None:
            raise ImageFileError(
                f"{path} has several pages: say which with data.page or data.mask_page, counted from 0, or save the "
                "one that is meant."
            )
        check_page(path, len(pages), page)
        image.seek(pages[page or 0])
        return
    check_page(path, 1, page)
    if kind in ("PNG", "WEBP", "GIF") and getattr(image, "is_animated", False):
        raise ImageFileError(f"{path} has {image.n_frames} frames: save the one that is meant.")


def _is_lossless(file: BinaryIO) -> bool:
    """Whether the picture of a WebP file is kept as it was."""
    place = file.tell()
    try:
        file.seek(12)
        for _ in range(64):
            header = file.read(8)
            if len(header) < 8 or header[:4] in (b"VP8L", b"VP8 "):
                return header[:4] == b"VP8L"
            size = int.from_bytes(header[4:], "little")
            file.seek(size + size % 2, 1)
        return False
    finally:
        file.seek(place)


def _top(image: Any) -> int | None:
    """The largest value of a PPM's pixels, where Pillow stretches them to all bits."""
    arguments = image.tile[0][3] if image.tile else None
    numbers = [one for one in arguments if isinstance(one, int)] if isinstance(arguments, tuple) else []
    return numbers[-1] if numbers and image.tile[0][0].startswith("ppm") else None


def _orientation(kind: str, image: Any) -> int:
    if kind not in ("JPEG", "PNG", "WEBP"):  # Pillow turns TIFF as it decodes it, and tells the size after that.
        return 1
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except Exception:
        if kind == "PNG":  # which is decoded, to find metadata at its end
            raise
        return 1  # broken metadata, by which no viewer turns it
    return int(orientation) if orientation in range(1, 9) else 1


def _is_page(image: Any) -> bool:
    tags = image.tag_v2
    return not (tags.get(_SUBFILE, 0) & 0b101 or tags.get(_OLD_SUBFILE) == 2)


def _rawmode(image: Any) -> str:
    arguments = image.tile[0][3] if image.tile else None
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) and first else str(image.mode)


def _tags(image: Any) -> dict[int, Any]:
    return {tag: image.tag_v2[tag] for tag in (_PHOTOMETRIC, _EXTRA, _SAMPLE_FORMAT, _BITS) if tag in image.tag_v2}


def _tiff(file: BinaryIO) -> str:
    """What a TIFF holds that Pillow cannot read; empty if its header is broken."""
    try:
        file.seek(0)
        header = file.read(8)
        is_big = 43 in header[2:4]
        directory = TiffImagePlugin.ImageFileDirectory_v2(header + file.read(8 if is_big else 0))
        file.seek(directory.next)
        directory.load(file)
        samples, bits = directory.get(_SAMPLES, 1), _numbers(directory.get(_BITS, 1))[0]
        kind = {1: "", 2: "signed ", 3: "floating-point "}.get(_numbers(directory.get(_SAMPLE_FORMAT, 1))[0], "other ")
    except Exception:
        return ""
    channels = "1 channel" if samples == 1 else f"{samples} channels"
    return f"it is a TIFF of {channels} of {bits} {kind}bits, and 1, 3 or 4 channels of 8 bits, or 1 of 16, are read"


def _numbers(value: Any) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value,)
