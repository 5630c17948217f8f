"""Images of any size for networks that need multiples of their stride."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_seg.backbones.outputs import network_output, resized


class PadToStride(nn.Module):
    """A network for images of any size, in one, two or three spatial dimensions.

    The image is padded at the end of each dimension by repeating its border to the next multiple of `stride`, and the
    logits are cropped back.

    Args:
        backbone: the network, for images `(N, C, *spatial)` whose sides are multiples of `stride`.
        stride: the product of the network's downsampling factors, in pixels.
    """

    def __init__(self, backbone: nn.Module, stride: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.stride = stride

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Logits `(N, classes, *spatial)` of an image `(N, C, *spatial)`; those of auxiliary heads follow, if any."""
        spatial = image.shape[2:]
        padded = _padded(image, self.stride)
        output = network_output(self.backbone(padded), len(spatial))
        logits = [_cropped(resized(part, padded.shape[2:]), spatial) for part in (output.logits, *output.auxiliary)]
        return tuple(logits) if output.auxiliary else logits[0]


def _padded(image: Tensor, stride: int) -> Tensor:
    """The image with its border repeated at the end of each spatial dimension up to a multiple of the stride."""
    # Without asking whether there is something to pad, which an export would answer once for all sizes.
    if not torch.compiler.is_exporting():
        amounts = [amount for side in reversed(image.shape[2:]) for amount in (0, -side % stride)]
        return F.pad(image, amounts, mode="replicate")
    for dim, side in enumerate(image.shape[2:], start=2):  # a length which is seen to be a multiple: half the reasoning
        length = (side + stride - 1) // stride * stride
        image = image.index_select(dim, torch.arange(length, device=image.device).clamp(max=side - 1))
    return image


def _cropped(logits: Tensor, size: Sequence[int]) -> Tensor:
    """The first pixels along each spatial dimension."""
    if not torch.compiler.is_exporting():
        return logits[(slice(None), slice(None), *(slice(side) for side in size))]
    for dim, side in enumerate(size, start=2):  # a slice is specialized to sizes that do or do not need a crop
        logits = logits.index_select(dim, torch.arange(side, device=logits.device))
    return logits
