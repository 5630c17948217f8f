import monai.losses
import pytest
import segmentation_models_pytorch.losses
import torch
import torch.nn.functional as F
from region_reference import assert_equal, assert_is_formula, batch
from torchmetrics.functional.classification import multilabel_jaccard_index

from lightning_seg.losses import DiceLoss, JaccardLoss, TverskyLoss


@pytest.mark.parametrize("smooth", [0.0, 0.3, 1.0])
def test_it_is_one_minus_intersection_over_union(smooth):
    assert_is_formula(
        lambda **options: JaccardLoss(smooth=smooth, **options),
        lambda tp, p, t, n: 1 - (tp + smooth) / (p + t - tp + smooth),
    )


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("per_image", [False, True])
def test_it_is_that_of_monai(squared, per_image):
    # Theirs doubles the ratio, and not the smoothing.
    shared = {"jaccard": True, "squared_pred": squared, "batch": not per_image, "smooth_nr": 2.0, "smooth_dr": 2.0}
    logits, target = batch("multiclass", void=False)
    assert_equal(
        lambda z: JaccardLoss(squared=squared, per_image=per_image)(z, target),
        lambda z: monai.losses.DiceLoss(softmax=True, to_onehot_y=True, **shared)(z, target[:, None]),
        logits,
    )
    logits, target = batch("multilabel", void=False)
    assert_equal(
        lambda z: JaccardLoss(task="multilabel", squared=squared, per_image=per_image)(z, target),
        lambda z: monai.losses.DiceLoss(sigmoid=True, **shared)(z, target.double()),
        logits,
    )


@pytest.mark.parametrize("task", ["multiclass", "multilabel", "binary"])
def test_it_is_that_of_segmentation_models_pytorch_where_every_class_is_present(task):
    logits, target = batch(task)
    theirs = segmentation_models_pytorch.losses.JaccardLoss(task, smooth=0.7, ignore_index=255)
    assert_equal(
        lambda z: JaccardLoss(task=task, smooth=0.7, ignore_index=255)(z, target),
        lambda z: theirs(z, target),
        logits,
    )


def test_in_segmentation_models_pytorch_an_absent_class_takes_from_the_loss_of_the_others():
    logits, target = batch("multiclass", void=False)
    target = target.clamp(max=2)
    theirs = segmentation_models_pytorch.losses.JaccardLoss("multiclass")(logits, target)
    present = JaccardLoss(smooth=0, classes="present")(logits, target)
    torch.testing.assert_close(theirs, present * 3 / 4)
    assert JaccardLoss(smooth=0)(logits, target) > present


def test_of_hard_predictions_it_is_the_jaccard_index_of_torchmetrics():
    logits, target = batch("multilabel")
    index = multilabel_jaccard_index(logits.sigmoid(), target, num_labels=4, ignore_index=255)
    value = JaccardLoss(task="multilabel", smooth=0, ignore_index=255)(logits.sign() * 500, target)
    assert value.item() == pytest.approx(1 - index.item(), abs=1e-6)


def test_it_has_its_closed_value_for_constant_probabilities():
    logits, target = torch.zeros(1, 2, 10), torch.tensor([[0] * 7 + [1] * 3])
    # p = 1/2 everywhere: TP = 7/2 and 3/2, P = 5, T = 7 and 3.
    expected = (1 - 3.5 / 8.5 + 1 - 1.5 / 6.5) / 2
    assert JaccardLoss(smooth=0)(logits, target).item() == pytest.approx(expected)


def test_it_is_tversky_of_whole_errors_and_follows_from_dice():
    logits, target = batch("multiclass")
    options = {"ignore_index": 255, "smooth": 0.4}
    assert_equal(
        lambda z: JaccardLoss(**options)(z, target),
        lambda z: TverskyLoss(alpha=1, beta=1, **options)(z, target),
        logits,
    )
    options = {"ignore_index": 255, "smooth": 0, "classes": [2]}
    dice = DiceLoss(**options)(logits, target)
    torch.testing.assert_close(JaccardLoss(**options)(logits, target), 2 * dice / (1 + dice))


def test_without_smoothing_an_absent_class_that_nothing_predicts_costs_nothing():
    logits = torch.tensor([[[200.0, 200.0], [-200.0, -200.0]]], requires_grad=True)
    value = JaccardLoss(smooth=0)(logits, torch.zeros(1, 2, dtype=torch.int64))
    value.backward()
    assert value.item() == 0
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("task", ["multiclass", "multilabel", "binary"])
@pytest.mark.parametrize("smooth", [0.0, 1.0])
def test_the_squared_form_is_the_squared_distance_to_soft_targets(task, smooth):
    logits, _ = batch(task)
    void = torch.zeros(3, 1, 6, 5, dtype=torch.bool)
    void[:, :, :2] = True
    other = (1.3 * logits.flip(2)).softmax(1) if task == "multiclass" else (1.3 * logits.flip(2)).sigmoid()

    def theirs(z):
        p, t = ((z.softmax(1) if task == "multiclass" else z.sigmoid())[:, :, 2:], other[:, :, 2:])
        distance, overlap = (p - t).square().sum((0, 2, 3)), (p * t).sum((0, 2, 3))
        return (distance / (distance + overlap + smooth)).mean()

    loss = JaccardLoss(squared=True, smooth=smooth, task=task, ignore_index=255)
    assert_equal(lambda z: loss(z, other.masked_fill(void, 255)), theirs, logits)


def test_the_squared_form_is_least_where_soft_target_and_prediction_agree():
    logits, _ = batch("multiclass")
    loss = JaccardLoss(squared=True)
    assert loss(logits, logits.softmax(1)).item() == pytest.approx(0, abs=1e-12)
    assert loss(logits, (1.1 * logits).softmax(1)) > 1e-6


def test_the_squared_form_takes_hard_targets_as_one_hot():
    logits, target = batch("multiclass", void=False)
    one_hot = F.one_hot(target, 4).movedim(-1, 1).double()
    loss = JaccardLoss(squared=True)
    assert_equal(lambda z: loss(z, target), lambda z: loss(z, one_hot), logits)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"average": "weighted"}, "average='weighted' is neither macro nor micro"),
        ({"smooth": -1.0}, r"smooth=-1\.0 is not a finite number of 0 or more"),
        ({"task": "binary", "class_weights": [1.0]}, "the binary task has one"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        JaccardLoss(**options)
