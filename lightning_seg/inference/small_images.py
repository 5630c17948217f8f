"""Images as they lie in their files, of which the parts that are asked for become what a network takes."""

from typing import Any

import torch
from torch import Tensor

from lightning_seg.data.images import in_unit_range


class SmallImages:
    """Images `(N, channels, *spatial)` of uint8 or uint16 whose parts are float32 in [0, 1].

    Args:
        pixels: of them.
    """

    def __init__(self, pixels: Tensor) -> None:
        self.pixels, self.ndim = pixels, pixels.ndim

    @property
    def shape(self) -> torch.Size:
        """`(N, channels, *spatial)`."""
        return self.pixels.shape

    def numel(self) -> int:
        """Of all."""
        return self.pixels.numel()

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: Any) -> Tensor:
        return in_unit_range(self.pixels[index])
