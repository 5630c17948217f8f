import pytest
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from lightning_seg.losses import BoundaryLoss, with_distances

WEIGHTS = [1.0, 0.5, 2.0, 0.25]
TASKS = ("multiclass", "multilabel", "binary")
both = pytest.mark.parametrize("task", TASKS)


def batch(task: str, void: bool = False, images: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    channels = 1 if task == "binary" else 4
    logits = 2 * torch.randn(images, channels, 6, 7, generator=generator, dtype=torch.float64)
    shape = (images, 6, 7) if task == "multiclass" else logits.shape
    target = torch.randint(0, 4 if task == "multiclass" else 2, shape, generator=generator)
    if void:
        target[torch.rand(shape, generator=generator) < 0.3] = 255
    return logits, target


def phi(mask: Tensor) -> Tensor:
    """The signed distance of one mask without void pixels."""
    if mask.all() or not mask.any():
        return torch.zeros(mask.shape, dtype=torch.float64)
    inside, outside = (torch.from_numpy(distance_transform_edt(part.numpy())) for part in (mask, ~mask))
    return outside - inside


def maps(target: Tensor, task: str, classes: int) -> Tensor:
    one_hot = target == 1 if task != "multiclass" else torch.stack([target == c for c in range(classes)], 1)
    return torch.stack([torch.stack([phi(mask) for mask in image]) for image in one_hot])


def probabilities(logits: Tensor, task: str) -> Tensor:
    return logits.softmax(1) if task == "multiclass" else logits.sigmoid()


def value_and_gradient(loss, logits, *arguments):
    logits = logits.detach().clone().requires_grad_()
    value = loss(logits, *arguments)
    value.backward()
    assert logits.grad is not None
    return value.detach(), logits.grad


@both
def test_it_is_the_mean_of_probability_times_distance_in_value_and_gradient(task):
    logits, target = batch(task)
    distances = maps(target, task, 4)
    value, gradient = value_and_gradient(BoundaryLoss(task=task), logits, target)
    leaf = logits.clone().requires_grad_()
    expected = (probabilities(leaf, task) * distances).mean()
    expected.backward()
    torch.testing.assert_close(value, expected.detach())
    torch.testing.assert_close(gradient, leaf.grad)


def test_classes_and_weights_choose_and_weigh_the_means_of_the_classes():
    logits, target = batch("multiclass")
    each = (logits.softmax(1) * maps(target, "multiclass", 4)).mean((0, 2, 3))
    weights = torch.tensor(WEIGHTS, dtype=torch.float64)
    torch.testing.assert_close(BoundaryLoss(classes=[3, 1])(logits, target), each[[1, 3]].mean())
    torch.testing.assert_close(BoundaryLoss(class_weights=WEIGHTS)(logits, target), (weights * each).sum() / 3.75)


def test_the_authors_program_differs_from_it_by_1_inside():
    # Theirs: edt(outside)·outside - (edt(inside) - 1)·inside, with 0 on the pixels inside that touch the outline.
    logits, target = batch("binary", images=1)
    p, mask = logits.sigmoid()[0, 0], target[0, 0] == 1
    theirs = (p * (phi(mask) + mask)).mean()
    ours = BoundaryLoss(task="binary")(logits, target)
    torch.testing.assert_close(ours, theirs - (p * mask).mean())


def test_a_line_one_pixel_wide_is_worth_finding():
    target = torch.zeros(1, 1, 5, 5, dtype=torch.int64)
    target[..., 2, :] = 1
    logits = torch.zeros(1, 1, 5, 5, dtype=torch.float64)
    _, gradient = value_and_gradient(BoundaryLoss(task="binary"), logits, target)
    assert gradient[target == 1].lt(0).all()
    assert gradient[target == 0].gt(0).all()


@both
def test_the_closed_value_of_a_half_plane(task):
    # p = 1/2 and distances ±1, ±2: only classes 0 and 1 are there, and p·φ sums to 0 but for where p is lifted.
    target = torch.tensor([[0, 0, 1, 1]])
    logits = torch.zeros(1, 2, 4, dtype=torch.float64)
    if task == "multiclass":
        logits[0, :, 0] = torch.tensor([50.0, -50.0])  # right, at distance 2: class 0 gains 1, class 1 saves 1
        expected = torch.tensor(-(1.0 + 1.0) / 8)
    else:
        logits, target = logits[:, :1], target.unsqueeze(1)
        logits[0, 0, 3] = 50.0
        expected = torch.tensor(-1.0 / 4)
    torch.testing.assert_close(BoundaryLoss(task=task)(logits, target), expected.double())


@both
def test_a_perfect_prediction_has_the_least_value_and_no_other_has_it(task):
    _, target = batch(task, void=True)
    loss = BoundaryLoss(task=task, ignore_index=255)
    one_hot = torch.stack([target == c for c in range(4)], 1) if task == "multiclass" else target == 1
    perfect = one_hot.double() * 200 - 100
    least = loss(perfect, target)
    assert least < 0
    valid = (target != 255).unsqueeze(1).expand_as(perfect) if task == "multiclass" else target != 255
    for index in valid.nonzero()[:: 7 if task == "multiclass" else 1]:
        other = perfect.clone()
        other[tuple(index)] *= -1
        if task == "multiclass" and other[tuple(index)] > 0:  # so that one class is predicted, not two
            other[index[0], :, index[2], index[3]] = -100
            other[tuple(index)] = 100
        assert loss(other, target) > least


def test_an_absent_class_and_one_that_fills_the_image_cost_nothing():
    logits = torch.randn(1, 3, 4, 5, dtype=torch.float64)
    target = torch.full((1, 4, 5), 1)
    value, gradient = value_and_gradient(BoundaryLoss(), logits, target)
    assert value == 0
    assert gradient.eq(0).all()
    target[0, 0, 0] = 0
    whole = BoundaryLoss(classes=[0, 1])(logits, target)
    torch.testing.assert_close(BoundaryLoss(classes="present")(logits, target), whole)
    torch.testing.assert_close(BoundaryLoss(classes="all")(logits, target), whole * 2 / 3)


def test_void_pixels_are_on_no_side_of_an_outline():
    # 0 0 void void 1: the nearest pixel that is not class 0 is three away from the last 0.
    logits = torch.randn(1, 2, 5, dtype=torch.float64)
    target = torch.tensor([[0, 0, 255, 255, 1]])
    p = logits.softmax(1)[0]
    expected = (
        p[0] @ torch.tensor([-4.0, -3, 0, 0, 3]).double() + p[1] @ torch.tensor([4.0, 3, 0, 0, -3]).double()
    ) / 6
    torch.testing.assert_close(BoundaryLoss(ignore_index=255)(logits, target), expected)


@both
def test_maps_computed_before_give_the_same(task):
    logits, target = batch(task, void=True)
    loss = BoundaryLoss(task=task, ignore_index=255, classes="present", spacing=[2.0, 1.0])
    expected, gradient = value_and_gradient(loss, logits, target)
    distances = loss.target_distances(target, 4)
    assert distances.shape == logits.shape
    assert distances.dtype == torch.float32
    void = (target == 255).unsqueeze(1).expand_as(logits) if task == "multiclass" else target == 255
    for given in (distances, distances.masked_fill(void, float("nan"))):
        value, other = value_and_gradient(loss, logits, with_distances(target, given))
        torch.testing.assert_close(value, expected, rtol=1e-6, atol=0)
        torch.testing.assert_close(other, gradient, rtol=1e-6, atol=1e-9)
    one = torch.cat([loss.target_distances(target[i : i + 1], 4) for i in range(3)])
    assert torch.equal(one, distances)


def test_maps_computed_before_are_used_and_nothing_is_computed(monkeypatch):
    loss = BoundaryLoss(task="binary")
    logits, target = batch("binary")
    distances = loss.target_distances(target[:, 0], 1)
    monkeypatch.setattr("lightning_seg.losses.boundary.distance_loss.signed_distance", None)
    torch.testing.assert_close(
        loss(logits, with_distances(target, 3 * distances)), 3 * loss(logits, with_distances(target, distances[:, 0]))
    )


def test_maps_that_do_not_fit_are_refused():
    logits, target = batch("multiclass")
    with pytest.raises(ValueError, match=r"distances are torch.float32 of shape \(3, 6, 7\).*shape \(3, 4, 6, 7\)"):
        BoundaryLoss()(logits, with_distances(target, torch.zeros(3, 6, 7)))
    with pytest.raises(ValueError, match=r"distances are torch.int64"):
        BoundaryLoss()(logits, with_distances(target, torch.zeros(3, 4, 6, 7, dtype=torch.int64)))


def test_spacing_measures_in_its_unit():
    logits, target = batch("multiclass")
    once = BoundaryLoss()(logits, target)
    torch.testing.assert_close(BoundaryLoss(spacing=[2, 2])(logits, target), 2 * once)
    thin = BoundaryLoss(spacing=[5, 1])(logits, target)
    torch.testing.assert_close(BoundaryLoss(spacing=[1, 5])(logits.mT, target.mT), thin)
    assert not torch.isclose(thin, BoundaryLoss(spacing=[1, 5])(logits, target))


def test_an_image_copied_along_a_third_dimension_costs_the_same():
    logits, target = batch("multiclass", void=True)
    loss = BoundaryLoss(ignore_index=255)
    stack = loss(logits.unsqueeze(2).expand(-1, -1, 3, -1, -1), target.unsqueeze(1).expand(-1, 3, -1, -1))
    torch.testing.assert_close(stack, loss(logits, target))


@both
def test_inputs_are_bit_identical_afterwards(task):
    logits, target = batch(task, void=True)
    before, target_before = logits.clone(), target.clone()
    loss = BoundaryLoss(task=task, ignore_index=255)
    distances = loss.target_distances(target, 4)
    distances_before = distances.clone()
    value_and_gradient(loss, logits, with_distances(target, distances))
    assert torch.equal(logits, before)
    assert torch.equal(target, target_before)
    assert torch.equal(distances, distances_before)


def test_options_that_do_not_fit_are_refused_at_construction():
    for spacing in (2.0, [], [1.0, 0.0], [1.0, float("inf")], "1"):
        with pytest.raises(ValueError, match="is not a list with one positive number for each spatial dimension"):
            BoundaryLoss(spacing=spacing)
    with pytest.raises(ValueError, match="the binary task has one"):
        BoundaryLoss(task="binary", class_weights=[1.0])
    logits, target = batch("multiclass")
    with pytest.raises(ValueError, match="3 numbers and the images have 2 spatial dimensions"):
        BoundaryLoss(spacing=[1, 1, 1])(logits, target)
