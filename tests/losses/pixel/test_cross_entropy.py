import pytest
import torch
import torch.nn.functional as F

from lightning_seg.losses import CrossEntropyLoss

WEIGHTS = [1.0, 0.5, 2.0, 0.0]


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
@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
@pytest.mark.parametrize("class_weights", [None, WEIGHTS])
def test_multiclass_is_that_of_torch(multiclass, reduction, label_smoothing, class_weights):
    logits, target = multiclass
    options = {"reduction": reduction, "label_smoothing": label_smoothing, "ignore_index": 255}
    weight = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float64)
    expected = F.cross_entropy(logits, target, weight=weight, **options)
    torch.testing.assert_close(CrossEntropyLoss(class_weights=class_weights, **options)(logits, target), expected)


@pytest.mark.parametrize("classes", [4, 40])
def test_classes_that_are_masked_by_minus_infinity_count_as_in_torch(classes):
    torch.manual_seed(0)
    logits = torch.randn(2, classes, 6, 5, dtype=torch.float64)
    logits[:, 2:4] = -torch.inf
    logits.requires_grad_()
    target = torch.randint(0, 2, (2, 6, 5))
    value, expected = CrossEntropyLoss()(logits, target), F.cross_entropy(logits, target)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(*(torch.autograd.grad(loss, logits)[0] for loss in (value, expected)))


def test_soft_targets_are_those_of_torch(multiclass):
    logits = multiclass[0]
    soft = torch.rand_like(logits).softmax(1)
    # torch divides by the number of pixels too, so long as there are no class weights.
    torch.testing.assert_close(CrossEntropyLoss()(logits, soft), F.cross_entropy(logits, soft))
    smooth = F.cross_entropy(logits, soft, label_smoothing=0.1, reduction="none")
    torch.testing.assert_close(CrossEntropyLoss(label_smoothing=0.1, reduction="none")(logits, soft), smooth)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
@pytest.mark.parametrize("class_weights", [None, [1.0, 0.5, 2.0, 4.0]])
def test_one_hot_soft_targets_give_what_their_labels_give(multiclass, label_smoothing, class_weights):
    logits, target = multiclass
    loss = CrossEntropyLoss(ignore_index=255, class_weights=class_weights, label_smoothing=label_smoothing)
    one_hot = F.one_hot(target.masked_fill(target == 255, 0), 4).movedim(-1, 1).double()
    one_hot.masked_fill_((target == 255).unsqueeze(1), 255)
    torch.testing.assert_close(loss(logits, one_hot), loss(logits, target))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_multilabel_is_the_bce_of_torch(multilabel, reduction):
    logits, target = multilabel
    expected = F.binary_cross_entropy_with_logits(logits, target.double(), reduction=reduction)
    loss = CrossEntropyLoss(task="multilabel", reduction=reduction)
    torch.testing.assert_close(loss(logits, target), expected)
    torch.testing.assert_close(loss(logits, target.double()), expected)


def test_multilabel_takes_probabilities_as_target(multilabel):
    logits = multilabel[0]
    soft = torch.rand_like(logits)
    expected = F.binary_cross_entropy_with_logits(logits, soft)
    torch.testing.assert_close(CrossEntropyLoss(task="multilabel")(logits, soft), expected)


def test_multilabel_class_weights_make_a_weighted_mean(multilabel):
    logits, target = multilabel
    each = F.binary_cross_entropy_with_logits(logits, target.double(), reduction="none").mean((0, 2, 3))
    weights = torch.tensor(WEIGHTS, dtype=torch.float64)
    value = CrossEntropyLoss(task="multilabel", class_weights=WEIGHTS)(logits, target)
    torch.testing.assert_close(value, (each * weights).sum() / weights.sum())


def test_multilabel_label_smoothing_moves_both_labels_towards_one_half(multilabel):
    logits, target = multilabel
    expected = F.binary_cross_entropy_with_logits(logits, target.double() * 0.8 + 0.1)
    torch.testing.assert_close(CrossEntropyLoss(task="multilabel", label_smoothing=0.2)(logits, target), expected)


@pytest.mark.parametrize("logits_shape", [(2, 6, 5), (2, 1, 6, 5)])
@pytest.mark.parametrize("target_shape", [(2, 6, 5), (2, 1, 6, 5)])
@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.float64])
def test_binary_takes_logits_and_target_with_or_without_a_channel(multilabel, logits_shape, target_shape, dtype):
    logits, target = multilabel[0][:, 0], multilabel[1][:, 0]
    expected = F.binary_cross_entropy_with_logits(logits, target.double(), reduction="none")
    loss = CrossEntropyLoss(task="binary", reduction="none")
    value = loss(logits.reshape(logits_shape), target.reshape(target_shape).to(dtype))
    torch.testing.assert_close(value, expected.reshape(target_shape))


def test_per_image_each_image_counts_alike_however_few_pixels_are_valid(multiclass):
    logits, target = multiclass
    target[0, :5] = 255
    single = [F.cross_entropy(logits[i : i + 1], target[i : i + 1], ignore_index=255) for i in range(2)]
    torch.testing.assert_close(CrossEntropyLoss(ignore_index=255, per_image=True)(logits, target), sum(single) / 2)


def test_a_class_of_weight_zero_alone_gives_zero_not_nan(multiclass):
    logits, target = multiclass
    loss = CrossEntropyLoss(class_weights=WEIGHTS)
    assert loss(logits, torch.full_like(target, 3)) == 0


def test_no_gradient_flows_into_soft_targets(multiclass):
    logits = multiclass[0].requires_grad_()
    soft = torch.rand_like(logits).softmax(1).requires_grad_()
    CrossEntropyLoss()(logits, soft).backward()
    assert soft.grad is None
