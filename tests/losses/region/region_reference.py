"""What the tests of region losses compare with: class sums by boolean indexing, and the mean of a formula of them."""

from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import Tensor, nn

WEIGHTS = [1.0, 0.5, 2.0, 0.25]
TASKS = ("multiclass", "multilabel", "binary")

Formula = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""The loss of a class with TP, P, T and a number of valid pixels."""


def batch(task: str, images: int = 3, void: bool = True) -> tuple[Tensor, Tensor]:
    """Logits and labels, some of them void (255)."""
    generator = torch.Generator().manual_seed(0)
    channels = 1 if task == "binary" else 4
    logits = 2 * torch.randn(images, channels, 6, 5, generator=generator, dtype=torch.float64)
    shape = (images, 6, 5) if task == "multiclass" else logits.shape
    target = torch.randint(0, 4 if task == "multiclass" else 2, shape, generator=generator)
    if void:
        target[torch.rand(shape, generator=generator) < 0.3] = 255
    return logits, target


def class_sums(logits: Tensor, target: Tensor, task: str) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """TP, P, T and the number of valid pixels of each class, over the pixels that are not 255."""
    probabilities = logits.softmax(1) if task == "multiclass" else logits.sigmoid()
    sums = []
    for label in range(logits.shape[1]):
        labels = target if task == "multiclass" else target[:, label]
        valid = labels != 255
        p = probabilities[:, label][valid]
        t = (labels[valid] == (label if task == "multiclass" else 1)).double()
        sums.append((p[t == 1].sum(), p.sum(), t.sum(), torch.tensor(float(len(p)), dtype=torch.float64)))
    return sums


def macro(formula: Formula, logits: Tensor, target: Tensor, task: str, class_weights=None, classes=None) -> Tensor:
    """The weighted mean of a formula over the classes of the batch."""
    losses = torch.stack([formula(*sums) for sums in class_sums(logits, target, task)])
    factors = torch.tensor(class_weights or [1.0] * len(losses), dtype=torch.float64)
    chosen = list(range(len(losses)) if classes is None else classes)
    return (losses * factors)[chosen].sum() / factors[chosen].sum()


def micro(formula: Formula, logits: Tensor, target: Tensor, task: str, class_weights=None, classes=None) -> Tensor:
    """A formula of the weighted sums over classes."""
    sums = class_sums(logits, target, task)
    chosen: Iterable[int] = range(len(sums)) if classes is None else classes
    return formula(*(sum((class_weights[c] if class_weights else 1.0) * sums[c][k] for c in chosen) for k in range(4)))


def value_and_gradient(loss: Callable[..., Tensor], logits: Tensor, *others: Tensor) -> tuple[Tensor, Tensor]:
    logits = logits.detach().clone().requires_grad_()
    value = loss(logits, *others)
    (gradient,) = torch.autograd.grad(value, logits)
    return value.detach(), gradient


def assert_equal(ours: Callable[[Tensor], Tensor], theirs: Callable[[Tensor], Tensor], logits: Tensor, **tolerances):
    """Two functions of logits have the same value and the same gradient."""
    for mine, other in zip(value_and_gradient(ours, logits), value_and_gradient(theirs, logits), strict=True):
        torch.testing.assert_close(mine, other.to(mine.dtype), **tolerances)


def assert_is_formula(make: Callable[..., nn.Module], formula: Formula) -> None:
    """A region loss is a formula of the class sums: of each class and of their sums, of the batch and of each image."""
    for task in TASKS:
        logits, target = batch(task)
        options = {"task": task, "ignore_index": 255}
        variants = [{}] if task == "binary" else [{}, {"class_weights": WEIGHTS}, {"classes": [3, 1]}]
        for variant in variants:
            for average, reference in (("macro", macro), ("micro", micro)):
                loss = make(average=average, **options, **variant)
                theirs = partial(reference, formula, target=target, task=task, **variant)
                assert_equal(partial(loss, target=target), theirs, logits)
        loss = make(per_image=True, **options)
        theirs = partial(mean_of_images, partial(macro, formula, task=task), target=target)
        assert_equal(partial(loss, target=target), theirs, logits)


def mean_of_images(loss: Callable[..., Tensor], logits: Tensor, target: Tensor) -> Tensor:
    """The mean of a loss over batches of one image."""
    singles = [loss(logits[i : i + 1], target=target[i : i + 1]) for i in range(len(logits))]
    return torch.stack(singles).mean()
