import monai.losses
import pytest
import segmentation_models_pytorch.losses
import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_seg.losses import DiceLoss

WEIGHTS = [1.0, 0.5, 2.0, 0.25]


@pytest.fixture
def multiclass():
    torch.manual_seed(0)
    return 2 * torch.randn(3, 4, 6, 5, dtype=torch.float64), torch.randint(0, 4, (3, 6, 5))


@pytest.fixture
def multilabel():
    torch.manual_seed(1)
    return 2 * torch.randn(3, 4, 6, 5, dtype=torch.float64), torch.randint(0, 2, (3, 4, 6, 5))


def class_sums(logits: Tensor, target: Tensor, squared: bool = False) -> list[tuple[float, float, float]]:
    """TP, P and T of each class, over the pixels that are not 255, by boolean indexing."""
    sums = []
    for label in range(logits.shape[1]):
        valid = target != 255
        p = logits.softmax(1)[:, label][valid]
        t = (target[valid] == label).double()
        sums.append(((p * t).sum().item(), (p**2 if squared else p).sum().item(), t.sum().item()))
    return sums


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("smooth", [0.0, 0.3, 1.0])
def test_macro_is_the_mean_of_the_formula_over_classes(multiclass, squared, smooth):
    logits, target = multiclass
    target[:, :2] = 255
    each = [1 - (2 * tp + smooth) / (p + t + smooth) for tp, p, t in class_sums(logits, target, squared)]
    value = DiceLoss(smooth=smooth, squared=squared, ignore_index=255)(logits, target)
    assert value.item() == pytest.approx(sum(each) / 4)
    weighted = DiceLoss(smooth=smooth, squared=squared, ignore_index=255, class_weights=WEIGHTS)(logits, target)
    assert weighted.item() == pytest.approx(sum(w * d for w, d in zip(WEIGHTS, each, strict=True)) / sum(WEIGHTS))
    some = DiceLoss(smooth=smooth, squared=squared, ignore_index=255, classes=[3, 1])(logits, target)
    assert some.item() == pytest.approx((each[1] + each[3]) / 2)


@pytest.mark.parametrize("classes", ["all", [0, 2]])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_micro_is_one_ratio_of_the_summed_statistics(multiclass, classes, weights):
    logits, target = multiclass
    target[:, :2] = 255
    chosen = range(4) if classes == "all" else classes
    sums = class_sums(logits, target)
    tp, p, t = (sum((weights[c] if weights else 1) * sums[c][k] for c in chosen) for k in range(3))
    loss = DiceLoss(average="micro", classes=classes, class_weights=weights, ignore_index=255)
    assert loss(logits, target).item() == pytest.approx(1 - (2 * tp + 1) / (p + t + 1))


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("per_image", [False, True])
def test_it_is_that_of_monai(multiclass, multilabel, squared, per_image):
    shared = {"squared_pred": squared, "batch": not per_image, "smooth_nr": 1.0, "smooth_dr": 1.0}
    logits, target = multiclass
    theirs = monai.losses.DiceLoss(softmax=True, to_onehot_y=True, **shared)(logits, target[:, None])
    torch.testing.assert_close(DiceLoss(squared=squared, per_image=per_image)(logits, target), theirs.double())
    logits, target = multilabel
    theirs = monai.losses.DiceLoss(sigmoid=True, **shared)(logits, target.double())
    ours = DiceLoss(task="multilabel", squared=squared, per_image=per_image)(logits, target)
    torch.testing.assert_close(ours, theirs.double())
    theirs = monai.losses.DiceLoss(sigmoid=True, **shared)(logits[:, :1], target[:, :1].double())
    ours = DiceLoss(task="binary", squared=squared, per_image=per_image)(logits[:, 0], target[:, 0])
    torch.testing.assert_close(ours, theirs.double())


def test_it_is_that_of_segmentation_models_pytorch(multiclass):
    theirs = segmentation_models_pytorch.losses.DiceLoss("multiclass", smooth=0.35)  # theirs counts it twice
    torch.testing.assert_close(DiceLoss(smooth=0.7)(*multiclass), theirs(*multiclass))


def test_the_linear_form_has_its_closed_value_for_constant_probabilities():
    logits, target = torch.zeros(1, 2, 10), torch.tensor([[0] * 7 + [1] * 3])
    # p = 1/2 everywhere: TP = 7/2 and 3/2, P = 5, T = 7 and 3.
    expected = (1 - 7 / 12 + 1 - 3 / 8) / 2
    assert DiceLoss(smooth=0)(logits, target).item() == pytest.approx(expected)


def test_an_absent_class_costs_its_false_positives_with_all_and_nothing_with_present():
    logits = torch.tensor([[[9.0, -9.0], [-9.0, 9.0], [-9.0, 0.0]]], dtype=torch.float64)
    target = torch.tensor([[0, 1]])
    p = logits.softmax(1)[0]
    present = [1 - (2 * p[c, c] + 1) / (p[c].sum() + 2) for c in (0, 1)]
    absent = 1 - 1 / (p[2].sum() + 1)
    torch.testing.assert_close(DiceLoss(classes="present")(logits, target), sum(present) / 2)
    torch.testing.assert_close(DiceLoss(classes="all")(logits, target), (sum(present) + absent) / 3)


def test_present_does_not_depend_on_how_many_absent_classes_there_are():
    torch.manual_seed(0)
    logits, target = torch.randn(1, 2, 30), torch.randint(0, 2, (1, 30))
    wide = torch.cat([logits, torch.full((1, 17, 30), -200.0)], 1)
    torch.testing.assert_close(DiceLoss(classes="present")(wide, target), DiceLoss(classes="present")(logits, target))


def test_without_smoothing_an_absent_class_that_nothing_predicts_costs_nothing():
    logits = torch.tensor([[[200.0, 200.0], [-200.0, -200.0]]], requires_grad=True)
    value = DiceLoss(smooth=0)(logits, torch.zeros(1, 2, dtype=torch.int64))
    value.backward()
    assert value.item() == 0
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("probability", [0.5, 1e-3, 0.999])
@pytest.mark.parametrize("pixels", [1, 20, 400])
def test_smoothing_does_not_freeze_an_object_of_few_pixels(pixels, probability):
    # Undecided, all missed, or nearly right: its pixels are drawn on at least half as hard as without smoothing.
    target = torch.arange(4096).lt(pixels).long().view(1, 64, 64)
    p = torch.where(target == 1, probability, min(probability, 1 - probability))
    smoothed, plain = (torch.logit(p).requires_grad_() for _ in range(2))
    DiceLoss(task="binary")(smoothed, target).backward()
    DiceLoss(task="binary", smooth=0)(plain, target).backward()
    drawn, drawn_plainly = (-logits.grad[target == 1] for logits in (smoothed, plain))
    assert drawn_plainly.gt(0).all()
    assert drawn.ge(drawn_plainly / 2).all()


def test_one_hot_soft_targets_give_what_their_labels_give(multiclass):
    logits, target = multiclass
    one_hot = F.one_hot(target, 4).movedim(-1, 1).double()
    one_hot[0, :, 0] = 255
    target[0, 0] = 255
    for squared in (False, True):
        loss = DiceLoss(squared=squared, ignore_index=255)
        torch.testing.assert_close(loss(logits, one_hot), loss(logits, target))


def test_the_squared_form_is_least_where_soft_target_and_prediction_agree(multiclass):
    logits = multiclass[0]
    loss = DiceLoss(squared=True)
    assert loss(logits, logits.softmax(1)).item() == pytest.approx(0, abs=1e-12)
    assert loss(logits, (1.1 * logits).softmax(1)) > 1e-6


def test_half_precision_sums_over_many_pixels_neither_overflow_nor_stop():
    target = torch.zeros(2, 512, 512, dtype=torch.uint8)
    logits = torch.zeros(2, 2, 512, 512, dtype=torch.float16, requires_grad=True)
    value = DiceLoss(smooth=0)(logits, target)
    value.backward()
    # p = 1/2: the present class has TP = P = n/2 and T = n, the absent one a loss of 1.
    assert value.item() == pytest.approx((1 / 3 + 1) / 2)
    assert logits.grad is not None
    assert logits.grad.abs().sum() > 0


def test_counts_do_not_stop_at_2_to_the_24():
    count = 2**24 + 2**20
    logits, target = torch.zeros(1, 2, 1).expand(1, 2, count), torch.zeros(1, count, dtype=torch.uint8)
    assert DiceLoss(smooth=0)(logits, target).item() == pytest.approx((1 / 3 + 1) / 2, rel=1e-6)


def test_per_image_and_batch_differ_when_classes_are_uneven(multiclass):
    logits, target = multiclass
    target[0] = 0
    assert not torch.isclose(DiceLoss()(logits, target), DiceLoss(per_image=True)(logits, target))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"average": "weighted"}, "average='weighted' is neither macro nor micro"),
        ({"smooth": -1.0}, "smooth=-1.0 is not a finite number of 0 or more"),
        ({"smooth": None}, "smooth=None is not a finite number"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        DiceLoss(**options)
