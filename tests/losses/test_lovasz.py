from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from segmentation_models_pytorch.losses import LovaszLoss
from torch import Tensor

from lightning_seg.losses import LovaszHingeLoss, LovaszSoftmaxLoss


def jaccard_loss(wrong: Tensor, foreground: Tensor) -> float:
    """One minus the intersection over union when exactly the pixels in `wrong` are wrong."""
    prediction = foreground ^ wrong
    union = (prediction | foreground).sum().item()
    return 0.0 if union == 0 else 1 - (prediction & foreground).sum().item() / union


def choquet(errors: Tensor, foreground: Tensor) -> float:
    """The integral over t from 0 of the Jaccard loss of the pixels with an error above t: no sort, no cumsum."""
    thresholds = sorted({0.0, *(e for e in errors.flatten().tolist() if e > 0)})
    return sum((high - low) * jaccard_loss(errors > low, foreground) for low, high in pairwise(thresholds))


def softmax_by_hand(logits: Tensor, target: Tensor, classes, per_image: bool, ignore_index=None) -> float:
    if per_image:
        each = [
            softmax_by_hand(z[None], y[None], classes, False, ignore_index) for z, y in zip(logits, target, strict=True)
        ]
        return sum(each) / len(each)
    valid = torch.ones_like(target, dtype=torch.bool) if ignore_index is None else target != ignore_index
    values = []
    for label in range(logits.shape[1]):
        p, foreground = logits.softmax(1)[:, label][valid], target[valid] == label
        if foreground.any() if classes == "present" else classes == "all" or label in classes:
            values.append(choquet(torch.where(foreground, 1 - p, p), foreground))
    return sum(values) / len(values)


@pytest.fixture
def multiclass():
    torch.manual_seed(0)
    logits, target = 2 * torch.randn(2, 5, 6, 5, dtype=torch.float64), torch.randint(0, 4, (2, 6, 5))
    target[0][target[0] == 2] = 0
    return logits, target


@pytest.fixture
def multilabel():
    torch.manual_seed(1)
    return torch.randn(3, 4, 6, 5, dtype=torch.float64), torch.randint(0, 2, (3, 4, 6, 5))


@pytest.mark.parametrize("classes", ["present", "all", [0, 4], (3,)])
@pytest.mark.parametrize("per_image", [False, True])
@pytest.mark.parametrize("ignore_index", [None, 255])
def test_softmax_is_the_choquet_integral_of_the_jaccard_loss(multiclass, classes, per_image, ignore_index):
    logits, target = multiclass
    if ignore_index is not None:
        target[:, 2:4] = ignore_index
    loss = LovaszSoftmaxLoss(classes=classes, per_image=per_image, ignore_index=ignore_index)
    expected = softmax_by_hand(logits, target, classes, per_image, ignore_index)
    assert loss(logits, target).item() == pytest.approx(expected)


@pytest.mark.parametrize("per_image", [False, True])
def test_softmax_is_that_of_segmentation_models_pytorch_in_value_and_gradient(multiclass, per_image):
    logits, target = multiclass
    target[:, 2:4] = 255
    logits = logits.float()  # theirs takes no float64
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    value = LovaszSoftmaxLoss(per_image=per_image, ignore_index=255)(ours, target)
    expected = LovaszLoss("multiclass", per_image=per_image, ignore_index=255)(theirs, target)
    torch.testing.assert_close(value, expected)
    value.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize("per_image", [False, True])
def test_hinge_is_that_of_segmentation_models_pytorch_in_value_and_gradient(multilabel, per_image):
    logits, target = multilabel[0][:, 0], multilabel[1][:, 0]
    target[:, 2:4] = 255
    logits = logits.float()  # theirs takes no float64
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    value = LovaszHingeLoss(per_image=per_image, ignore_index=255)(ours, target)
    expected = LovaszLoss("binary", per_image=per_image, ignore_index=255)(theirs, target)
    torch.testing.assert_close(value, expected)
    value.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize("per_image", [False, True])
def test_multilabel_hinge_is_the_mean_of_the_choquet_integrals_of_its_channels(multilabel, per_image):
    logits, target = multilabel
    errors, foreground = 1 - logits * (2 * target - 1), target == 1
    if per_image:
        values = [choquet(errors[n, c], foreground[n, c]) for n in range(3) for c in range(4)]
    else:
        values = [choquet(errors[:, c], foreground[:, c]) for c in range(4)]
    value = LovaszHingeLoss(task="multilabel", per_image=per_image)(logits, target)
    assert value.item() == pytest.approx(sum(values) / len(values))


def test_softmax_of_the_multilabel_task_takes_a_sigmoid_of_each_channel(multilabel):
    logits, target = multilabel
    p, foreground = logits.sigmoid(), target == 1
    errors = torch.where(foreground, 1 - p, p)
    values = [choquet(errors[:, c], foreground[:, c]) for c in range(4)]
    value = LovaszSoftmaxLoss(task="multilabel")(logits, target)
    assert value.item() == pytest.approx(sum(values) / 4)
    binary = LovaszSoftmaxLoss(task="binary")(logits[:, 0], target[:, 0])
    assert binary.item() == pytest.approx(values[0])


def test_class_weights_make_a_weighted_mean_over_the_present_classes(multiclass):
    weights = [1.0, 0.5, 2.0, 4.0, 8.0]
    each = [softmax_by_hand(*multiclass, [c], False) for c in range(4)]  # class 4 is absent
    value = LovaszSoftmaxLoss(class_weights=weights)(*multiclass)
    expected = sum(w * v for w, v in zip(weights, each, strict=False)) / sum(weights[:4])
    assert value.item() == pytest.approx(expected)


def test_at_hard_predictions_it_is_one_minus_the_jaccard_index(multiclass):
    target = multiclass[1]
    prediction = target.roll(1, -1)
    logits = 1e4 * torch.nn.functional.one_hot(prediction, 5).movedim(-1, 1).double()
    each = [jaccard_loss((prediction == c) ^ (target == c), target == c) for c in range(4)]
    assert LovaszSoftmaxLoss()(logits, target).item() == pytest.approx(sum(each) / 4)


def test_a_binary_image_without_foreground_costs_its_largest_error(multilabel):
    logits, target = multilabel[0][:1, 0], torch.zeros(1, 6, 5, dtype=torch.bool)
    assert LovaszHingeLoss()(logits, target) == (1 + logits.max()).relu()
    assert LovaszSoftmaxLoss(task="binary", classes="all")(logits, target) == logits.sigmoid().max()
    assert LovaszSoftmaxLoss(task="binary")(logits, target) == 0
    assert LovaszHingeLoss(classes="present")(logits, target) == 0


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_any_pattern_of_ties_voids_and_classes_is_the_choquet_integral(data):
    count = data.draw(st.integers(1, 8))
    labels = data.draw(st.lists(st.sampled_from([0, 1, 9]), min_size=count, max_size=count))
    scores = data.draw(st.lists(st.sampled_from([-2.0, -1.0, 0.0, 0.5, 1.0]), min_size=count, max_size=count))
    logits, target = torch.tensor([scores], dtype=torch.float64), torch.tensor([labels])
    kept = [(z, y) for z, y in zip(scores, labels, strict=True) if y != 9]
    errors = torch.tensor([1 - z if y else 1 + z for z, y in kept], dtype=torch.float64)
    foreground = torch.tensor([y == 1 for _, y in kept], dtype=torch.bool)
    assert LovaszHingeLoss(ignore_index=9)(logits, target).item() == pytest.approx(choquet(errors, foreground))


def test_float32_gradients_keep_their_digits_on_an_image_of_a_million_pixels():
    torch.manual_seed(0)
    logits, target = torch.randn(1, 1024, 1024), torch.rand(1, 1024, 1024) < 0.1
    single, double = logits.clone().requires_grad_(), logits.double().requires_grad_()
    LovaszHingeLoss()(single, target).backward()
    LovaszHingeLoss()(double, target).backward()
    assert single.grad is not None
    # Rounding may exchange neighbours in the order; differences of float32 Jaccard losses would be off by percents.
    torch.testing.assert_close(single.grad.double(), double.grad, rtol=1e-4, atol=0)


def test_sync_dist_is_refused_by_name():
    for loss in (LovaszSoftmaxLoss, LovaszHingeLoss):
        with pytest.raises(ValueError, match=rf"{loss.__name__} sorts the pixels of one process and cannot"):
            loss(sync_dist=True)


def test_hinge_is_refused_for_multiclass():
    with pytest.raises(ValueError, match="for multiclass use LovaszSoftmaxLoss"):
        LovaszHingeLoss(task="multiclass")


def test_soft_targets_are_refused(multilabel):
    with pytest.raises(TypeError, match="no meaning for soft targets"):
        LovaszHingeLoss(task="multilabel")(multilabel[0], multilabel[1].double())
