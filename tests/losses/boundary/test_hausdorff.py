import monai.losses
import pytest
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from lightning_seg.losses import HausdorffDistanceLoss, with_distances

WEIGHTS = [1.0, 0.5, 2.0, 0.25]
both = pytest.mark.parametrize("task", ["multiclass", "multilabel", "binary"])


def batch(task: str, void: bool = False, images: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    channels = 1 if task == "binary" else 4
    logits = 2 * torch.randn(images, channels, 6, 7, generator=generator, dtype=torch.float64)
    shape = (images, 6, 7) if task == "multiclass" else logits.shape
    target = torch.randint(0, 4 if task == "multiclass" else 2, shape, generator=generator)
    if void:
        target[torch.rand(shape, generator=generator) < 0.3] = 255
    return logits, target


def one_hot(labels: Tensor, task: str) -> Tensor:
    return labels == 1 if task != "multiclass" else torch.stack([labels == c for c in range(4)], 1)


def distance(mask: Tensor) -> Tensor:
    """The distance to the outline of one mask without void pixels, on both sides of it."""
    if mask.all() or not mask.any():
        return torch.zeros(mask.shape, dtype=torch.float64)
    return sum(torch.from_numpy(distance_transform_edt(part.numpy())) for part in (mask, ~mask))


def cost_map(logits: Tensor, target: Tensor, task: str, alpha: float) -> Tensor:
    """(p - t)²·(d(p)^α + d(t)^α), mask by mask."""
    p = logits.softmax(1) if task == "multiclass" else logits.sigmoid()
    predicted = one_hot(logits.argmax(1), task) if task == "multiclass" else logits > 0
    t = one_hot(target, task)
    weights = torch.stack(
        [
            distance(predicted[n, c]) ** alpha + distance(t[n, c]) ** alpha
            for n in range(len(p))
            for c in range(p.shape[1])
        ]
    )
    return (p - t.double()) ** 2 * weights.reshape(p.shape)


def value_and_gradient(loss, logits, *arguments):
    logits = logits.detach().clone().requires_grad_()
    value = loss(logits, *arguments)
    value.backward()
    assert logits.grad is not None
    return value.detach(), logits.grad


@both
@pytest.mark.parametrize("alpha", [2.0, 0.7])
def test_it_is_the_mean_of_its_formula_in_value_and_gradient(task, alpha):
    logits, target = batch(task)
    value, gradient = value_and_gradient(HausdorffDistanceLoss(task=task, alpha=alpha), logits, target)
    leaf = logits.clone().requires_grad_()
    expected = cost_map(leaf, target, task, alpha).mean()
    expected.backward()
    torch.testing.assert_close(value, expected.detach())
    torch.testing.assert_close(gradient, leaf.grad)


def test_classes_and_weights_choose_and_weigh_the_means_of_the_classes():
    logits, target = batch("multiclass")
    each = cost_map(logits, target, "multiclass", 2).mean((0, 2, 3))
    weights = torch.tensor(WEIGHTS, dtype=torch.float64)
    torch.testing.assert_close(HausdorffDistanceLoss(classes=[3, 1])(logits, target), each[[1, 3]].mean())
    weighted = HausdorffDistanceLoss(class_weights=WEIGHTS)(logits, target)
    torch.testing.assert_close(weighted, (weights * each).sum() / 3.75)


# kornia has the other form of the paper, by erosions (HausdorffERLoss), which has other values.
@pytest.mark.parametrize("spatial", [(6, 7), (4, 5, 6)])
def test_it_is_that_of_monai_where_the_predicted_class_is_that_above_one_half(spatial):
    torch.manual_seed(0)
    logits = 2 * torch.randn(2, 3, *spatial, dtype=torch.float64)
    target = torch.randint(0, 2, (2, 3, *spatial))
    theirs = monai.losses.HausdorffDTLoss(sigmoid=True, include_background=True)
    expected, expected_gradient = value_and_gradient(theirs, logits, target.double())
    value, gradient = value_and_gradient(HausdorffDistanceLoss(task="multilabel"), logits, target)
    torch.testing.assert_close(value, expected)  # theirs has distances in float32, here integers when squared
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-6, atol=1e-9)
    # Of two classes one is above 1/2; of more, theirs predicts none where no class is, and ours the greatest.
    logits, target = logits[:, :2], target[:, 0]
    theirs = monai.losses.HausdorffDTLoss(softmax=True, to_onehot_y=True, include_background=True)
    torch.testing.assert_close(
        HausdorffDistanceLoss()(logits, target), theirs(logits, target[:, None]), rtol=1e-6, atol=0
    )


def test_an_error_costs_the_square_of_its_distance_to_the_outline():
    # A target in columns 0 and 1 of a row; one pixel more is predicted, ever farther away.
    target = torch.tensor([[[1, 1] + [0] * 10]])
    for column, expected in ((3, 4 + 1), (6, 25 + 1), (11, 100 + 1)):
        logits = target.double() * 200 - 100
        logits[..., column] = 100
        value = HausdorffDistanceLoss(task="binary")(logits, target)
        assert value.item() == pytest.approx(expected / 12)


def test_an_absent_class_costs_what_is_predicted_of_it_and_nothing_with_present():
    logits = torch.full((1, 3, 1, 5), -50.0, dtype=torch.float64)
    logits[0, 0, 0, :4], logits[0, 2, 0, 4] = 50, 50
    target = torch.tensor([[[0, 0, 0, 0, 1]]])
    # Class 0 is perfect; class 1 is missed at distance 1; class 2 is predicted at distance 1.
    torch.testing.assert_close(HausdorffDistanceLoss()(logits, target).item(), (1 + 1) / 5 / 3)
    torch.testing.assert_close(HausdorffDistanceLoss(classes="present")(logits, target).item(), 1 / 5 / 2)


def test_where_neither_has_an_outline_nothing_costs():
    logits = torch.tensor([[[[50.0] * 4], [[-50.0] * 4]]])
    value, gradient = value_and_gradient(HausdorffDistanceLoss(), logits, torch.ones(1, 1, 4, dtype=torch.int64))
    assert value == 0
    assert gradient.eq(0).all()


def test_void_pixels_are_on_no_side_of_an_outline():
    target = torch.tensor([[0, 0, 255, 255, 1, 1]])
    logits = torch.tensor([[-9.0, 0.5, 9, 9, 9, 9]], dtype=torch.float64)
    # d(t) is 4 3 - - 3 4; predicted is 0 1 - - 1 1, of which d is 1 1 - - 4 5.
    weights = torch.tensor([16 + 1, 9 + 1, 0, 0, 9 + 16, 16 + 25])
    expected = ((logits.sigmoid() - (target == 1).double()) ** 2 * weights).sum() / 4
    torch.testing.assert_close(HausdorffDistanceLoss(task="binary", ignore_index=255)(logits, target), expected)


@both
def test_maps_of_the_target_computed_before_give_the_same(task):
    logits, target = batch(task, void=True)
    loss = HausdorffDistanceLoss(task=task, ignore_index=255, spacing=[2.0, 1.0])
    value, gradient = value_and_gradient(loss, logits, with_distances(target, loss.target_distances(target, 4)))
    expected, expected_gradient = value_and_gradient(loss, logits, target)
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-6, atol=1e-9)


def test_spacing_measures_in_its_unit():
    logits, target = batch("multiclass")
    torch.testing.assert_close(
        HausdorffDistanceLoss(spacing=[3, 3])(logits, target), 9 * HausdorffDistanceLoss()(logits, target)
    )


def test_options_that_do_not_fit_are_refused_at_construction():
    for alpha in (0, -1.0, None, float("nan")):
        with pytest.raises(ValueError, match="alpha="):
            HausdorffDistanceLoss(alpha=alpha)
    with pytest.raises(ValueError, match="is not a list with one positive number"):
        HausdorffDistanceLoss(spacing=1)
    with pytest.raises(ValueError, match="the binary task has one"):
        HausdorffDistanceLoss(task="binary", class_weights=[1.0])
