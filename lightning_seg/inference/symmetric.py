"""Test-time augmentation: predictions averaged over the symmetries of the square."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_seg.d4 import SYMMETRIES


def symmetric_logits(
    forward: Callable[[Tensor, Sequence[int]], Tensor], image: Tensor, size: Sequence[int], *, softmax: bool
) -> Tensor:
    """Logits whose probabilities are the mean of those of the image in its eight orientations, each turned back.

        p(x) = 1/8 Σ_g g⁻¹ p_network(g x),   g: quarter turns with and without a mirror image

    The logits are log p of each class after a softmax, and log p - log(1 - p) after sigmoids. The prediction of an
    image that is turned is then the turned prediction, whatever the network. It takes eight forward passes, one after
    the other, so that memory is that of one.

    Args:
        forward: called with images, turned, and the size of the logits, which it gives as `(N, C, *size)`.
        image: `(N, channels, *spatial)`; the last two dimensions are turned, and need not be equal.
        size: spatial size of the logits.
        softmax: whether classes exclude each other; else each channel is a sigmoid.

    Returns:
        `(N, C, *size)`, float32 at least.

    Raises:
        ValueError: images have fewer than two spatial dimensions.
    """
    if image.ndim < 4:
        raise ValueError(
            f"an image of shape {tuple(image.shape)} has one spatial dimension, and turning needs two: "
            "leave test_time_augmentation out."
        )
    total: list[Tensor] = []
    for symmetry in SYMMETRIES:
        turned = forward(symmetry(image), (*size[:-2], *symmetry.size(*size[-2:])))
        logits = symmetry.inverse(turned.to(torch.promote_types(turned.dtype, torch.float32)))
        parts = [logits.log_softmax(dim=1)] if softmax else [F.logsigmoid(logits), F.logsigmoid(-logits)]
        total = [torch.logaddexp(*pair) for pair in zip(total, parts, strict=True)] if total else parts
    if softmax:
        # Their sum over classes is exactly 8 by now, and softmax does not see the factor; log p is what is promised.
        return total[0].log_softmax(dim=1)
    return total[0] - total[1]
