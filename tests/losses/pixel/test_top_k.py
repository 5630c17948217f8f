import math

import pytest
import torch
import torch.nn.functional as F

from lightning_seg.losses import CrossEntropyLoss, TopKCrossEntropyLoss

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


def by_sort(logits, target, task, k, class_weights=None):
    costs, weights = costs_and_weights(logits, target, task, class_weights)
    hardest = costs.argsort(descending=True)[: max(1, math.ceil(len(costs) * k))]
    return (weights * costs)[hardest].sum() / weights[hardest].sum()


@pytest.mark.parametrize("class_weights", [None, WEIGHTS])
@pytest.mark.parametrize("k", [1e-6, 0.1, 0.3, 0.77, 1])
@pytest.mark.parametrize("task", TASKS)
def test_value_and_gradient_are_those_of_a_sort_of_the_valid_pixels(task, k, class_weights):
    class_weights = None if task == "binary" else class_weights
    logits, target = batch(task)
    expected = by_sort(logits, target, task, k, class_weights)
    value = TopKCrossEntropyLoss(k=k, task=task, ignore_index=255, class_weights=class_weights)(logits, target)
    torch.testing.assert_close(value, expected)
    (gradient,), (expected_gradient,) = torch.autograd.grad(value, logits), torch.autograd.grad(expected, logits)
    torch.testing.assert_close(gradient, expected_gradient)


@pytest.mark.parametrize("class_weights", [None, WEIGHTS])
@pytest.mark.parametrize("task", TASKS)
def test_k_of_1_is_cross_entropy(task, class_weights):
    options = {"task": task, "ignore_index": 255, "class_weights": None if task == "binary" else class_weights}
    logits, target = batch(task)
    torch.testing.assert_close(
        TopKCrossEntropyLoss(k=1, **options)(logits, target), CrossEntropyLoss(**options)(logits, target)
    )


def test_certain_pixels_are_counted_too():
    logits, target = torch.tensor([[0.0, 500.0, 500.0, 500.0]]), torch.ones(1, 4, dtype=torch.int64)
    for k, expected in ((0.25, math.log(2)), (0.5, math.log(2) / 2), (1.0, math.log(2) / 4)):
        value = TopKCrossEntropyLoss(k=k, task="binary")(logits, target)
        assert value.item() == pytest.approx(expected)


def test_the_share_is_of_the_valid_pixels():
    logits, target = torch.arange(100.0).unsqueeze(0), torch.zeros(1, 100, dtype=torch.int64)
    target[:, :10] = 255
    target[:, 30:] = 255
    expected = F.softplus(torch.tensor([28.0, 29.0])).mean()
    value = TopKCrossEntropyLoss(k=0.1, task="binary", ignore_index=255)(logits, target)
    torch.testing.assert_close(value, expected)


def test_pixels_that_tie_share_the_last_places():
    logits = torch.tensor([[3.0, 1.0, 1.0, 1.0, -2.0]], requires_grad=True)
    value = TopKCrossEntropyLoss(k=0.4, task="binary")(logits, torch.zeros(1, 5, dtype=torch.int64))
    torch.testing.assert_close(value, F.softplus(torch.tensor([3.0, 1.0])).mean())
    (gradient,) = torch.autograd.grad(value, logits)
    slope = logits.detach().sigmoid() / 2
    torch.testing.assert_close(gradient, slope * torch.tensor([[1, 1 / 3, 1 / 3, 1 / 3, 0]]))


def test_class_weights_do_not_change_which_pixels_are_hardest():
    logits = torch.tensor([[[3.0, 2.0], [0.0, 0.0]]])
    target = torch.tensor([[1, 1]])
    for weights in ([1.0, 5.0], [5.0, 1.0]):
        value = TopKCrossEntropyLoss(k=0.5, class_weights=weights)(logits, target)
        torch.testing.assert_close(value, F.softplus(torch.tensor(3.0)))


@pytest.mark.parametrize("k", [0, -0.1, 1.01, 10, math.nan, True, "0.1", None])
def test_a_bad_share_is_refused_in_one_line(k):
    with pytest.raises(ValueError, match=r"^k=.* is not a share of the pixels, above 0 and at most 1\.$"):
        TopKCrossEntropyLoss(k=k)
