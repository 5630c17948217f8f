"""What an evaluation gathers besides its scores: which images count, the loss of all of them, and NaN."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from lightning.pytorch.strategies import Strategy
from torch import Tensor, nn

from lightning_seg.data.evaluation_order import UnpaddedImages
from lightning_seg.losses.engine.interface import ClassSums
from lightning_seg.metrics import PixelMean
from lightning_seg.metrics.calibration import LEVELS, best_threshold, level_counts


class Evaluation(nn.Module):
    """Gathers batches of an evaluation, in this process, for all processes: of each its parts, and then its end.

    The loss is that of all valid pixels as one batch where it is a function of sums over pixels, and else the mean over
    the parts of batches, each weighted by its valid pixels. `counts` holds, after an evaluation, its images and valid
    pixels.
    """

    def __init__(self) -> None:
        super().__init__()
        self.images = UnpaddedImages()
        self.mean = PixelMean()
        self._sums: ClassSums | None = None
        self._undefined: list[tuple[list[Any], Tensor]] = []
        self._levels = torch.zeros(2, LEVELS, dtype=torch.int64)
        self._images = 0
        self._pixels: list[Tensor] = []
        self._is_nan: list[Tensor] = []  # of the parts of a batch
        self.counts = (0, 0)

    def reset(self) -> None:
        """Starts an evaluation; one before may have been interrupted."""
        self.images.reset()
        self.mean.reset()
        self._levels = torch.zeros(2, LEVELS, dtype=torch.int64)
        self._sums, self._undefined, self._images, self._pixels, self._is_nan = None, [], 0, [], []

    def add(
        self,
        logits: Tensor,
        target: Tensor,
        *,
        summed: Callable[[Tensor, Tensor], ClassSums | None] | None,
        compute_loss: Callable[[Tensor, Tensor], Tensor],
        ignore_index: int | None,
    ) -> None:
        """Adds the images of a batch that count, of which there may be none, or a part of each.

        Args:
            logits: `(N, num_classes, *spatial)`.
            target: the mask.
            summed: the sums over pixels that the loss is a function of, as `Loss.summed`; None if it is not.
            compute_loss: the loss of the batch, or part, called where there are no sums.
            ignore_index: the label of void pixels.
        """
        with torch.autocast(logits.device.type, enabled=False):
            sums = None if summed is None else summed(logits, target)
        if sums is not None:  # of no images, too: all processes then have sums to add
            self._sums = sums if self._sums is None else self._sums + sums
        if len(logits) == 0:
            return
        self._is_nan.append(logits.amax().isnan())
        valid = torch.as_tensor(target.numel()) if ignore_index is None else (target != ignore_index).sum()
        self._pixels.append(_pixels(target, logits.ndim, ignore_index))
        if sums is None:
            self.mean.update(compute_loss(logits, target), valid)

    @property
    def has_sums(self) -> bool:
        """Whether the loss is a function of the sums that were added."""
        return self._sums is not None

    def end_batch(self, images: int, names: Sequence[Any]) -> None:
        """Ends a batch, all parts of which were added.

        Args:
            images: how many of it count.
            names: theirs, if they have any.
        """
        self._images += images
        if self._is_nan:
            self._undefined.append((list(names), torch.stack(self._is_nan).any()))
            self._is_nan = []

    def add_levels(self, probabilities: Tensor, target: Tensor, ignore_index: int | None) -> None:
        """Adds the images of a batch of the binary task to what the best threshold is found from."""
        valid = torch.ones_like(target, dtype=torch.bool) if ignore_index is None else target != ignore_index
        self._levels = self._levels + level_counts(probabilities.float(), target, valid)

    def best_threshold(self, strategy: Strategy) -> float:
        """The threshold of the highest Dice, of the images of all processes."""
        return best_threshold(strategy.reduce(self._levels.to(strategy.root_device), reduce_op="sum").cpu())

    def loss(self, from_summed: Callable[[ClassSums], Tensor] | None, strategy: Strategy) -> Tensor:
        """The loss of the evaluation, of all processes.

        Args:
            from_summed: the loss of sums, as `Loss.from_summed`.
            strategy: what joins the processes.
        """
        if self._sums is None or from_summed is None:
            mean: Tensor = self.mean.compute()
            self.mean.reset()
            return mean
        sums = self._sums.map(lambda part: strategy.reduce(part, reduce_op="sum"))
        self._sums = None
        return from_summed(sums).float()

    def count(self, strategy: Strategy) -> None:
        """Sets `counts`: how many images, and pixels with a valid label, were scored, by all processes."""
        own = [self._images, sum(int(valid) for valid in self._pixels)]
        total = strategy.reduce(torch.tensor(own, device=strategy.root_device), reduce_op="sum")
        self.counts, self._images, self._pixels = (int(total[0]), int(total[1])), 0, []

    def check_defined(self, stage: str, strategy: Strategy) -> None:
        """Refuses scores of NaN, whose largest logit would be that of class 0.

        Raises:
            FloatingPointError: some logits of the evaluation were NaN, in this process or another.
        """
        seen, self._undefined = self._undefined, []
        flags = torch.stack([flag for _, flag in seen]).cpu().tolist() if seen else []
        undefined = [names for (names, _), is_nan in zip(seen, flags, strict=True) if is_nan]
        batches = torch.tensor([len(undefined), len(seen)], device=strategy.root_device)
        found, total = strategy.reduce(batches, reduce_op="sum").tolist()
        if found:
            first = f", first those of {', '.join(map(str, undefined[0]))}" if undefined and undefined[0] else ""
            raise FloatingPointError(
                f"the logits of {found} of {total} {stage} batches are NaN{first}: no score is computed from them. "
                "The weights or these images are not finite."
            )


def _pixels(target: Tensor, axes: int, ignore_index: int | None) -> Tensor:
    """How many pixels of a target have a valid label, one of several where it has the axes of the logits."""
    has_several = target.ndim == axes
    if ignore_index is None:
        return torch.as_tensor(target.numel() // (target.shape[1] if has_several else 1))
    is_valid = target != ignore_index
    return (is_valid.any(1) if has_several else is_valid).sum()
