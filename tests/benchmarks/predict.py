"""The network's share of the time of a prediction, and the memory of a large one.

    python -m tests.benchmarks.predict         the share, of 24 photographs of two megapixels
    python -m tests.benchmarks.predict 20000   the memory, of a GeoTIFF of so many pixels a side

The network has two layers, by which everything else counts most.
"""

import resource
import sys
import tempfile
import time
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from lightning_seg.inference import predict_files
from lightning_seg.losses import CrossEntropyLoss
from lightning_seg.module import SegmentationModule

PALETTE = [(0, 0, 0), (200, 10, 20), (0, 0, 250)]
IMAGES, HEIGHT, WIDTH = 24, 1200, 1600


class Timed(SegmentationModule):
    """Counts the seconds that it takes."""

    seconds = 0.0

    def predict_logits(self, image: Any, size: Any = None) -> torch.Tensor:
        """As of the module."""
        start = time.perf_counter()
        logits = super().predict_logits(image, size)
        self.seconds += time.perf_counter() - start
        return logits


def tiny() -> Timed:
    """A network of two layers."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 1))
    return Timed(network, CrossEntropyLoss(), num_classes=3, tile=1024, margin=16).eval()


def photographs(folder: Path) -> None:
    """Smooth pictures with a little noise, as JPEG."""
    generator = np.random.default_rng(0)
    for index in range(IMAGES):
        coarse = generator.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)).astype(int)
        noisy = (smooth + generator.integers(-8, 9, smooth.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / f"{index}.jpg", quality=90)


def share() -> None:
    """Prints the share of the network."""
    with tempfile.TemporaryDirectory() as root:
        images = Path(root, "images")
        images.mkdir()
        photographs(images)
        tiny().predict(torch.rand(3, 64, 64))  # what is compiled once
        for overlay in (False, True):
            module = tiny()
            start = time.perf_counter()
            options = {"palette": PALETTE, "overlay": overlay, "progress": False}
            predict_files(module, images, Path(root, f"masks_{overlay}"), **options)  # type: ignore[arg-type]
            whole = time.perf_counter() - start
            print(
                f"overlay={str(overlay).lower()}: {1000 * whole / IMAGES:.0f} ms an image, of which the network "
                f"{100 * module.seconds / whole:.0f} %"
            )


def large(side: int) -> None:
    """Prints the memory beyond that of the network, with overlay and probabilities, at its highest."""
    import rasterio
    from rasterio.transform import Affine

    with tempfile.TemporaryDirectory() as root:
        path, generator = Path(root, "large.tif"), np.random.default_rng(0)
        block = np.repeat(np.repeat(generator.integers(0, 256, (3, 64, 64), dtype=np.uint8), 8, 1), 8, 2)
        options = {"driver": "GTiff", "height": side, "width": side, "count": 3, "dtype": "uint8", "tiled": True}
        place = {"crs": rasterio.CRS.from_epsg(32632), "transform": Affine(1.0, 0, 500_000, 0, -1.0, 5_000_000)}
        with rasterio.open(path, "w", compress="deflate", zlevel=1, **options, **place) as file:
            for top in range(0, side, 512):
                for left in range(0, side, 512):
                    rows, columns = min(512, side - top), min(512, side - left)
                    file.write(block[:, :rows, :columns], window=((top, top + rows), (left, left + columns)))
        module = tiny()
        module.predict(torch.rand(3, 1024, 1024))
        before, peak, done = _resident(), 0, False

        def watch() -> None:
            nonlocal peak
            while not done:
                peak = max(peak, _resident())
                time.sleep(0.02)

        watcher = Thread(target=watch)
        watcher.start()
        start = time.perf_counter()
        options = {"palette": PALETTE, "overlay": True, "probabilities": True, "progress": False}
        result = predict_files(module, path, Path(root, "out"), **options)
        done = True
        watcher.join()
        print(
            f"{side}×{side}: {(peak - before) / 2**30:.2f} GiB beyond the {before / 2**30:.2f} GiB of Python and the "
            f"network, in {time.perf_counter() - start:.0f} s; {result}"
        )


def _resident() -> int:
    """Bytes of memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    large(int(sys.argv[1])) if sys.argv[1:] else share()
