"""Lovász losses: the convex surface over the Jaccard index, from histograms of the errors or by sorting them."""

from abc import abstractmethod
from typing import Literal, Unpack, get_args

import torch
from torch import Tensor

from lightning_seg.losses.engine.distributed import join_processes
from lightning_seg.losses.engine.interface import Errors, Requirements
from lightning_seg.losses.engine.jaccard_integrals import jaccard_integrals
from lightning_seg.losses.engine.reduction import mean_over_classes, sum_if
from lightning_seg.losses.engine.statistics import Statistics
from lightning_seg.losses.loss import Loss
from lightning_seg.losses.options import Classes, HingeOptions, LossOptions
from lightning_seg.task import Task

Method = Literal["histogram", "sort"]


class LovaszLoss(Loss):
    """The Lovász extension of the Jaccard loss at some errors; a subclass writes `error_map`.

    Args:
        classes: present, all, or a list of the class indices that count, present or not.
        per_image: average the losses of the images, each over its own classes, rather than join their pixels.
        method: histogram or sort.
        options: see `Loss`.

    Raises:
        ValueError: method is neither, or as `Loss` says.
    """

    sums_suffice = True
    errors: Errors

    @abstractmethod
    def error_map(self, statistics: Statistics) -> Tensor:
        """The error of each pixel and class, (N, C, S), with any value at void pixels."""

    def from_statistics(self, statistics: Statistics) -> Tensor:
        """The loss; called with autocast off."""
        if self.method == "histogram":
            return _mean_of_integrals(self, self.errors, statistics)
        return _mean_of_extensions(self, self.error_map(statistics), statistics)

    def __init__(
        self,
        *,
        classes: Classes = "present",
        per_image: bool = False,
        method: Method = "histogram",
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(classes=classes, per_image=per_image, **options)
        if method not in get_args(Method):
            raise ValueError(f"method={method!r} is neither histogram nor sort.")
        self.method = method

    @property
    def requires(self) -> Requirements:
        """The histogram of its errors, unless it sorts them."""
        if self.method == "sort":
            return Requirements(log_probabilities=False)
        return Requirements(errors=self.errors, errors_per_image=self.per_image, log_probabilities=False)

    @property
    def of_sums(self) -> bool:
        """Whether it takes histograms, which add, and of the whole batch."""
        return self.method == "histogram" and super().of_sums


class LovaszSoftmaxLoss(LovaszLoss):
    """Lovász-Softmax (Berman et al. 2018, https://arxiv.org/abs/1705.08790, equations 8 to 12).

        mean over classes c of the Lovász extension of the Jaccard loss at
        e_i = 1 - p_{i,c} where the label is c, else p_{i,c}        p = softmax(logits), or sigmoid for each channel

    At p in {0, 1} it is one minus the class's Jaccard index. Alone it wants a higher learning rate than
    cross-entropy; beside it, as in `ce_lovasz`, the same.

    The extension is the integral over t of the Jaccard loss of the pixels with an error above t. method="histogram"
    takes it from the counts of errors in 4096 bins, in time linear in the pixels and in one pass with all other terms
    of a compound. On the outputs of a network trained on CamVid it differs from sorting in float64 by 3e-7 of the value
    and 2e-4 of the gradient (L2; per image 3e-4), and by 1e-4 on random logits. method="sort" is exact, sorts every
    class, and needs about the memory of 14 float32 copies of the logits. Both give an absent class's loss to its
    largest errors: sorting to one pixel, the histogram to all in the highest bin that is not empty.

    Shapes: logits (N, C, *spatial), target labels (N, *spatial) if multiclass, else 0 and 1 in the logits' shape; the
    result is a scalar.
    Void pixels are left out of the order; a batch of them alone gives 0.
    Absent classes are left out with classes="present"; with "all" their loss is the largest p of any pixel.
    Soft targets are refused: the Jaccard loss is of sets.

    Args:
        classes: present, all, or a list of the class indices that count, present or not.
        per_image: average the losses of the images, each over its own classes, rather than join their pixels.
        task: multiclass, multilabel or binary.
        ignore_index: the label of void pixels.
        class_weights: one number for each class, a weight in the mean over them; not in the binary task.
        sync_dist: over all processes; the histograms add, while "sort" sends every error to every process.
        method: histogram or sort.

    Raises:
        ValueError: method is neither, or as `Loss` says.
    """

    errors = "probability"

    def error_map(self, statistics: Statistics) -> Tensor:
        """1 - p where the label is the class, else p."""
        labels, probabilities = statistics.pixels.labels, statistics.probabilities
        assert labels is not None
        if self.task == "multiclass":
            index = labels.unsqueeze(1)
            return probabilities.scatter(1, index, 1 - probabilities.gather(1, index))
        return torch.where(labels == 1, 1 - probabilities, probabilities)


class LovaszHingeLoss(LovaszLoss):
    """Lovász hinge (Yu and Blaschko 2015, https://arxiv.org/abs/1512.07797) of the binary and multilabel tasks.

        mean over classes of the Lovász extension of the Jaccard loss at
        e_i = 1 - z_i where the label is 1, else 1 + z_i            z = logits

    It reads the logits themselves: a pixel has no loss beyond a margin of 1, and an unbounded one on the wrong side.
    method="histogram" is as in `LovaszSoftmaxLoss`, with 2048 bins in each octave of 1 + e, up to e = 4095, which
    larger errors count as. On the outputs of a network trained on CamVid it differs from sorting in float64 by 1e-7 of
    the value and 5e-4 of the gradient (L2; over the batch and 11 channels 1e-3). method="sort" is exact.

    Shapes: logits and target, 0 and 1, (N, C, *spatial), if binary with or without a channel of 1; the result is a
    scalar.
    Void pixels are left out of the order; a batch of them alone gives 0.
    Absent classes count with classes="all": their loss is the largest error of any pixel. "present" leaves them out.
    Soft targets are refused: the Jaccard loss is of sets.

    Args:
        classes: all, present, or a list of the class indices that count, present or not.
        per_image: average the losses of the images, each over its own classes, rather than join their pixels.
        task: binary or multilabel.
        ignore_index: the label of void pixels.
        class_weights: one number for each class, a weight in the mean over them; not in the binary task.
        sync_dist: over all processes; the histograms add, while "sort" sends every error to every process.
        method: histogram or sort.

    Raises:
        ValueError: the task is multiclass, method is neither histogram nor sort, or as `Loss` says.
    """

    errors = "margin"

    def error_map(self, statistics: Statistics) -> Tensor:
        """1 - z where the label is 1, else 1 + z."""
        labels, logits = statistics.pixels.labels, statistics.pixels.logits
        assert labels is not None
        return 1 - torch.where(labels == 1, logits, -logits)

    def __init__(
        self,
        *,
        classes: Classes = "all",
        per_image: bool = True,
        task: Task = "binary",
        **options: Unpack[HingeOptions],
    ) -> None:
        if task == "multiclass":
            raise ValueError(
                "LovaszHingeLoss is for task='binary' or 'multilabel'; for multiclass use LovaszSoftmaxLoss."
            )
        super().__init__(classes=classes, per_image=per_image, task=task, **options)


def _mean_of_integrals(loss: Loss, errors: Errors, statistics: Statistics) -> Tensor:
    """The mean over classes of ∫ J(F(t), B(t)) dt, with F and B from the histogram of the errors."""
    sums, counts = statistics.error_histogram(errors, loss.per_image)
    present, valid_count = statistics.target_sum, statistics.valid_count
    if not loss.per_image:
        sums, counts = sum_if(loss.syncs, sums), sum_if(loss.syncs, counts)
        present, valid_count = sum_if(loss.syncs, torch.stack([present, valid_count]).sum(1, keepdim=True))
    integrals, _ = jaccard_integrals(sums, counts, present.detach(), statistics.pixels.raw_logits.numel())
    # A NaN among the logits must show, and a bin of integers cannot hold it.
    extensions = integrals + 0 * statistics.probability_sum.detach().sum()
    counted = loss.counted_classes(present > 0, valid_count)
    weights = loss.weights_for(statistics)
    return mean_over_classes(extensions, counted, weights, loss.per_image, loss.syncs).to(statistics.pixels.dtype)


def _mean_of_extensions(loss: Loss, errors: Tensor, statistics: Statistics) -> Tensor:
    """The mean over classes of the Lovász extension at `errors`, (N, C, S), with any value at void pixels.

    With the errors of a class in falling order, e_1 ≥ e_2 ≥ …, and J_k the Jaccard loss of getting exactly the first k
    of these pixels wrong, the extension is Σ_k max(e_k, 0)·(J_k - J_{k-1}).
    """
    pixels, labels = statistics.pixels, statistics.pixels.labels
    assert labels is not None
    valid, valid_count, label = pixels.valid, statistics.valid_count, torch.ones(1, device=errors.device)
    if pixels.task == "multiclass":
        labels, valid = labels.unsqueeze(1), valid.unsqueeze(1)
        label = torch.arange(pixels.num_classes, device=errors.device).unsqueeze(1)
    # Void pixels come last in the order, where they change the Jaccard loss of no other, and are cut off at 0.
    errors = errors.masked_fill(~valid, -torch.inf)
    is_own = labels == label
    if not loss.per_image:
        errors, is_own = _batch_as_one(errors), _batch_as_one(is_own)
        valid_count = sum_if(loss.syncs, valid_count.sum(0, keepdim=True))
        if loss.syncs:
            errors = join_processes(errors, -torch.inf)
            is_own = join_processes(is_own, False)

    errors, order = errors.sort(-1, descending=True)
    foreground = is_own.expand_as(order).gather(-1, order) & (errors > -torch.inf)
    extensions = (errors.relu() * _jaccard_steps(foreground, errors.dtype)).sum(-1)
    counted = loss.counted_classes(foreground.any(-1), valid_count)
    return mean_over_classes(extensions, counted, loss.weights_for(statistics), loss.per_image, loss.syncs)


def _batch_as_one(values: Tensor) -> Tensor:
    return values.transpose(0, 1).flatten(1).unsqueeze(0)


@torch.no_grad()
def _jaccard_steps(foreground: Tensor, dtype: torch.dtype) -> Tensor:
    """J_k - J_{k-1} along the last dimension of the ordered pixels' 0/1 foreground.

    With G foreground pixels, and F and B the foreground and background among the first k, J_k = 1 - (G - F) / (G + B).
    The differences are written out, because subtracting nearly equal float32 numbers would leave few digits of them.
    """
    # int32 halves the memory, and a batch has fewer than 2³¹ pixels.
    found = foreground.cumsum(-1, dtype=torch.int32)
    total = foreground.sum(-1, keepdim=True, dtype=torch.int32)
    position = torch.arange(1, foreground.shape[-1] + 1, dtype=torch.int32, device=foreground.device)
    union = (total + position - found).to(dtype)
    of_background = (total - found).to(dtype) / (union * (union - 1).clamp(min=1))
    steps = torch.where(foreground, 1 / union, of_background)
    return torch.where(total > 0, steps, (position == 1).to(dtype))
