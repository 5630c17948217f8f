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
    """Gathers batches of an evaluation, in this process, for all processes.

    The loss is that of all valid pixels as one batch where it is a function of sums over pixels, and else the mean over
    the batches, each weighted by its valid pixels. `counts` holds, after an evaluation, its images and valid pixels.
    """

    def __init__(self) -> None:
        super().__init__()
        self.images = UnpaddedImages()
        self.mean = PixelMean()
        self._sums: ClassSums | None = None
        self._undefined: list[tuple[list[Any], Tensor]] = []
        self._levels = torch.zeros(2, LEVELS, dtype=torch.int64)
        self._counts: list[tuple[int, Tensor]] = []
        self.counts = (0, 0)

    def reset(self) -> None:
        """Starts an evaluation; one before may have been interrupted."""
        self.images.reset()
        self.mean.reset()
        self._levels = torch.zeros(2, LEVELS, dtype=torch.int64)
        self._sums, self._undefined, self._counts = None, [], []

    def add(
        self,
        logits: Tensor,
        target: Tensor,
        names: Sequence[Any],
        *,
        summed: Callable[[Tensor, Tensor], ClassSums | None] | None,
        compute_loss: Callable[[Tensor, Tensor], Tensor],
        ignore_index: int | None,
    ) -> None:
        """Adds the images of a batch that count, of which there may be none.

        Args:
            logits: `(N, num_classes, *spatial)`.
            target: the mask.
            names: of the images, if they have any.
            summed: the sums over pixels that the loss is a function of, as `Loss.summed`; None if it is not.
            compute_loss: the loss of the batch, called where there are no sums.
            ignore_index: the label of void pixels.
        """
        with torch.autocast(logits.device.type, enabled=False):
            sums = None if summed is None else summed(logits, target)
        if sums is not None:  # of no images, too: all processes then have sums to add
            self._sums = sums if self._sums is None else self._sums + sums
        if len(logits) == 0:
            return
        self._undefined.append((list(names), logits.amax().isnan()))
        valid = torch.as_tensor(target.numel()) if ignore_index is None else (target != ignore_index).sum()
        self._counts.append((len(logits), valid))
        if sums is None:
            self.mean.update(compute_loss(logits, target), valid)

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
        """Sets `counts`: how many images, and valid pixels of their masks, were scored, by all processes."""
        images, pixels = sum(number for number, _ in self._counts), sum(int(valid) for _, valid in self._counts)
        total = strategy.reduce(torch.tensor([images, pixels], device=strategy.root_device), reduce_op="sum")
        self.counts, self._counts = (int(total[0]), int(total[1])), []

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
