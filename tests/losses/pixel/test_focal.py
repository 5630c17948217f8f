import math

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import sigmoid_focal_loss

from lightning_seg.losses import CrossEntropyLoss, FocalLoss


@pytest.fixture
def multiclass():
    torch.manual_seed(0)
    logits, target = 3 * torch.randn(2, 4, 6, 5, dtype=torch.float64), torch.randint(0, 4, (2, 6, 5))
    target[torch.rand(2, 6, 5) < 0.3] = 255
    return logits, target


@pytest.fixture
def multilabel():
    torch.manual_seed(1)
    return 3 * torch.randn(2, 4, 6, 5, dtype=torch.float64), torch.randint(0, 2, (2, 4, 6, 5))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("alpha", [None, 0.25, 0.0, 1])
@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0, 3.5])
def test_sigmoid_form_is_that_of_torchvision(multilabel, reduction, alpha, gamma):
    logits, target = multilabel
    theirs = -1 if alpha is None else alpha
    expected = sigmoid_focal_loss(logits, target.double(), alpha=theirs, gamma=gamma, reduction=reduction)
    loss = FocalLoss(task="multilabel", gamma=gamma, alpha=alpha, reduction=reduction)
    torch.testing.assert_close(loss(logits, target), expected)
    binary = FocalLoss(task="binary", gamma=gamma, alpha=alpha, reduction="none")(logits[:, :1], target[:, 0])
    expected = sigmoid_focal_loss(logits[:, 0], target[:, 0].double(), alpha=theirs, gamma=gamma)
    torch.testing.assert_close(binary, expected)


@pytest.mark.parametrize("alpha", [None, [1.0, 0.5, 2.0, 0.25]])
def test_softmax_form_is_the_formula_pixel_by_pixel(multiclass, alpha):
    logits, target = multiclass
    terms = []
    for n, i, j in torch.nonzero(target != 255).tolist():
        label = int(target[n, i, j])
        p = math.exp(logits[n, label, i, j]) / sum(math.exp(z) for z in logits[n, :, i, j])
        terms.append(-(alpha[label] if alpha else 1) * (1 - p) ** 1.5 * math.log(p))
    value = FocalLoss(gamma=1.5, alpha=alpha, ignore_index=255)(logits, target)
    assert value.item() == pytest.approx(sum(terms) / len(terms))


@pytest.mark.parametrize("class_weights", [None, [1.0, 0.5, 2.0, 0.25]])
def test_gamma_0_is_cross_entropy_whatever_the_number_of_classes(multiclass, class_weights):
    options = {"ignore_index": 255, "class_weights": class_weights}
    expected = CrossEntropyLoss(**options)(*multiclass)
    torch.testing.assert_close(FocalLoss(gamma=0, **options)(*multiclass), expected)


def test_two_class_softmax_is_the_sigmoid_of_the_difference(multiclass):
    logits, target = multiclass[0][:, :2], multiclass[1] % 2
    binary = FocalLoss(task="binary", alpha=0.25)(logits[:, 1] - logits[:, 0], target)
    torch.testing.assert_close(FocalLoss(alpha=[0.75, 0.25])(logits, target), binary)


@pytest.mark.parametrize("gamma", [0.1, 0.5, 1.0, 2.0])
def test_a_saturated_pixel_has_a_finite_gradient(gamma):
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    value = FocalLoss(gamma=gamma)(logits, torch.tensor([0, 0]))
    value.backward()
    torch.testing.assert_close(value.detach(), torch.tensor(200.0))
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_class_weights_enter_the_divisor_and_alpha_does_not(multiclass):
    logits, target = multiclass
    target = target % 4
    weights = torch.tensor([1.0, 0.5, 2.0, 0.25], dtype=torch.float64)
    plain = FocalLoss(reduction="none")(logits, target)
    weighted = (weights[target] * plain).sum()
    by_weight = FocalLoss(class_weights=weights.tolist())(logits, target)
    torch.testing.assert_close(by_weight, weighted / weights[target].sum())
    torch.testing.assert_close(FocalLoss(alpha=weights.tolist())(logits, target), weighted / target.numel())


def test_one_number_as_alpha_is_refused_for_several_classes():
    with pytest.raises(ValueError, match=r"alpha=0.25 is ambiguous for several classes; give a list"):
        FocalLoss(alpha=0.25)


@pytest.mark.parametrize("alpha", [1.5, -0.1, [0.2, 0.8], "a", True])
def test_binary_alpha_must_be_a_number_from_0_to_1(alpha):
    with pytest.raises(ValueError, match=r"is not a number from 0 to 1, the weight of label 1"):
        FocalLoss(task="binary", alpha=alpha)


def test_ignored_pixels_do_not_dilute_the_mean(multiclass):
    logits, target = multiclass
    valid = target != 255
    p = F.softmax(logits, 1).movedim(1, -1)[valid].gather(1, target[valid][:, None])
    expected = -((1 - p) ** 2 * p.log()).mean()
    torch.testing.assert_close(FocalLoss(ignore_index=255)(logits, target), expected)
