"""What every exported file goes through: it is written aside, compared with the module, and only then gets its name."""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lightning_seg.export.agreement import EXAMPLE, Agreement, check_agreement
from lightning_seg.export.network import ExportedNetwork
from lightning_seg.files import atomic_write
from lightning_seg.module import SegmentationModule


def write_checked(
    write: Callable[[ExportedNetwork, Path], Callable[[Tensor], Tensor]],
    module: SegmentationModule,
    output: str | Path,
    suffix: str,
    *,
    argmax: bool = False,
    half: bool = False,
    tolerance: float | None = None,
    overwrite: bool = False,
) -> Agreement:
    """Writes a module as a file that agrees with it.

    Args:
        write: writes a network to a path, and returns what calls the written file with images.
        module: a trained module.
        output: the file.
        suffix: which the file must have.
        argmax: labels instead of logits.
        half: the network's weights and activations in float16.
        tolerance: see `lightning_seg.export.check_agreement`.
        overwrite: replace a file that is there.

    Raises:
        FileExistsError: the file exists and `overwrite` is false.
        ValueError: another suffix, the network cannot be written, or the file gives something else; no file stays.
    """
    output = Path(output).expanduser()
    if output.suffix != suffix:
        raise ValueError(f"output={output} must have the suffix {suffix}.")
    network, reference = ExportedNetwork(module, argmax=argmax, half=half), ExportedNetwork(module)
    _trace_quickly(network, reference)
    with atomic_write(output, overwrite=overwrite) as temporary:
        with _silenced():
            run = write(network, temporary)
        try:
            return check_agreement(run, network, reference, tolerance)
        except (ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:400]
            raise ValueError(f"the export to {output} failed its check and was removed: {reason}") from error


@contextmanager
def _silenced() -> Iterator[None]:
    """Without warnings and logs of the exporter's own doings; of what fails it logs what it raises, too."""
    before = logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.ERROR)
        try:
            yield
        finally:
            logging.disable(before)


def _trace_quickly(network: ExportedNetwork, reference: ExportedNetwork) -> None:
    """Leaves out gradients, and writing over inputs where no logits depend on it: a fifth of an export's time."""
    network.requires_grad_(False)
    image, parts = reference.example(*EXAMPLE), _in_place(reference)
    with torch.inference_mode(), suppress(Exception):  # whatever the network raises, the export says
        logits = reference.logits(image)
        for part in parts:
            part.inplace = False
        if torch.equal(reference.logits(image), logits):
            for part in _in_place(network):
                part.inplace = False
    for part in parts:
        part.inplace = True


def _in_place(network: nn.Module) -> list[Any]:
    return [part for part in network.modules() if getattr(part, "inplace", False) is True]
