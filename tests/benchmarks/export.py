"""Latency and size of the embedded network, in PyTorch and exported: `python -m tests.benchmarks.export`."""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

from lightning_seg.backbones import segmentation_model
from lightning_seg.export import ExportedNetwork, write_onnx
from lightning_seg.losses import CrossEntropyLoss
from lightning_seg.module import SegmentationModule
from lightning_seg.onnx_network import onnx_session

SIZE = 256


def milliseconds(run: Callable[[], object], seconds: float = 4.0) -> float:
    """The median time of a call."""
    run()
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 5:
        start = time.perf_counter()
        run()
        times.append(1000 * (time.perf_counter() - start))
    return median(times)


def main() -> None:
    """Prints the table."""
    torch.manual_seed(0)
    network = segmentation_model(
        "Unet",
        encoder_name="resnet18",
        encoder_weights=None,
        decoder_channels=[128, 96, 64, 48, 32],
        in_channels=3,
        classes=6,
    )
    module = SegmentationModule(network, CrossEntropyLoss(), num_classes=6).eval()
    image = torch.rand(1, 3, SIZE, SIZE)
    rows = []
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        whole = Path(folder, "weights.pt")
        torch.save(module.state_dict(), whole)
        exported = ExportedNetwork(module)
        rows.append(("PyTorch", whole, milliseconds(lambda: exported(image))))
        compiled = torch.compile(exported)
        rows.append(("PyTorch, compiled", whole, milliseconds(lambda: compiled(image))))
        for name, half in (("ONNX Runtime", False), ("ONNX Runtime, half=true", True)):
            path = Path(folder, f"{half}.onnx")
            write_onnx(module, path, half=half)
            session = onnx_session(path, torch.device("cpu"))
            given = {"image": image.numpy()}
            rows.append((name, path, milliseconds(lambda run=session.run, given=given: run(None, given))))
        print(f"{torch.get_num_threads()} threads of {os.cpu_count()} cores, one image of {SIZE}×{SIZE}\n")
        print("| | ms an image | MB |\n| --- | --- | --- |")
        for name, path, latency in rows:
            print(f"| {name} | {latency:.0f} | {path.stat().st_size / 1e6:.1f} |")


if __name__ == "__main__":
    main()
