import math

import pytest
import torch

from lightning_seg.losses import CrossEntropyLoss, PolyCrossEntropyLoss

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


def by_probability(logits, target, task, epsilon, class_weights=None):
    """The formula over the valid pixels alone, from probabilities."""
    valid, weights = target != 255, torch.tensor(class_weights or [1.0] * 4, dtype=torch.float64)
    if task == "multiclass":
        p = logits.softmax(1).movedim(1, -1)[valid].gather(1, target[valid][:, None])[:, 0]
        weights = weights[target[valid]]
    else:
        p = logits.sigmoid()
        p = torch.where(target == 1, p, 1 - p)[valid]
        weights = weights[: logits.shape[1]].view(1, -1, 1, 1).expand_as(logits)[valid]
    return (weights * (epsilon * (1 - p) - p.log())).sum() / weights.sum()


@pytest.mark.parametrize("class_weights", [None, WEIGHTS])
@pytest.mark.parametrize("epsilon", [-1, -0.5, 0.0, 1.0, 4])
@pytest.mark.parametrize("task", TASKS)
def test_value_and_gradient_are_those_of_the_formula(task, epsilon, class_weights):
    class_weights = None if task == "binary" else class_weights
    logits, target = batch(task)
    expected = by_probability(logits, target, task, epsilon, class_weights)
    loss = PolyCrossEntropyLoss(epsilon=epsilon, task=task, ignore_index=255, class_weights=class_weights)
    value = loss(logits, target)
    torch.testing.assert_close(value, expected)
    (gradient,), (expected_gradient,) = torch.autograd.grad(value, logits), torch.autograd.grad(expected, logits)
    torch.testing.assert_close(gradient, expected_gradient)


@pytest.mark.parametrize("options", [{}, {"per_image": True}, {"reduction": "sum"}, {"reduction": "none"}])
@pytest.mark.parametrize("task", TASKS)
def test_epsilon_0_is_cross_entropy(task, options):
    logits, target = batch(task)
    options = {"task": task, "ignore_index": 255, **options}
    value = PolyCrossEntropyLoss(epsilon=0, **options)(logits, target)
    torch.testing.assert_close(value, CrossEntropyLoss(**options)(logits, target))


@pytest.mark.parametrize("class_weights", [None, WEIGHTS])
@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_the_map_sums_to_the_sum_and_is_zero_at_void_pixels(task, class_weights):
    logits, target = batch(task)
    options = {"task": task, "ignore_index": 255, "class_weights": class_weights}
    values = PolyCrossEntropyLoss(reduction="none", **options)(logits, target)
    assert values.shape == target.shape
    assert values[target == 255].eq(0).all()
    total = PolyCrossEntropyLoss(reduction="sum", **options)(logits, target)
    torch.testing.assert_close(values.sum(), total)
    (gradient,) = torch.autograd.grad(values.sum(), logits)
    torch.testing.assert_close(gradient, torch.autograd.grad(total, logits)[0])


def test_a_float32_map_of_almost_certain_pixels_is_exact():
    margins = torch.tensor([[1.0, 5.0, 12.0, 17.0, 30.0, 80.0, -80.0]])
    values = PolyCrossEntropyLoss(task="binary", reduction="none")(margins, torch.ones(1, 7, dtype=torch.int64))
    # Without the threshold of softplus, beyond which it is 0.
    cost = torch.log1p(torch.exp(-margins.double()))
    torch.testing.assert_close(values, (cost + torch.sigmoid(-margins.double())).float(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("epsilon", [-1.0, 0.0, 1.0, 10.0])
def test_a_better_prediction_never_costs_more(epsilon):
    logits = torch.linspace(-20, 20, 400, dtype=torch.float64).unsqueeze(0)
    values = PolyCrossEntropyLoss(epsilon=epsilon, task="binary", reduction="none")(logits, torch.ones(1, 400).long())
    assert values.diff().le(1e-12).all()
    assert values.ge(-1e-12).all()


@pytest.mark.parametrize("epsilon", [-1.01, math.inf, math.nan, True, "1", None, [1.0]])
def test_a_bad_epsilon_is_refused_in_one_line(epsilon):
    with pytest.raises(ValueError, match=r"^epsilon=.* is not a finite number of -1 or more\.$"):
        PolyCrossEntropyLoss(epsilon=epsilon)


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_it_compiles_without_a_graph_break(reduction):
    torch.compiler.reset()
    logits, target = batch("multiclass")
    loss = PolyCrossEntropyLoss(ignore_index=255, reduction=reduction)
    compiled = torch.compile(loss, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(logits, target), loss(logits, target))
