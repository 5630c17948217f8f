"""What holds for every loss of the class sums TP, P, T and the number of valid pixels, on batches of any kind."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from region_reference import TASKS, mean_of_images, value_and_gradient
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
    "focal tversky": Case(FocalTverskyLoss, {}),
    "focal tversky present": Case(FocalTverskyLoss, {"gamma": 0.5, "classes": "present"}),
    "generalized dice": Case(GeneralizedDiceLoss, {}),
    "generalized dice unsmoothed": Case(GeneralizedDiceLoss, {"smooth": 0.0}),
    "log cosh dice": Case(LogCoshDiceLoss, {}),
    "mcc": Case(MCCLoss, {}),
    "mcc unsmoothed": Case(MCCLoss, {"smooth": 0.0}),
    "mcc micro": Case(MCCLoss, {"average": "micro"}),
}
every_loss = pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES.items()])
every_task = pytest.mark.parametrize("task", TASKS)


class Batch(NamedTuple):
    logits: Tensor
    target: Tensor

    def at(self, images: slice) -> "Batch":
        return Batch(self.logits[images], self.target[images])


def draw_batch(task: str, seed: int, images: int, classes: int, void: float, height: float = 2.0) -> Batch:
    """Images of 4 x 6 pixels, of some of whose classes there are none."""
    generator = torch.Generator().manual_seed(seed)
    channels = 1 if task == "binary" else classes
    logits = height * torch.randn(images, channels, 4, 6, generator=generator, dtype=torch.float64)
    present = torch.rand(images, channels, 1, 1, generator=generator) < 0.7
    if task == "multiclass":
        scores = torch.rand(images, channels, 4, 6, generator=generator) + present
        target = scores.argmax(1)
    else:
        target = (torch.rand(logits.shape, generator=generator) < 0.4 * present).long()
    target[torch.rand(target.shape, generator=generator) < void] = 255
    return Batch(logits, target)


seeds = st.integers(0, 2**31)
any_batch = {
    "seed": seeds,
    "images": st.integers(1, 3),
    "classes": st.integers(2, 5),
    "void": st.sampled_from([0.0, 0.3, 0.95]),
}
few = settings(max_examples=6, deadline=None)


def build(case: Case, task: str, **options) -> nn.Module:
    return case.make(task=task, ignore_index=255, **{**case.options, **options})


def void_of(target: Tensor, logits: Tensor) -> Tensor:
    void = target == 255
    return void.unsqueeze(1).expand_as(logits) if void.ndim < logits.ndim else void


def perfect(target: Tensor, task: str, classes: int) -> Tensor:
    labels = torch.arange(classes)[:, None, None]
    own = target.unsqueeze(1) == labels if task == "multiclass" else target == 1
    return 1600.0 * own.double() - 800


@every_task
@every_loss
@few
@given(**any_batch)
def test_a_perfect_prediction_costs_nothing_and_no_other_less(case, task, seed, images, classes, void):
    logits, target = draw_batch(task, seed, images, classes, void)
    loss = build(case, task)
    value, gradient = value_and_gradient(loss, perfect(target, task, logits.shape[1]), target)
    # The power of focal Tversky makes more of the rounding of logits of 800, which is 1e-13.
    assert value.abs() < 1e-8
    assert gradient.abs().max() < 1e-8
    assert loss(logits, target) >= 0


@every_task
@every_loss
@few
@given(**any_batch)
def test_void_pixels_change_nothing(case, task, seed, images, classes, void):
    logits, target = draw_batch(task, seed, images, classes, void)
    loss, at_void = build(case, task), void_of(target, logits)
    value, gradient = value_and_gradient(loss, logits, target)
    assert value.isfinite()
    assert gradient.isfinite().all()
    assert gradient[at_void].eq(0).all()
    other, other_gradient = value_and_gradient(loss, logits.masked_fill(at_void, float("nan")), target)
    assert torch.equal(value, other)
    assert torch.equal(gradient, other_gradient)


@every_task
@every_loss
@few
@given(**any_batch)
def test_more_void_pixels_are_as_if_the_image_were_smaller(case, task, seed, images, classes, void):
    logits, target = draw_batch(task, seed, images, classes, void)
    padded = torch.cat([target, torch.full_like(target, 255)], -1)
    wide = torch.cat([logits, logits.flip(1) + 3], -1)
    loss = build(case, task)
    value, gradient = value_and_gradient(loss, logits, target)
    other, other_gradient = value_and_gradient(loss, wide, padded)
    torch.testing.assert_close(other, value)
    torch.testing.assert_close(other_gradient[..., :6], gradient)


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
@few
@given(**any_batch)
def test_pixels_give_the_same_in_any_shape(case, task, seed, images, classes, void):
    logits, target = draw_batch(task, seed, images, classes, void)
    loss = build(case, task)
    value, gradient = value_and_gradient(loss, logits, target)
    for spatial in ((2, 3, 4), (24,), (1, 24, 1)):
        other, other_gradient = value_and_gradient(
            loss, logits.reshape(*logits.shape[:2], *spatial), target.reshape(*target.shape[:-2], *spatial)
        )
        torch.testing.assert_close(other, value)
        torch.testing.assert_close(other_gradient.reshape(logits.shape), gradient)


@every_task
@every_loss
@few
@given(**any_batch)
def test_per_image_is_the_mean_of_the_images_and_of_one_image_the_batch(case, task, seed, images, classes, void):
    whole = draw_batch(task, seed, images, classes, void)
    batch_loss, image_loss = build(case, task), build(case, task, per_image=True)
    one = whole.at(slice(0, 1))
    torch.testing.assert_close(image_loss(*one), batch_loss(*one))
    target = whole.target.clone()
    target[..., 0, 0] = 1  # an image without a valid pixel, or a class that counts, is left out of the mean
    torch.testing.assert_close(image_loss(whole.logits, target), mean_of_images(batch_loss, whole.logits, target))


@every_task
@every_loss
@pytest.mark.parametrize("label", [0, 1, 255])
def test_one_pixel_absent_classes_and_all_void_are_finite(case, task, label):
    for shape in ((1,), (1, 1), (4, 6), (2, 2, 2)):
        channels = 1 if task == "binary" else 3
        target = torch.full((2, *shape) if task == "multiclass" else (2, channels, *shape), label)
        for height in (-800.0, 0.0, 1.5):
            logits = torch.full((2, channels, *shape), height, dtype=torch.float64)
            logits[:, 0] += 1
            for per_image in (False, True):
                value, gradient = value_and_gradient(build(case, task, per_image=per_image), logits, target)
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
    loss = build(case, "binary", smooth=smooth, classes="all")
    for height in range(-110, -20, 2):
        logits = torch.tensor([[-float(height), float(height), -300.0]])
        target = torch.tensor([[1, label, 0]])
        for pixels in (slice(0, 3), slice(1, 3)):
            value, gradient = value_and_gradient(loss, logits[:, pixels], target[:, pixels])
            assert value.isfinite()
            assert gradient.isfinite().all()


@every_task
@every_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_of_50_are_computed_in_float32(case, task, dtype):
    for seed in range(3):
        logits, target = draw_batch(task, seed, 2, 4, 0.3)
        half = (logits.sign() * 50).to(dtype)
        for inputs in (half, (perfect(target, task, logits.shape[1]) / 16).to(dtype)):
            with torch.autocast("cpu", dtype=dtype):
                value, gradient = value_and_gradient(build(case, task), inputs, target)
            assert value.dtype == torch.float32
            assert value.isfinite()
            assert gradient.isfinite().all()
            torch.testing.assert_close(value, build(case, task)(inputs.float(), target), rtol=0, atol=0)


@every_task
@every_loss
def test_gradcheck_passes_in_float64(case, task):
    logits, target = draw_batch(task, 0, 2, 3, 0.3)
    logits, target = logits[..., :2, :3].clone().requires_grad_(), target[..., :2, :3]
    for per_image in (False, True):
        loss = build(case, task, per_image=per_image)
        assert torch.autograd.gradcheck(lambda z, loss=loss, target=target: loss(z, target), logits)


@every_loss
def test_sums_over_many_pixels_do_not_overflow_half_precision(case):
    loss = build(case, "binary", smooth=0.0)
    values = []
    for count in (2**6, 2**18):
        target = torch.arange(count, dtype=torch.uint8).remainder(2).reshape(1, 1, count)
        logits = (target * 3.0 - 1).half()
        values.append(value_and_gradient(loss, logits, target)[0])
    torch.testing.assert_close(*values)


@every_loss
def test_it_compiles_without_a_graph_break(case):
    torch.compiler.reset()
    logits, target = draw_batch("multiclass", 0, 2, 3, 0.3)
    loss = build(case, "multiclass")
    compiled = torch.compile(loss, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(logits, target), loss(logits, target))
