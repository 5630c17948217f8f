import math

import pytest
import torch
import torch.nn.functional as F

from lightning_seg.losses import CrossEntropyLoss, OhemCrossEntropyLoss

WEIGHTS = [1.0, 0.5, 2.0, 0.25]
TASKS = ["multiclass", "multilabel", "binary"]


def batch(task, dtype=torch.float64):
    torch.manual_seed(0)
    channels = 1 if task == "binary" else 4
    logits = 3 * torch.randn(2, channels, 6, 5, dtype=dtype)
    shape = (2, 6, 5) if task == "multiclass" else logits.shape
    target = torch.randint(0, 4 if task == "multiclass" else 2, shape)
    target[torch.rand(shape) < 0.3] = 255
    return logits.requires_grad_(), target


def costs_and_weights(logits, target, task, class_weights=None):
    """-log p_y and the class weight of each valid pixel, in float64."""
    logits, valid = logits.double(), target != 255
    weights = torch.tensor(class_weights or [1.0] * 4, dtype=torch.float64)
    if task == "multiclass":
        labels = target[valid]
        return F.cross_entropy(logits.movedim(1, -1)[valid], labels, reduction="none"), weights[labels]
    costs = F.binary_cross_entropy_with_logits(logits[valid], target[valid].double(), reduction="none")
    return costs, weights[: logits.shape[1]].view(1, -1, 1, 1).expand_as(logits)[valid]


def by_sort(logits, target, task, threshold, min_kept, class_weights=None):
    costs, weights = costs_and_weights(logits, target, task, class_weights)
    kept = costs > -math.log(threshold)
    kept[costs.argsort(descending=True)[:min_kept]] = True
    return (weights * costs)[kept].sum() / weights[kept].sum()


@pytest.mark.parametrize("class_weights", [None, WEIGHTS])
@pytest.mark.parametrize(("threshold", "min_kept"), [(0.7, 0), (0.7, 5), (0.01, 20), (1e-9, 1), (0.3, 10_000), (1, 0)])
@pytest.mark.parametrize("task", TASKS)
def test_value_and_gradient_are_those_of_a_sort_of_the_valid_pixels(task, threshold, min_kept, class_weights):
    class_weights = None if task == "binary" else class_weights
    logits, target = batch(task)
    expected = by_sort(logits, target, task, threshold, min_kept, class_weights)
    options = {"task": task, "ignore_index": 255, "class_weights": class_weights}
    value = OhemCrossEntropyLoss(threshold=threshold, min_kept=min_kept, **options)(logits, target)
    torch.testing.assert_close(value, expected)
    (gradient,), (expected_gradient,) = torch.autograd.grad(value, logits), torch.autograd.grad(expected, logits)
    torch.testing.assert_close(gradient, expected_gradient)


@pytest.mark.parametrize("class_weights", [None, WEIGHTS])
@pytest.mark.parametrize(("threshold", "min_kept"), [(1, 0), (0.5, 10_000)])
@pytest.mark.parametrize("task", TASKS)
def test_it_is_cross_entropy_if_every_pixel_is_kept(task, threshold, min_kept, class_weights):
    options = {"task": task, "ignore_index": 255, "class_weights": None if task == "binary" else class_weights}
    logits, target = batch(task)
    value = OhemCrossEntropyLoss(threshold=threshold, min_kept=min_kept, **options)(logits, target)
    torch.testing.assert_close(value, CrossEntropyLoss(**options)(logits, target))


def test_min_kept_counts_certain_pixels_and_no_void_ones():
    logits, target = torch.tensor([[0.0, 500.0, 500.0, -9.0, 500.0]]), torch.tensor([[1, 1, 1, 255, 1]])
    for min_kept, expected in ((0, 1), (1, 1), (2, 1 / 2), (3, 1 / 3), (4, 1 / 4), (100, 1 / 4)):
        loss = OhemCrossEntropyLoss(min_kept=min_kept, task="binary", ignore_index=255)
        assert loss(logits, target).item() == pytest.approx(expected * math.log(2))


def test_pixels_that_tie_share_the_last_places():
    logits = torch.tensor([[3.0, 1.0, 1.0, 1.0, -2.0]], requires_grad=True)
    loss = OhemCrossEntropyLoss(threshold=0.1, min_kept=2, task="binary")
    value = loss(logits, torch.zeros(1, 5, dtype=torch.int64))
    torch.testing.assert_close(value, F.softplus(torch.tensor([3.0, 1.0])).mean())
    (gradient,) = torch.autograd.grad(value, logits)
    slope = logits.detach().sigmoid() / 2
    torch.testing.assert_close(gradient, slope * torch.tensor([[1, 1 / 3, 1 / 3, 1 / 3, 0]]))


def test_pixels_that_tie_are_all_kept_below_the_threshold():
    logits = torch.tensor([[1.0, 1.0, 1.0, -2.0]])
    loss = OhemCrossEntropyLoss(threshold=0.7, min_kept=2, task="binary")
    value = loss(logits, torch.zeros(1, 4, dtype=torch.int64))
    torch.testing.assert_close(value, F.softplus(torch.tensor(1.0)))


def test_well_predicted_pixels_alone_give_zero_and_no_gradient():
    logits = torch.full((1, 4), 3.0, requires_grad=True)
    value = OhemCrossEntropyLoss(min_kept=0, task="binary")(logits, torch.ones(1, 4, dtype=torch.int64))
    value.backward()
    assert value == 0
    assert logits.grad is not None
    assert logits.grad.eq(0).all()


@pytest.mark.parametrize("threshold", [0, -0.1, 1.01, math.nan, True, "0.7", None])
def test_a_bad_threshold_is_refused_in_one_line(threshold):
    with pytest.raises(ValueError, match=r"^threshold=.* is not a probability above 0 and at most 1\.$"):
        OhemCrossEntropyLoss(threshold=threshold)


@pytest.mark.parametrize("min_kept", [-1, 0.5, True, "5", None])
def test_a_bad_min_kept_is_refused_in_one_line(min_kept):
    with pytest.raises(ValueError, match=r"^min_kept=.* is not a number of pixels, 0 or more\.$"):
        OhemCrossEntropyLoss(min_kept=min_kept)
