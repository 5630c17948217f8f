"""The labels of a block of pixels, as what picks from its channels and sums into classes.

For few classes the block's one-hot form is made in the cache, where multiplying by it costs less than looking up by
index; for many, indices are looked up.
"""

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from lightning_seg.losses.engine.dtypes import sum_dtype
from lightning_seg.losses.engine.labels import valid_labels

# Up to here the one-hot form is the faster one, on the CPU.
FEW_CLASSES = 8


class LabelBlock:
    """Labels of a block of pixels.

    Args:
        target: bool or integers, (n, L).
        ignore_index: the label of void pixels.
        classes: C.
        dtype: of the maps that are picked from and summed.

    Attributes:
        index: int64 (n, L), 0 at void pixels.
        valid: bool (n, L); None if no pixel is void.

    Raises:
        ValueError: a label is out of range. On CUDA, where looking would make the host wait, the device asserts it.
    """

    def __init__(self, target: Tensor, ignore_index: int | None, classes: int, dtype: torch.dtype) -> None:
        self.classes = classes
        self.dtype = dtype
        self.index, self.valid = valid_labels(target, ignore_index, classes)

    @cached_property
    def weight(self) -> Tensor | None:
        """1 at valid pixels and 0 at void ones, (n, L); None if no pixel is void."""
        return None if self.valid is None else self.valid.to(self.dtype)

    def pick(self, maps: Tensor) -> Tensor:
        """Of maps (n, C, L) the one of each pixel's label, (n, L); something finite at void pixels."""
        if self.one_hot is not None:
            return torch.where(self.one_hot > 0, maps, 0).sum(1)  # a product of 0 and a logit of −∞ is no number
        return maps.gather(1, self.index.unsqueeze(1)).squeeze(1)

    def look_up(self, row: Tensor) -> Tensor:
        """Of numbers (n, C) the one of each pixel's label, (n, L); 0 at void pixels."""
        if self.one_hot is not None:
            return torch.bmm(row.unsqueeze(1), self.one_hot).squeeze(1)
        return self._weighted(row.gather(1, self.index))

    def sums(self, maps: Sequence[Tensor]) -> Tensor:
        """The number of pixels of each label and the sums of maps (n, L) over them, (n, C, 1 + maps), `sum_dtype`."""
        dtype = sum_dtype(maps[0])
        if self.one_hot is not None:
            picked = (torch.bmm(self.one_hot, values.unsqueeze(2)).squeeze(2) for values in maps)
            return torch.stack([self.one_hot.sum(2), *picked], dim=2).to(dtype)
        ones = torch.ones_like(maps[0]) if self.weight is None else self.weight
        sums = torch.zeros(1 + len(maps), len(ones), self.classes, dtype=dtype, device=ones.device)
        for total, values in zip(sums, (ones, *maps), strict=True):
            total.scatter_add_(1, self.index, (values if values is ones else self._weighted(values)).to(dtype))
        return sums.movedim(0, 2)

    def add(self, maps: Tensor, values: Tensor) -> None:
        """Adds values (n, L), 0 at void pixels, to the maps (n, C, L) of the pixels' labels."""
        if self.one_hot is not None:
            maps.addcmul_(self.one_hot, values.unsqueeze(1))
        else:
            maps.scatter_add_(1, self.index.unsqueeze(1), values.unsqueeze(1))

    @cached_property
    def one_hot(self) -> Tensor | None:
        """1 in the channel of the label and 0 elsewhere, also at void pixels, (n, C, L); None for many classes."""
        if self.classes > FEW_CLASSES:
            return None
        labels = self.index.to(self.dtype)
        if self.valid is not None:
            labels.masked_fill_(~self.valid, -1)
        channels = torch.arange(self.classes, dtype=self.dtype, device=labels.device)
        one_hot = labels.new_empty(len(labels), self.classes, labels.shape[1])
        # Written as numbers at once: a bool result, converted, costs ten times as much.
        return torch.eq(labels.unsqueeze(1), channels.view(-1, 1), out=one_hot)

    def _weighted(self, values: Tensor) -> Tensor:
        return values if self.weight is None else values * self.weight
