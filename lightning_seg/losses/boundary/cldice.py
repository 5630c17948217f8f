"""Soft clDice loss."""

import math
from collections.abc import Callable, Iterator
from functools import reduce
from itertools import islice
from typing import Any, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from lightning_seg.losses.boundary.distance_loss import target_mask
from lightning_seg.losses.engine.block_threads import map_blocks
from lightning_seg.losses.engine.reduction import mean_over_classes, ratio, sum_if
from lightning_seg.losses.engine.statistics import Statistics
from lightning_seg.losses.loss import Loss, not_negative
from lightning_seg.losses.options import ClassOptions


class SoftClDiceLoss(Loss):
    """One minus the Dice of centerlines (Shit et al. 2021, https://arxiv.org/abs/2003.07311).

        1 - 2·P·R / (P + R)        P = (Σ S(p)·t + s) / (Σ S(p) + s)        R = (Σ S(t)·p + s) / (Σ S(t) + s)

    over the valid pixels of the batch, or of each image, and then the mean over the classes; p is the softmax or
    sigmoid of the logits, t is 1 where the label is the class, and S is the `soft_skeleton`. P says how much of the
    prediction's skeleton lies within the target and R how much of the target's skeleton is predicted, so that a gap in
    a vessel counts the same whatever the vessel's width. It says little about where outlines run; the authors add Dice.

    Shapes: logits (N, C, *spatial) with up to three spatial dimensions, target labels (N, *spatial) if multiclass,
    else 0 and 1 in the logits' shape; the result is a scalar.
    Void pixels enter none of the sums, and skeletons end at them as at the border of the image: neither is background.
    A batch of them alone gives 0.
    Absent classes count with classes="all": then R = 1 and P = s / (Σ S(p) + s), so that false positives are
    penalized. With "present" those absent from the batch, or image, are left out of the mean. A class with no
    skeleton, predicted or true, has loss 0. The topology of the background is seldom of interest: leave it out by
    `classes`.
    Soft targets are refused.
    Cost: d + 1 poolings an iteration, in d dimensions, of maps in the logits' size; on the CPU of one image and class
    after the other, and again for the gradient, which keeps few of them: with 4 classes of one image the peak is 12
    times the memory of the logits with 3 iterations, 13 with 10 and 23 with 30, gradient included. torch.compile keeps
    all maps: 67 and 165 times with 3 and 10.
    In three dimensions on CUDA the backward pass of the pooling adds in no fixed order, so results may differ in the
    last digits.

    Args:
        iterations: of the skeleton, 1 or more; at least the greatest radius in pixels of the structures, since of wider
            ones the skeleton is not thin. More only take time.
        smooth: s ≥ 0, added once to both sides of P and R.
        classes: all, present, or a list of the class indices that count.
        task: multiclass, multilabel or binary.
        ignore_index: the label of void pixels.
        class_weights: one number for each class, a weight in the mean; not in the binary task.
        per_image: average over images rather than take the sums over the batch.
        sync_dist: over all processes.

    Raises:
        TypeError: the target is soft.
        ValueError: iterations or smooth is out of range, the images have more than three dimensions, or as `Loss` says.
    """

    def from_statistics(self, statistics: Statistics) -> Tensor:
        """The loss; called with autocast off."""
        pixels = statistics.pixels
        present, valid_count = self._over_group(torch.stack([statistics.target_sum, statistics.valid_count]))
        counted = self.counted_classes(present > 0, valid_count)
        weights = self.weights_for(statistics)
        # Skeletons are expensive, so none is made of a class that is left out.
        chosen = list(self.classes) if isinstance(self.classes, tuple) else slice(None)
        spatial = pixels.spatial or (1,)
        valid = pixels.valid.unsqueeze(1) if self.task == "multiclass" else pixels.valid
        probabilities, target, valid = (
            values.expand_as(statistics.probabilities)[:, chosen].reshape(len(values), -1, *spatial)
            for values in (statistics.probabilities, target_mask(pixels), valid)
        )
        probabilities, target = probabilities.where(valid, 0), target & valid
        skeleton = soft_skeleton(probabilities, valid, self.iterations)
        target_skeleton = soft_skeleton(target.to(probabilities.dtype), valid, self.iterations)
        images = (skeleton.where(target, 0), skeleton, target_skeleton * probabilities, target_skeleton)
        within, length, found, target_length = self._over_group(
            torch.stack([image.flatten(2).sum(-1, dtype=statistics.sum_dtype) for image in images])
        )
        precision = ratio(within + self.smooth, length + self.smooth, empty=1.0)
        recall = ratio(found + self.smooth, target_length + self.smooth, empty=1.0)
        cldice = ratio(2 * precision * recall, precision + recall)
        weights = None if weights is None else weights[chosen]
        loss = mean_over_classes(1 - cldice, counted[:, chosen], weights, self.per_image, self.syncs)
        return loss.to(probabilities.dtype)

    def __init__(self, *, iterations: int = 3, smooth: float = 1.0, **options: Unpack[ClassOptions]) -> None:
        super().__init__(**options)
        if isinstance(iterations, bool) or not isinstance(iterations, int) or iterations < 1:
            raise ValueError(f"iterations={iterations!r} is not an integer of 1 or more.")
        self.iterations = iterations
        self.smooth = not_negative(smooth, "smooth")

    def _over_group(self, sums: Tensor) -> Tensor:
        """Sums over images, (…, N, C), as they are if per image, else over the batch."""
        return sums if self.per_image else sum_if(self.syncs, sums.sum(-2, keepdim=True))


def soft_skeleton(image: Tensor, valid: Tensor, iterations: int) -> Tensor:
    """The centerlines of an image of values from 0 to 1: S(x) of Shit et al. 2021, Algorithm 1.

    What an opening removes, gathered while the image is eroded once an iteration. Erosion takes the least of a pixel
    and its neighbors along the axes, dilation the greatest of the 3 × 3 (× 3) around it, as the authors' program does.
    Pixels out of the image, and those not valid, are neutral in both.

    Args:
        image: (N, C, *spatial), one to three spatial dimensions; 0 where not valid.
        valid: bool, in the same shape.
        iterations: how often the image is eroded.

    Returns:
        In the same shape, from 0 to 1; 0 where not valid.

    Raises:
        ValueError: not one to three spatial dimensions.
    """
    if image.ndim - 2 not in _POOLS:
        raise ValueError(f"skeletons need one to three dimensions, but got spatial shape {tuple(image.shape[2:])}.")
    if torch.compiler.is_compiling():
        *_, (_, skeleton) = _steps(image, torch.zeros_like(image), valid, 1 + iterations)
    else:
        skeleton = _SoftSkeleton.apply(image, valid, iterations)
    return skeleton


class _SoftSkeleton(torch.autograd.Function):
    """The skeleton, of which no map of an iteration is kept for the gradient."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, valid: Tensor, iterations: int) -> Tensor:
        ctx.save_for_backward(image, valid)
        ctx.count = 1 + iterations
        result = torch.empty_like(image)

        def write(row: Row) -> None:
            *_, (_, result[row]) = _steps(image[row], torch.zeros_like(image[row]), valid[row], ctx.count)

        map_blocks(write, _rows(image), image.device)
        return result

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        image, valid = ctx.saved_tensors
        result = torch.empty_like(image)

        def write(row: Row) -> None:
            result[row] = _gradient(gradient[row], image[row], valid[row], ctx.count)

        map_blocks(write, _rows(image), image.device)
        return result, None, None


Row = tuple[slice, slice]


def _rows(image: Tensor) -> list[Row]:
    """One image and class after the other on the CPU, where its maps stay in the cache; all at once elsewhere."""
    if image.device.type != "cpu":
        return [(slice(None), slice(None))]
    return [(slice(n, n + 1), slice(c, c + 1)) for n in range(image.shape[0]) for c in range(image.shape[1])]


def _steps(image: Tensor, skeleton: Tensor, valid: Tensor, count: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The image, eroded, and the skeleton so far: at first, and after each of so many steps."""
    yield image, skeleton
    for _ in range(count):
        eroded = _eroded(image, valid)
        ridge = _ridge(image, eroded, valid)
        image, skeleton = eroded, skeleton + ridge * (1 - skeleton)
        yield image, skeleton


def _gradient(gradient: Tensor, image: Tensor, valid: Tensor, count: int) -> Tensor:
    """The gradient of the image from that of the skeleton.

    Of the steps, every √count-th is kept, and those between are taken again: memory grows with the root of their
    number, and time is that of two passes forward and one back.
    """
    length = math.isqrt(count - 1) + 1
    starts = list(islice(_steps(image, torch.zeros_like(image), valid, count), 0, count, length))
    of_skeleton, of_eroded = gradient, torch.zeros_like(image)
    for index in reversed(range(len(starts))):
        steps = list(_steps(*starts.pop(), valid, min(length, count - index * length) - 1))
        while steps:
            before, skeleton = steps.pop()
            with torch.enable_grad():
                before = before.detach().requires_grad_()
                eroded = _eroded(before, valid)
                ridge = _ridge(before, eroded, valid)
                of_ridge = of_skeleton * (1 - skeleton)
                (of_before,) = torch.autograd.grad([ridge, eroded], [before], [of_ridge, of_eroded])
            of_skeleton, of_eroded = of_skeleton * (1 - ridge.detach()), of_before
    return of_eroded


_POOLS: dict[int, Callable[..., Tensor]] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


def _eroded(image: Tensor, valid: Tensor) -> Tensor:
    """The least of each pixel and its neighbors along the axes; 0 where not valid."""
    dimensions = image.ndim - 2
    # Above every value, so that no void pixel is the least.
    negative = -image.where(valid, 2)
    pooled = []
    for axis in range(dimensions):
        along = [int(dimension == axis) for dimension in range(dimensions)]
        pooled.append(_POOLS[dimensions](negative, [1 + 2 * step for step in along], 1, along))
    return -reduce(torch.maximum, pooled).where(valid, 0)


def _ridge(image: Tensor, eroded: Tensor, valid: Tensor) -> Tensor:
    """What the opening removes, the dilation of the eroded image; 0 where not valid."""
    # Below every value, so that no void pixel is the greatest.
    opened = _POOLS[image.ndim - 2](eroded.where(valid, -1), 3, 1, 1)
    return F.relu(image - opened).where(valid, 0)
