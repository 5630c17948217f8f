from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from segmentation_models_pytorch.losses import LovaszLoss
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lightning_seg.losses import LovaszHingeLoss, LovaszSoftmaxLoss

by_both_methods = pytest.mark.parametrize("method", ["sort", "histogram"])


def near(expected: float, method: str):
    """Equal but for rounding, or for errors of one bin in another order."""
    return pytest.approx(expected) if method == "sort" else pytest.approx(expected, abs=1e-5)


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


@by_both_methods
@pytest.mark.parametrize("classes", ["present", "all", [0, 4], (3,)])
@pytest.mark.parametrize("per_image", [False, True])
@pytest.mark.parametrize("ignore_index", [None, 255])
def test_softmax_is_the_choquet_integral_of_the_jaccard_loss(multiclass, classes, per_image, ignore_index, method):
    logits, target = multiclass
    if ignore_index is not None:
        target[:, 2:4] = ignore_index
    loss = LovaszSoftmaxLoss(classes=classes, per_image=per_image, ignore_index=ignore_index, method=method)
    expected = softmax_by_hand(logits, target, classes, per_image, ignore_index)
    assert loss(logits, target).item() == near(expected, method)


@pytest.mark.parametrize("per_image", [False, True])
def test_softmax_is_that_of_segmentation_models_pytorch_in_value_and_gradient(multiclass, per_image):
    logits, target = multiclass
    target[:, 2:4] = 255
    logits = logits.float()  # theirs takes no float64
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    value = LovaszSoftmaxLoss(per_image=per_image, ignore_index=255, method="sort")(ours, target)
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
    value = LovaszHingeLoss(per_image=per_image, ignore_index=255, method="sort")(ours, target)
    expected = LovaszLoss("binary", per_image=per_image, ignore_index=255)(theirs, target)
    torch.testing.assert_close(value, expected)
    value.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


@by_both_methods
@pytest.mark.parametrize("per_image", [False, True])
def test_multilabel_hinge_is_the_mean_of_the_choquet_integrals_of_its_channels(multilabel, per_image, method):
    logits, target = multilabel
    errors, foreground = 1 - logits * (2 * target - 1), target == 1
    if per_image:
        values = [choquet(errors[n, c], foreground[n, c]) for n in range(3) for c in range(4)]
    else:
        values = [choquet(errors[:, c], foreground[:, c]) for c in range(4)]
    value = LovaszHingeLoss(task="multilabel", per_image=per_image, method=method)(logits, target)
    assert value.item() == near(sum(values) / len(values), method)


@by_both_methods
def test_softmax_of_the_multilabel_task_takes_a_sigmoid_of_each_channel(multilabel, method):
    logits, target = multilabel
    p, foreground = logits.sigmoid(), target == 1
    errors = torch.where(foreground, 1 - p, p)
    values = [choquet(errors[:, c], foreground[:, c]) for c in range(4)]
    value = LovaszSoftmaxLoss(task="multilabel", method=method)(logits, target)
    assert value.item() == near(sum(values) / 4, method)
    binary = LovaszSoftmaxLoss(task="binary", method=method)(logits[:, 0], target[:, 0])
    assert binary.item() == near(values[0], method)


@by_both_methods
def test_class_weights_make_a_weighted_mean_over_the_present_classes(multiclass, method):
    weights = [1.0, 0.5, 2.0, 4.0, 8.0]
    each = [softmax_by_hand(*multiclass, [c], False) for c in range(4)]  # class 4 is absent
    value = LovaszSoftmaxLoss(class_weights=weights, method=method)(*multiclass)
    expected = sum(w * v for w, v in zip(weights, each, strict=False)) / sum(weights[:4])
    assert value.item() == near(expected, method)


@by_both_methods
def test_at_hard_predictions_it_is_one_minus_the_jaccard_index(multiclass, method):
    target = multiclass[1]
    prediction = target.roll(1, -1)
    logits = 1e4 * torch.nn.functional.one_hot(prediction, 5).movedim(-1, 1).double()
    each = [jaccard_loss((prediction == c) ^ (target == c), target == c) for c in range(4)]
    assert LovaszSoftmaxLoss(method=method)(logits, target).item() == pytest.approx(sum(each) / 4)


@by_both_methods
def test_a_binary_image_without_foreground_costs_its_largest_error(multilabel, method):
    logits, target = multilabel[0][:1, 0], torch.zeros(1, 6, 5, dtype=torch.bool)
    assert LovaszHingeLoss(method=method)(logits, target).item() == pytest.approx((1 + logits.max()).relu().item())
    softmax = LovaszSoftmaxLoss(task="binary", classes="all", method=method)
    assert softmax(logits, target).item() == pytest.approx(logits.sigmoid().max().item())
    assert LovaszSoftmaxLoss(task="binary", method=method)(logits, target) == 0
    assert LovaszHingeLoss(classes="present", method=method)(logits, target) == 0


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
    for method in ("sort", "histogram"):
        value = LovaszHingeLoss(ignore_index=9, method=method)(logits, target)
        assert value.item() == near(choquet(errors, foreground), method)


def test_float32_gradients_keep_their_digits_on_an_image_of_a_million_pixels():
    torch.manual_seed(0)
    logits, target = torch.randn(1, 1000, 1000), torch.rand(1, 1000, 1000) < 0.1
    single, double = logits.clone().requires_grad_(), logits.double().requires_grad_()
    LovaszHingeLoss(method="sort")(single, target).backward()
    LovaszHingeLoss(method="sort")(double, target).backward()
    assert single.grad is not None
    # Rounding may exchange neighbors in the order; differences of float32 Jaccard losses would be off by percents.
    torch.testing.assert_close(single.grad.double(), double.grad, rtol=1e-4, atol=0)


def smooth_field(channels: int, size: int) -> Tensor:
    return F.interpolate(torch.randn(2, channels, size, size), size=(128, 128), mode="bicubic")


def blobs(task: str) -> tuple[Tensor, Tensor]:
    """Smooth logits, the labels of a noisier field, and void pixels."""
    torch.manual_seed(0)
    logits = 3 * smooth_field(6, 9)
    noisy = logits + 2 * smooth_field(6, 33)
    if task == "multiclass":
        target = noisy.argmax(1)
    else:
        logits, target = logits[:, 0], (noisy[:, 0] > 1).long()
    target[:, 30:40, 50:] = 255
    return logits, target


@pytest.mark.parametrize("per_image", [False, True])
@pytest.mark.parametrize(
    ("make", "task"),
    [(LovaszSoftmaxLoss, "multiclass"), (LovaszSoftmaxLoss, "binary"), (LovaszHingeLoss, "binary")],
)
def test_the_histogram_has_nearly_the_value_and_gradient_of_the_sort(make, task, per_image):
    logits, target = blobs(task)
    ours, exact = logits.clone().requires_grad_(), logits.double().requires_grad_()
    options = {"task": task, "per_image": per_image, "ignore_index": 255}
    value, expected = make(**options)(ours, target), make(method="sort", **options)(exact, target)
    value.backward()
    expected.backward()
    assert value.item() == pytest.approx(expected.item(), abs=1e-5)
    assert (ours.grad - exact.grad).norm() <= 3e-4 * exact.grad.norm()
    assert (ours.grad.movedim(-2, 1)[:, 30:40, ..., 50:] == 0).all()


def test_another_method_is_refused():
    for loss in (LovaszHingeLoss, LovaszSoftmaxLoss):
        with pytest.raises(ValueError, match="method='radix' is neither histogram nor sort"):
            loss(method="radix")


def test_hinge_is_refused_for_multiclass():
    with pytest.raises(ValueError, match="for multiclass use LovaszSoftmaxLoss"):
        LovaszHingeLoss(task="multiclass")


@pytest.mark.parametrize("method", ["histogram", "sort"])
@pytest.mark.parametrize("make", [LovaszSoftmaxLoss, LovaszHingeLoss])
def test_a_nan_among_the_logits_shows(make, method):
    logits, target = torch.randn(2, 1, 4, 5), torch.randint(0, 2, (2, 1, 4, 5))
    logits[0, 0, 1, 2] = torch.nan
    assert make(task="binary", classes="all", method=method)(logits, target).isnan()


class _Sorts(TorchDispatchMode):
    """Counts how often something is sorted."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func.overloadpacket.__name__ in ("sort", "argsort", "topk")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("make", [LovaszSoftmaxLoss, LovaszHingeLoss])
@pytest.mark.parametrize("per_image", [False, True])
def test_all_classes_and_images_are_sorted_at_once_and_by_default_nothing_is(make, per_image, multilabel):
    logits, target = multilabel
    for options, sorts in (({}, 0), ({"method": "sort"}, 1)):
        with _Sorts() as counted:
            loss = make(task="multilabel", per_image=per_image, **options)
            loss(logits.clone().requires_grad_(), target).backward()
        assert counted.count == sorts
