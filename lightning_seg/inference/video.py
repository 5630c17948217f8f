"""Videos: frames in, and the same frames with their masks over them out."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lightning_seg.data.image_files import MAX_PIXELS, ImageFileError
from lightning_seg.files import atomic_write
from lightning_seg.inference.masks import Palette, overlay
from lightning_seg.inference.predictor import Predictor, predicted_patches
from lightning_seg.inference.rasters import Raster
from lightning_seg.inference.scaled import ScaledRaster
from lightning_seg.reading import open_regular

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm")
_MATROSKA = b"\x1a\x45\xdf\xa3"  # and WebM
_QUICKTIME = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot")  # and MP4: what begins a file
_CODEC = "mp4v"
_RATE = 25.0  # frames a second, where a file does not say


def predict_video(
    module: Predictor,
    source: Path,
    target: Path,
    *,
    palette: Palette,
    scale: float = 1.0,
    batch_size: int = 1,
    max_pixels: int = MAX_PIXELS,
    overwrite: bool = False,
) -> int:
    """Predicts each frame of a video and writes it with its mask over it, as a video of the same size and rate.

    One frame is held at a time. There is no sound.

    Args:
        module: in evaluation mode.
        source: the video.
        target: the new one, ending in `.mp4`.
        palette: `(red, green, blue)` of each mask value.
        scale: the size at which the network sees frames, relative to their own.
        batch_size: tiles that go through the network together.
        max_pixels: of a frame.
        overwrite: replace an existing file.

    Returns:
        How many frames it has.

    Raises:
        FileExistsError: the target exists and `overwrite` is false.
        ImageFileError: the source cannot be read as a video, or not to its end.
        ImportError: `pip install "lightning-seg[video]"` is missing.
    """
    cv2 = _library()
    _check_container(source)
    capture = cv2.VideoCapture(str(source))
    try:
        rate = capture.get(cv2.CAP_PROP_FPS) or _RATE
        with atomic_write(target, overwrite=overwrite) as temporary:
            writer: Any = None
            count = 0
            for pixels in _frames(capture, source, max_pixels):
                height, width = pixels.shape[:2]
                if writer is None:
                    code = cv2.VideoWriter_fourcc(*_CODEC)
                    writer = cv2.VideoWriter(str(temporary), code, rate, (width, height))
                drawn = overlay(
                    torch.from_numpy(pixels).movedim(-1, 0).float() / 255,
                    _labels(module, pixels, scale, batch_size),
                    palette,
                )
                writer.write(np.ascontiguousarray(drawn[..., ::-1]))
                count += 1
            if writer is not None:
                writer.release()
            _check_whole(capture, cv2, source, count)
            if temporary.stat().st_size == 0:
                raise ImageFileError(f"{source}: OpenCV cannot write a video here.")
    finally:
        capture.release()
    return count


def _check_container(source: Path) -> None:
    """Refuses a file that is no video itself, as a playlist, by which the library would read other files."""
    with open_regular(source) as file:
        head = file.read(12)
    is_avi = head[:4] == b"RIFF" and head[8:] == b"AVI "
    if not (is_avi or head[:4] == _MATROSKA or head[4:8] in _QUICKTIME):
        raise ImageFileError(f"{source} cannot be read as a video.")


def _labels(module: Predictor, pixels: npt.NDArray[np.uint8], scale: float, batch_size: int) -> npt.NDArray[Any]:
    raster = Raster((pixels.shape[0], pixels.shape[1]), pixels, 255)
    labels = np.zeros(raster.size, np.uint16)
    seen: Raster | ScaledRaster = raster if scale == 1 else ScaledRaster(raster, scale)
    for rows, columns, logits in predicted_patches(module, seen, raster.size, batch_size):
        labels[rows, columns] = module.predict_labels(logits)[0].cpu().numpy()
    return labels


def _frames(capture: Any, source: Path, max_pixels: int) -> Iterator[npt.NDArray[np.uint8]]:
    """Frames `(H, W, 3)`, RGB."""
    while True:
        there, frame = capture.read()
        if not there:
            return
        if frame.shape[0] * frame.shape[1] > max_pixels:
            pixels = f"{frame.shape[0] * frame.shape[1]:,} pixels a frame"
            raise ImageFileError(f"{source} has {pixels}, more than max_pixels={max_pixels:,}; raise it to read it.")
        yield np.ascontiguousarray(frame[..., ::-1])


def _check_whole(capture: Any, cv2: Any, source: Path, count: int) -> None:
    if count == 0:
        raise ImageFileError(f"{source} cannot be read as a video.")
    told = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    if count < 0.95 * told - 1:  # some files tell it by their duration alone
        raise ImageFileError(f"{source} is damaged: {count} of its {told} frames can be read.")


def _library() -> Any:
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # nothing: it prints lines of its own about damaged files
    try:
        import cv2
    except ImportError:
        raise ImportError('videos need OpenCV: pip install "lightning-seg[video]"') from None
    return cv2
