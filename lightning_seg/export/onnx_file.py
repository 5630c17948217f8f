"""ONNX files with dynamic batch, height and width, compared with the module before they get their name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_seg.export.agreement import EXAMPLE, Agreement
from lightning_seg.export.checked import write_checked
from lightning_seg.export.metadata import metadata
from lightning_seg.export.network import ExportedNetwork
from lightning_seg.hub import require
from lightning_seg.module import SegmentationModule
from lightning_seg.onnx_network import onnx_session


def write_onnx(
    module: SegmentationModule,
    output: str | Path,
    *,
    argmax: bool = False,
    half: bool = False,
    tolerance: float | None = None,
    overwrite: bool = False,
) -> Agreement:
    """Writes a module as ONNX: from images `(N, channels, H, W)`, float32 in [0, 1], to logits at their size.

    Normalization and resizing are inside. The metadata are those of `lightning_seg.export.metadata`.

    Args:
        module: a trained module.
        output: the file, ending in `.onnx`.
        argmax: labels, int64 `(N, H, W)`, instead of logits.
        half: the network's weights and activations in float16.
        tolerance: see `lightning_seg.export.check_agreement`.
        overwrite: replace a file that is there.

    Raises:
        FileExistsError: the file exists and `overwrite` is false.
        ImportError: `pip install "lightning-seg[export]"` is missing.
        ValueError: the network cannot be exported, or ONNX Runtime gives something else than the module; no file stays.
    """
    for name in ("onnx", "onnxscript", "onnxruntime"):
        require(name)
    options = {"argmax": argmax, "half": half, "tolerance": tolerance, "overwrite": overwrite}
    return write_checked(_write, module, output, ".onnx", **options)  # type: ignore[arg-type]


def _write(network: ExportedNetwork, path: Path) -> Callable[[Tensor], Tensor]:
    program = _program(network)
    program.model.metadata_props.update(metadata(network))
    try:
        program.save(str(path), external_data=False)
    except ValueError as error:
        raise ValueError(f"it cannot be written: {error}; half=true takes half the space.") from error
    session = onnx_session(path, torch.device("cpu"))

    def run(image: Tensor) -> Tensor:
        try:
            return torch.from_numpy(session.run(None, {"image": image.numpy()})[0])
        except Exception as error:  # of classes of its own
            raise ValueError(f"ONNX Runtime fails at {tuple(image.shape)}: {error}") from error

    return run


def _program(network: ExportedNetwork) -> Any:
    try:
        return torch.onnx.export(
            network,
            (network.example(*EXAMPLE),),
            dynamo=True,
            dynamic_shapes=({0: "batch", 2: "height", 3: "width"},),
            input_names=["image"],
            output_names=["labels" if network.argmax else "logits"],
            verbose=False,
        )
    except Exception as error:  # whatever the exporter makes of a network
        raise ValueError(_reason(error)) from error


def _reason(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"the network cannot be exported: {(lines or [type(error).__name__])[0][:300]}"
