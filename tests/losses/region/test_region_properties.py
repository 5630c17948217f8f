"""What holds for every loss of the class sums TP, P, T and the number of valid pixels, beside what every loss does."""

from collections.abc import Callable
from itertools import product
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from region_reference import TASKS, value_and_gradient
from torch import Tensor, nn

from lightning_seg.losses import (
    DiceLoss,
    FocalTverskyLoss,
    GeneralizedDiceLoss,
    JaccardLoss,
    LogCoshDiceLoss,
    MCCLoss,
    TverskyLoss,
)


class Case(NamedTuple):
    make: Callable[..., nn.Module]
    options: dict


CASES = {
    "dice": Case(DiceLoss, {}),
    "jaccard": Case(JaccardLoss, {}),
    "jaccard squared": Case(JaccardLoss, {"squared": True, "smooth": 0.0}),
    "tversky": Case(TverskyLoss, {"alpha": 0.3, "beta": 0.7}),
    "tversky micro": Case(TverskyLoss, {"alpha": 0.9, "beta": 0.2, "average": "micro", "smooth": 0.0}),
    "focal tversky": Case(FocalTverskyLoss, {"alpha": 0.3, "beta": 0.7}),
    "focal tversky present": Case(FocalTverskyLoss, {"alpha": 0.3, "beta": 0.7, "gamma": 0.5, "classes": "present"}),
    "generalized dice": Case(GeneralizedDiceLoss, {}),
    "generalized dice unsmoothed": Case(GeneralizedDiceLoss, {"smooth": 0.0}),
    "log cosh dice": Case(LogCoshDiceLoss, {}),
    "mcc": Case(MCCLoss, {}),
    "mcc unsmoothed": Case(MCCLoss, {"smooth": 0.0}),
    "mcc micro": Case(MCCLoss, {"average": "micro"}),
}
every_loss = pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES.items()])
every_task = pytest.mark.parametrize("task", TASKS)


def draw_batch(task: str, seed: int, images: int, classes: int, void: float) -> tuple[Tensor, Tensor]:
    """Images of 4 x 6 pixels, of some of whose classes there are none."""
    generator = torch.Generator().manual_seed(seed)
    channels = 1 if task == "binary" else classes
    logits = 2 * torch.randn(images, channels, 4, 6, generator=generator, dtype=torch.float64)
    present = torch.rand(images, channels, 1, 1, generator=generator) < 0.7
    if task == "multiclass":
        scores = torch.rand(images, channels, 4, 6, generator=generator) + present
        target = scores.argmax(1)
    else:
        target = (torch.rand(logits.shape, generator=generator) < 0.4 * present).long()
    target[torch.rand(target.shape, generator=generator) < void] = 255
    return logits, target


any_batch = {
    "seed": st.integers(0, 2**31),
    "images": st.integers(1, 3),
    "classes": st.integers(2, 5),
    "void": st.sampled_from([0.0, 0.3, 0.95]),
}
few = settings(max_examples=6, deadline=None)


def build(case: Case, task: str, **options) -> nn.Module:
    return case.make(task=task, ignore_index=255, **{**case.options, **options})


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
@every_loss
@few
@given(**any_batch)
def test_the_order_of_the_classes_does_not_matter(case, task, seed, images, classes, void):
    logits, target = draw_batch(task, seed, images, classes, void)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(classes, generator=generator)  # class order[c] becomes class c
    weights = torch.rand(classes, generator=generator, dtype=torch.float64) + 0.1
    new_label = order.argsort()
    moved = torch.where(target == 255, 255, new_label[target.clamp(max=classes - 1)])
    moved = moved if task == "multiclass" else target[:, order]
    value, gradient = value_and_gradient(build(case, task, class_weights=weights).double(), logits, target)
    other, other_gradient = value_and_gradient(
        build(case, task, class_weights=weights[order]).double(), logits[:, order], moved
    )
    torch.testing.assert_close(other, value, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(other_gradient, gradient[:, order], rtol=1e-6, atol=1e-7)


@every_task
@every_loss
@pytest.mark.parametrize("label", [0, 1, 255])
def test_one_pixel_absent_classes_and_all_void_are_finite(case, task, label):
    losses = [build(case, task, per_image=per_image) for per_image in (False, True)]
    for shape in ((1,), (4, 6)):
        channels = 1 if task == "binary" else 3
        target = torch.full((2, *shape) if task == "multiclass" else (2, channels, *shape), label)
        for height, loss in product((-800.0, 0.0, 1.5), losses):
            logits = torch.full((2, channels, *shape), height, dtype=torch.float64)
            logits[:, 0] += 1
            value, gradient = value_and_gradient(loss, logits, target)
            assert value.isfinite()
            assert gradient.isfinite().all()
            assert value >= 0
            if label == 255:
                assert value == 0
                assert gradient.eq(0).all()


@every_loss
@pytest.mark.parametrize("smooth", [0.0, 1.0])
@pytest.mark.parametrize("label", [0, 1])
def test_probabilities_that_barely_are_a_number_have_a_finite_gradient(case, smooth, label):
    # Each height is an image by itself.
    loss = build(case, "binary", smooth=smooth, classes="all", per_image=True)
    heights = torch.arange(-110.0, -20.0, 5.0)
    logits = torch.stack([-heights, heights, heights.new_full(heights.shape, -300.0)], 1)
    target = torch.tensor([[1, label, 0]]).expand(len(heights), 3)
    for pixels in (slice(0, 3), slice(1, 3)):
        value, gradient = value_and_gradient(loss, logits[:, pixels], target[:, pixels])
        assert value.isfinite()
        assert gradient.isfinite().all()


@every_loss
def test_sums_over_many_pixels_do_not_overflow_half_precision(case):
    loss = build(case, "binary", smooth=0.0)
    values = []
    for count in (2**6, 2**18):
        target = torch.arange(count, dtype=torch.uint8).remainder(2).reshape(1, 1, count)
        logits = (target * 3.0 - 1).half()
        values.append(value_and_gradient(loss, logits, target)[0])
    torch.testing.assert_close(*values)
