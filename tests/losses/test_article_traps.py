"""The mistakes of the article's listings, one test each: these losses must not share them."""

import pytest
import torch
import torch.nn.functional as F

from lightning_seg.losses import CrossEntropyDiceLoss, CrossEntropyLoss, DiceLoss, FocalLoss, LovaszSoftmaxLoss


@pytest.fixture
def batch():
    torch.manual_seed(0)
    return torch.randn(2, 3, 6, 5), torch.randint(0, 3, (2, 6, 5))


def test_dice_compares_the_output_with_the_target(batch):
    # The article flattens the output twice and compares it with itself.
    logits, target = batch
    assert DiceLoss()(logits, target) != DiceLoss()(logits, (target + 1) % 3)
    assert DiceLoss()(100 * F.one_hot(target, 3).movedim(-1, 1).float(), target) < 1e-6


def test_dice_smooths_by_what_it_is_told(batch):
    # The article always smooths by 1.
    values = {smooth: DiceLoss(smooth=smooth)(*batch).item() for smooth in (0.0, 1.0, 10.0)}
    assert values[0.0] > values[1.0] > values[10.0]


def test_focal_alpha_does_not_leak_into_p():
    # p = 1/2: -0.25 (1 - p)^2 log p, not with 0.25 p or a logarithm of it.
    value = FocalLoss(task="binary", alpha=0.25)(torch.zeros(1, 4), torch.ones(1, 4, dtype=torch.int64))
    assert value.item() == pytest.approx(0.25 * 0.25 * 0.6931471805599453)


def test_focal_sums_over_the_pixels_when_told(batch):
    # The article's sum is never taken.
    logits, target = batch
    each = FocalLoss(reduction="none")(logits, target)
    assert each.shape == target.shape
    torch.testing.assert_close(FocalLoss(reduction="sum")(logits, target), each.sum())
    torch.testing.assert_close(FocalLoss()(logits, target), each.mean())


@pytest.mark.parametrize("loss", [CrossEntropyLoss, FocalLoss, DiceLoss, LovaszSoftmaxLoss, CrossEntropyDiceLoss])
def test_label_255_does_not_crash_a_one_hot(batch, loss):
    logits, target = batch
    target[:, 0] = 255
    assert loss(ignore_index=255)(logits, target).isfinite()


@pytest.mark.parametrize("ignore_index", [255, -1, 1])
def test_cross_entropy_ignores_the_label_it_is_given(batch, ignore_index):
    # The article's xloss drops its `ignore` and always ignores 255.
    logits, target = batch
    target[:, 0] = ignore_index
    expected = F.cross_entropy(logits, target, ignore_index=ignore_index)
    torch.testing.assert_close(CrossEntropyLoss(ignore_index=ignore_index)(logits, target), expected)


def test_binary_cross_entropy_ignores_the_label_it_is_given(batch):
    logits, target = batch[0][:, 0], batch[1].clamp(max=1)
    target[:, 0] = 7
    expected = F.binary_cross_entropy_with_logits(logits[:, 1:], target[:, 1:].float())
    torch.testing.assert_close(CrossEntropyLoss(task="binary", ignore_index=7)(logits, target), expected)


def test_stable_bce_is_finite_where_the_sigmoid_is_exactly_0_or_1():
    logits = torch.tensor([[500.0, -500.0]], requires_grad=True)
    value = CrossEntropyLoss(task="binary")(logits, torch.tensor([[0, 0]]))
    value.backward()
    assert value.item() == 250.0
    torch.testing.assert_close(logits.grad, torch.tensor([[0.5, 0.0]]))


def test_classes_is_compared_by_value_not_by_identity(batch):
    # `classes is 'present'` fails for an equal string that is another object, as one from YAML is.
    logits, target = batch
    target = target % 2
    same_word = "".join(["pre", "sent"])
    for loss in (LovaszSoftmaxLoss, DiceLoss):
        assert torch.equal(loss(classes=same_word)(logits, target), loss(classes="present")(logits, target))
        assert loss(classes=same_word)(logits, target) != loss(classes="all")(logits, target)


@pytest.mark.parametrize("option", [{"classes": "all"}, {"classes": [0]}, {"per_image": True}])
def test_the_lovasz_wrapper_passes_every_option_on(batch, option):
    # The article's stores `classes` under another name and drops `per_image`.
    logits, target = batch
    target[0] %= 2
    target[1] = target[1].clamp(min=1)
    target[1, 0, 0] = 1
    target[target == 2] = 1
    assert not torch.isclose(LovaszSoftmaxLoss(**option)(logits, target), LovaszSoftmaxLoss()(logits, target))


def test_smooth_and_ignore_index_reach_the_dice_half_of_the_compound(batch):
    logits, target = batch
    target[:, 0] = 255
    loss = CrossEntropyDiceLoss(cross_entropy_weight=0, smooth=0.1, ignore_index=255)
    torch.testing.assert_close(loss(logits, target), DiceLoss(smooth=0.1, ignore_index=255)(logits, target))
