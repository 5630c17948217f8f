"""Whether what was exported gives what the module gives, at sizes that the export did not see."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_seg.export.network import ExportedNetwork

EXAMPLE = (2, 2.5, 3.5)  # batch, and height and width in strides
# Multiples of the stride, others, smaller than the example, and than a stride; other batches.
_OTHERS = ((1, 2, 4), (3, 1.3, 2.7), (1, 4.6, 1.2), (2, 0.6, 0.4))


@dataclass
class Agreement:
    """How what was exported agrees with the module.

    Attributes:
        sizes: batches and sizes that were compared, `(N, H, W)`.
        difference: the largest difference of logits; None where labels were exported.
        equal: the share of pixels with equal labels.
        refused: sizes up to a stride that it refuses, which the module takes.
        untried: sizes that the module itself does not take.
    """

    sizes: list[tuple[int, ...]]
    difference: float | None
    equal: float
    refused: list[tuple[int, ...]]
    untried: list[tuple[int, ...]]

    def __str__(self) -> str:
        logits = "" if self.difference is None else f"logits differ by {self.difference:.1e} at most, "
        text = f"{logits}{100 * self.equal:.3f} % of labels are equal, at {_listed(self.sizes)}"
        if self.refused:
            text += f"; it refuses {_listed(self.refused)}"
        return text + (f"; the network itself does not take {_listed(self.untried)}" if self.untried else "")


def check_agreement(
    run: Callable[[Tensor], Tensor], network: ExportedNetwork, reference: ExportedNetwork, tolerance: float | None
) -> Agreement:
    """Compares what was exported with the module.

    Args:
        run: calls what was exported.
        network: what was exported.
        reference: gives the logits of the module in float32.
        tolerance: of the difference of logits, relative to the largest of them where that is above 1; labels may differ
            where the two largest logits do not differ by more. Default: 1e-3, with `half` 3e-2.

    Raises:
        ValueError: the shape or the values differ by more, or no size could be compared.
    """
    tolerance = (3e-2 if network.half_precision else 1e-3) if tolerance is None else tolerance
    found = Agreement([], None if network.argmax else 0.0, 1.0, [], [])
    equal = pixels = 0
    for size in _OTHERS:
        image = reference.example(*size)
        shape = (len(image), *image.shape[2:])
        with torch.inference_mode():
            try:
                logits = reference.logits(image)
            except (RuntimeError, ValueError):  # too small for a network that does not pad
                found.untried.append(shape)
                continue
        try:
            given = run(image)
        except AssertionError as error:  # a guard of torch.export, which no size passes in silence
            if "Guard" not in str(error) or min(shape[1:]) > reference.stride:
                raise ValueError(f"it refuses {_listed([shape])}: {' '.join(str(error).split())[:200]}") from error
            found.refused.append(shape)
            continue
        labels = reference.module.predict_labels(logits)
        _check_shape(given, labels if network.argmax else logits, shape)
        limit = tolerance * max(1.0, float(logits.abs().max()))
        if found.difference is not None:
            difference = float((given - logits).abs().max())
            if not difference <= limit:
                raise ValueError(f"at {_listed([shape])} logits differ by {difference:.2g}, more than {limit:.2g}.")
            found.difference = max(found.difference, difference)
            given = reference.module.predict_labels(given)
        wrong = (given != labels) & (_lead(logits, reference.module.task) > 2 * limit)
        if bool(wrong.any()):
            raise ValueError(f"at {_listed([shape])} {int(wrong.sum())} labels differ, and no tie explains it.")
        equal, pixels = equal + int((given == labels).sum()), pixels + labels.numel()
        found.sizes.append(shape)
    if not found.sizes:
        raise ValueError(f"it could not be compared at any size: {found}.")
    found.equal = equal / pixels
    return found


def _check_shape(given: Tensor, wanted: Tensor, size: tuple[int, ...]) -> None:
    if given.shape != wanted.shape:
        raise ValueError(f"at {_listed([size])} it gives {tuple(given.shape)}, and the module {tuple(wanted.shape)}.")


def _lead(logits: Tensor, task: str) -> Tensor:
    """By how much a label is above the next one."""
    if task == "multiclass":
        first, second = logits.topk(2, dim=1).values.unbind(1)
        return first - second
    return logits.abs().squeeze(1) if task == "binary" else logits.abs()


def _listed(sizes: list[tuple[int, ...]]) -> str:
    return ", ".join("×".join(map(str, size)) for size in sizes)
