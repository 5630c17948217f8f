"""Latency and size of the embedded network, in PyTorch and exported: `python -m tests.benchmarks.export`.

On one core, in that core's time, which what else runs on the machine hardly changes.
"""

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from lightning_seg.backbones import segmentation_model
from lightning_seg.export import ExportedNetwork, write_onnx
from lightning_seg.losses import CrossEntropyLoss
from lightning_seg.module import SegmentationModule
from lightning_seg.onnx_network import onnx_session

SIZE = 256


def milliseconds(runs: list[Callable[[], object]], rounds: int = 30) -> list[float]:
    """The shortest time of each call in this thread, in rounds that take turns, so that all are disturbed alike."""
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(rounds):
        for own, run in zip(times, runs, strict=True):
            start = time.thread_time()
            run()
            own.append(1000 * (time.thread_time() - start))
    return [min(own) for own in times]


def main() -> None:
    """Prints the table, and before it when each of its rows is ready: compiling and exporting take minutes."""
    begin = time.perf_counter()
    torch.manual_seed(0)
    torch.set_num_threads(1)
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
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        weights = Path(folder, "weights.pt")
        torch.save(module.state_dict(), weights)
        exported = ExportedNetwork(module)
        compiled = torch.compile(exported)
        names, files = ["PyTorch", "PyTorch, compiled"], [weights, weights]
        runs: list[Callable[[], object]] = [lambda: exported(image), lambda: compiled(image)]
        for name, run in zip(names, runs, strict=True):
            run()
            print(f"{name}: ready after {time.perf_counter() - begin:.0f} s", flush=True)
        for half in (False, True):
            path = Path(folder, f"{half}.onnx")
            write_onnx(module, path, half=half)
            session = onnx_session(path, torch.device("cpu"))
            names.append("ONNX Runtime, half=true" if half else "ONNX Runtime")
            files.append(path)
            runs.append(partial(session.run, None, {"image": image.numpy()}))
            runs[-1]()
            print(f"{names[-1]}: ready after {time.perf_counter() - begin:.0f} s", flush=True)
        print(f"one core, one image of {SIZE}×{SIZE}\n")
        print("| | ms an image | MB |\n| --- | --- | --- |")
        for name, path, latency in zip(names, files, milliseconds(runs), strict=True):
            print(f"| {name} | {latency:.0f} | {path.stat().st_size / 1e6:.1f} |")


if __name__ == "__main__":
    main()
