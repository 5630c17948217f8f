"""The mean of a number over the valid pixels of a data set."""

from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from torch import Tensor
from torchmetrics import Metric


class PixelMean(Metric):
    """The mean over all pixels of numbers that are means over the pixels of a batch.

        Σ_b n_b · value_b / Σ_b n_b        over the batches b of all processes, with n_b valid pixels each

    Pixels are counted in int64 and the sum is float64 (float32 on mps, which has no float64), so that any number of
    batches gives the mean to the last digits of a float32. NaN and infinity propagate; without pixels the mean is NaN.
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False

    total: Tensor
    pixels: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("pixels", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, value: Tensor, pixels: Tensor | int) -> None:
        """Adds a batch.

        Args:
            value: a scalar, the mean over the batch's valid pixels.
            pixels: how many valid pixels there are; of a batch without any, the value does not count.
        """
        count = torch.as_tensor(pixels, device=self.pixels.device)
        self.total = self.total + torch.where(count > 0, value.detach().to(self.total.dtype) * count, 0)
        self.pixels = self.pixels + count

    def compute(self) -> Tensor:
        """The mean, float32."""
        return (self.total / self.pixels).float()

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "") -> Self:
        try:
            super()._apply(fn, exclude_state)
        except TypeError:  # a move to mps
            self.total = self.total.float()
            self._defaults["total"] = torch.zeros(())
            super()._apply(fn, exclude_state)
        return self
