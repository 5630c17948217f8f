"""Lovász losses: the convex surface over the Jaccard index, by sorting the errors."""

from collections.abc import Iterable

import torch
from torch import Tensor

from lightning_seg.losses.loss import Classes, Loss
from lightning_seg.losses.pixels import Task
from lightning_seg.losses.reduction import mean_over_classes
from lightning_seg.losses.statistics import Statistics


class LovaszSoftmaxLoss(Loss):
    """Lovász-Softmax (Berman et al. 2018, https://arxiv.org/abs/1705.08790, equations 8 to 12).

        mean over classes c of the Lovász extension of the Jaccard loss at
        e_i = 1 - p_{i,c} where the label is c, else p_{i,c}        p = softmax(logits), or sigmoid for each channel

    At p in {0, 1} it is one minus the class's Jaccard index. It trains badly alone from scratch: add cross-entropy.
    It sorts every class, and needs about the memory of 14 float32 copies of the logits, where cross-entropy needs 4.

    Shapes: logits (N, C, *spatial), target labels (N, *spatial) if multiclass, else 0 and 1 in the logits' shape; the
    result is a scalar.
    Void pixels are left out of the order; a batch of them alone gives 0.
    Absent classes are left out with classes="present"; with "all" their loss is the largest p of any pixel.
    Soft targets are refused: the Jaccard loss is of sets.

    Args:
        classes: present, all, or a list of the class indices that count, present or not.
        per_image: average the losses of the images, each over its own classes, rather than join their pixels.
        task: see `Loss`, as all that follow.
        ignore_index: the label of void pixels.
        class_weights: one number for each class, a weight in the mean over them; not in the binary task.
        sync_dist: refused if true: joining the pixels of all processes would need them in one place.

    Raises:
        ValueError: sync_dist is true, or as `Loss` says.
    """

    def __init__(
        self,
        *,
        classes: Classes = "present",
        per_image: bool = False,
        task: Task = "multiclass",
        ignore_index: int | None = None,
        class_weights: Iterable[float] | None = None,
        sync_dist: bool = False,
    ) -> None:
        super().__init__(
            task=task,
            ignore_index=ignore_index,
            class_weights=class_weights,
            classes=classes,
            per_image=per_image,
        )
        _refuse_sync(self, sync_dist)

    def from_statistics(self, statistics: Statistics) -> Tensor:
        """The loss; called with autocast off."""
        labels, probabilities = statistics.pixels.labels, statistics.probabilities
        assert labels is not None
        if self.task == "multiclass":
            index = labels.unsqueeze(1)
            errors = probabilities.scatter(1, index, 1 - probabilities.gather(1, index))
        else:
            errors = torch.where(labels == 1, 1 - probabilities, probabilities)
        return _mean_of_extensions(self, errors, statistics)


class LovaszHingeLoss(Loss):
    """Lovász hinge (Yu and Blaschko 2015, https://arxiv.org/abs/1512.07797) of the binary and multilabel tasks.

        mean over classes of the Lovász extension of the Jaccard loss at
        e_i = 1 - z_i where the label is 1, else 1 + z_i            z = logits

    It reads the logits themselves: a pixel costs nothing beyond a margin of 1, and without bound on the wrong side.

    Shapes: logits and target, 0 and 1, (N, C, *spatial), if binary with or without a channel of 1; the result is a
    scalar.
    Void pixels are left out of the order; a batch of them alone gives 0.
    Absent classes count with classes="all": their loss is the largest error of any pixel. "present" leaves them out.
    Soft targets are refused: the Jaccard loss is of sets.

    Args:
        classes: all, present, or a list of the class indices that count, present or not.
        per_image: average the losses of the images, each over its own classes, rather than join their pixels.
        task: binary or multilabel.
        ignore_index: the label of void pixels; see `Loss`, as all that follow.
        class_weights: one number for each class, a weight in the mean over them; not in the binary task.
        sync_dist: refused if true: joining the pixels of all processes would need them in one place.

    Raises:
        ValueError: the task is multiclass, sync_dist is true, or as `Loss` says.
    """

    def __init__(
        self,
        *,
        classes: Classes = "all",
        per_image: bool = True,
        task: Task = "binary",
        ignore_index: int | None = None,
        class_weights: Iterable[float] | None = None,
        sync_dist: bool = False,
    ) -> None:
        super().__init__(
            task=task,
            ignore_index=ignore_index,
            class_weights=class_weights,
            classes=classes,
            per_image=per_image,
        )
        _refuse_sync(self, sync_dist)
        if task == "multiclass":
            raise ValueError(
                "LovaszHingeLoss is for task='binary' or 'multilabel'; for multiclass use LovaszSoftmaxLoss."
            )

    def from_statistics(self, statistics: Statistics) -> Tensor:
        """The loss; called with autocast off."""
        labels, logits = statistics.pixels.labels, statistics.pixels.logits
        assert labels is not None
        return _mean_of_extensions(self, 1 - torch.where(labels == 1, logits, -logits), statistics)


def _refuse_sync(loss: Loss, sync_dist: bool) -> None:
    if sync_dist:
        raise ValueError(
            f"{type(loss).__name__} sorts the pixels of one process and cannot take sync_dist=True; use False."
        )


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
    if not loss.per_image:
        errors, labels, valid_count = _batch_as_one(errors), _batch_as_one(labels), valid_count.sum(0, keepdim=True)

    errors, order = errors.sort(-1, descending=True)
    foreground = (labels.expand_as(order).gather(-1, order) == label) & (errors > -torch.inf)
    extensions = (errors.relu() * _jaccard_steps(foreground, errors.dtype)).sum(-1)
    counted = loss.counted_classes(foreground.any(-1), valid_count)
    return mean_over_classes(extensions, counted, loss.weights_for(statistics), loss.per_image, sync=False)


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
