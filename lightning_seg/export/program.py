"""Programs of `torch.export` with dynamic batch, height and width, compared with the module."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_seg.export.agreement import EXAMPLE, Agreement
from lightning_seg.export.checked import write_checked
from lightning_seg.export.metadata import metadata
from lightning_seg.export.network import ExportedNetwork
from lightning_seg.module import SegmentationModule


def write_program(
    module: SegmentationModule,
    output: str | Path,
    *,
    argmax: bool = False,
    half: bool = False,
    tolerance: float | None = None,
    overwrite: bool = False,
) -> Agreement:
    """Writes a module as a program of `torch.export`, read by `torch.export.load(output).module()`.

    It takes and gives what `write_onnx` does, and holds the same metadata, one extra file each. Sizes that it would
    compute wrongly it refuses by its guards, which may be those of images smaller than a stride.

    Args:
        module: a trained module.
        output: the file, ending in `.pt2`.
        argmax: labels, int64 `(N, H, W)`, instead of logits.
        half: the network's weights and activations in float16.
        tolerance: see `lightning_seg.export.check_agreement`.
        overwrite: replace a file that is there.

    Raises:
        FileExistsError: the file exists and `overwrite` is false.
        ValueError: the network cannot be exported, or gives something else than the module; no file stays.
    """
    options = {"argmax": argmax, "half": half, "tolerance": tolerance, "overwrite": overwrite}
    return write_checked(_write, module, output, ".pt2", **options)  # type: ignore[arg-type]


def _write(network: ExportedNetwork, path: Path) -> Callable[[Tensor], Tensor]:
    torch.export.save(_program(network), path, extra_files=metadata(network))
    exported: Any = torch.export.load(path).module()

    def run(image: Tensor) -> Tensor:
        with torch.inference_mode():
            result: Tensor = exported(image)
            return result

    return run


def _program(network: ExportedNetwork) -> torch.export.ExportedProgram:
    dynamic = torch.export.Dim.DYNAMIC
    try:
        return torch.export.export(
            network, (network.example(*EXAMPLE),), dynamic_shapes=({0: dynamic, 2: dynamic, 3: dynamic},), strict=False
        )
    except Exception as error:  # whatever it makes of a network
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        raise ValueError(f"the network cannot be exported: {lines[0][:300]}") from error
