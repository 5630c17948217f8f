"""Test-time augmentation: predictions averaged over the symmetries of the square, and over scales."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_seg.d4 import SYMMETRIES, Symmetry

Flips = Literal["flip", "flips", "d4"]
Augmentation = bool | Flips | Mapping[str, Any]

_IDENTITY, _FLIP = SYMMETRIES[0], SYMMETRIES[1]
_SYMMETRIES: dict[Any, tuple[Symmetry, ...]] = {
    False: (_IDENTITY,),
    "flip": (_IDENTITY, _FLIP),
    "flips": tuple(one for one in SYMMETRIES if one.turns % 2 == 0),
    "d4": SYMMETRIES,
}
_INTERPOLATION = {2: "bilinear", 3: "trilinear"}
_LARGEST_SCALE = 4.0
_MOST_SCALES = 32


class View(NamedTuple):
    """An image as a network gets to see it: turned, and of `scale` times its size."""

    symmetry: Symmetry
    scale: float


_EIGHT = tuple(View(symmetry, 1.0) for symmetry in SYMMETRIES)


def views(augmentation: Augmentation) -> tuple[View, ...]:
    """What predictions are averaged over.

    | `augmentation` | views | cost, in passes |
    | --- | --- | --- |
    | `False` | the image as it is | 1 |
    | `flip` | left and right exchanged, too: for photographs | 2 |
    | `flips` | and top and bottom | 4 |
    | `d4`, `True` | and quarter turns: for images without a preferred orientation, from above or of cells | 8 |
    | `{"scales": [0.75, 1, 1.25], "flips": "flip"}` | each of these at each scale | that of the flips, times Σ scale² |

    Raises:
        ValueError: it is none of these.
    """
    flips, scales = augmentation, [1.0]
    if isinstance(augmentation, Mapping):
        unknown = sorted(map(str, augmentation.keys() - {"scales", "flips"}))
        if unknown:
            raise ValueError(f"test_time_augmentation has the key {unknown[0]}; it takes scales and flips.")
        flips = augmentation.get("flips", False)
        flips = "flips" if flips is True else flips
        scales = augmentation.get("scales", [1.0])
    flips = "d4" if flips is True else flips
    if not isinstance(flips, bool | str) or flips not in _SYMMETRIES:
        raise ValueError(
            f"test_time_augmentation={augmentation} must be false, flip, flips, d4 or {{scales: [0.75, 1, 1.25], "
            "flips: flip}."
        )
    if isinstance(scales, str) or not isinstance(scales, Sequence) or not scales or not all(map(_is_scale, scales)):
        raise ValueError(
            f"test_time_augmentation.scales={scales} must be a list of numbers above 0 and {_LARGEST_SCALE:g} at most."
        )
    if len(scales) > _MOST_SCALES:
        raise ValueError(f"test_time_augmentation.scales has {len(scales)} numbers, expected {_MOST_SCALES} at most.")
    return tuple(View(symmetry, float(scale)) for scale in scales for symmetry in _SYMMETRIES[flips])


def _is_scale(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= _LARGEST_SCALE


def symmetric_logits(
    forward: Callable[[Tensor, Sequence[int]], Tensor],
    image: Tensor,
    size: Sequence[int],
    *,
    softmax: bool,
    views: Sequence[View] = _EIGHT,
) -> Tensor:
    """Logits whose probabilities are the mean of those of the image in several views, each turned back.

        p(x) = 1/G Σ_g g⁻¹ p_network(g x),   g: quarter turns with and without a mirror image, by default all eight

    The logits are log p of each class after a softmax, and log p - log(1 - p) after sigmoids. With all eight the
    prediction of an image that is turned is the turned prediction, whatever the network. The passes follow one another,
    so that memory is that of one.

    Args:
        forward: called with images, turned and scaled, and the size of the logits, which it gives as `(N, C, *size)`.
        image: `(N, channels, *spatial)`; the last two dimensions are turned, and need not be equal.
        size: spatial size of the logits.
        softmax: whether classes exclude each other; else each channel is a sigmoid.
        views: see `views`. A scaled image is interpolated linearly, with antialiasing if it has two dimensions.

    Returns:
        `(N, C, *size)`, float32 at least.

    Raises:
        ValueError: images have fewer than two spatial dimensions.
    """
    if image.ndim < 4:
        raise ValueError(
            f"an image of shape {tuple(image.shape)} has one spatial dimension, and flips and rotations need two: "
            "leave test_time_augmentation out."
        )
    total: list[Tensor] = []
    for symmetry, scale in views:
        view = symmetry(_scaled(image, scale))
        turned = forward(view, (*size[:-2], *symmetry.size(*size[-2:])))
        logits = symmetry.inverse(turned.to(torch.promote_types(turned.dtype, torch.float32)))
        parts = [logits.log_softmax(dim=1)] if softmax else [F.logsigmoid(logits), F.logsigmoid(-logits)]
        total = [torch.logaddexp(*pair) for pair in zip(total, parts, strict=True)] if total else parts
    if softmax:
        # Their sum over classes is the number of views by now, which softmax does not see; log p is what is promised.
        return total[0].log_softmax(dim=1)
    return total[0] - total[1]


def _scaled(image: Tensor, scale: float) -> Tensor:
    if scale == 1:
        return image
    size = [max(1, round(side * scale)) for side in image.shape[2:]]
    mode = _INTERPOLATION[len(size)]
    return F.interpolate(image, size=size, mode=mode, align_corners=False, antialias=mode == "bilinear")
