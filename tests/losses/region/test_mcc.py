import math

import pytest
import segmentation_models_pytorch.losses
import torch
from region_reference import assert_equal, assert_is_formula, batch, value_and_gradient
from torchmetrics.functional.classification import binary_matthews_corrcoef

from lightning_seg.losses import MCCLoss


@pytest.mark.parametrize("smooth", [0.0, 0.3, 1.0])
def test_it_is_one_minus_the_coefficient_of_the_table_with_more_right_pixels(smooth):
    def formula(tp, p, t, n):
        tn, fp, fn = n - p - t + tp + smooth, p - tp, t - tp
        tp = tp + smooth
        return 1 - (tp * tn - fp * fn) / ((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)).sqrt()

    assert_is_formula(lambda **options: MCCLoss(smooth=smooth, **options), formula)


def test_without_smoothing_it_is_one_minus_the_covariance_over_the_deviations():
    logits, target = batch("binary", void=False)

    def theirs(z):
        p, t = z.sigmoid().mean(), target.double().mean()
        covariance = (z.sigmoid() * target).mean() - p * t
        return 1 - covariance / (p * (1 - p) * t * (1 - t)).sqrt()

    assert_equal(lambda z: MCCLoss(task="binary", smooth=0)(z, target), theirs, logits)


def test_it_is_that_of_segmentation_models_pytorch():
    # Theirs takes probabilities, and has no void pixels.
    logits, target = batch("binary", void=False)
    theirs = segmentation_models_pytorch.losses.MCCLoss(eps=0.0)
    assert_equal(
        lambda z: MCCLoss(task="binary", smooth=0)(z, target), lambda z: theirs(z.sigmoid(), target.double()), logits
    )


def test_in_segmentation_models_pytorch_a_perfect_prediction_of_nothing_costs_one_half():
    target = torch.zeros(1, 1, 6, 5, dtype=torch.int64)
    theirs = segmentation_models_pytorch.losses.MCCLoss()(target.double(), target.double())
    assert theirs.item() == pytest.approx(0.5, abs=1e-5)
    assert MCCLoss(task="binary")(torch.full((1, 1, 6, 5), -200.0), target) == 0


def test_of_hard_predictions_it_is_the_coefficient_of_torchmetrics():
    logits, target = batch("binary")
    coefficient = binary_matthews_corrcoef(logits.sigmoid(), target, ignore_index=255)
    value = MCCLoss(task="binary", smooth=0, ignore_index=255)(logits.sign() * 500, target)
    assert value.item() == pytest.approx(1 - coefficient.item(), abs=1e-6)


def test_zero_is_right_one_is_unrelated_and_two_is_the_opposite():
    target = torch.tensor([[0, 0, 1, 1]])
    for logits, expected in (([-1, -1, 1, 1], 0), ([-1, 1, -1, 1], 1), ([1, 1, -1, -1], 2)):
        value = MCCLoss(task="binary", smooth=0)(torch.tensor([logits]) * 200.0, target)
        assert value.item() == pytest.approx(expected)
    assert MCCLoss(task="binary", smooth=0)(torch.zeros(1, 4), target) == 1


@pytest.mark.parametrize("smooth", [0.0, 1.0])
def test_a_class_and_its_complement_have_the_same_loss(smooth):
    logits, target = batch("binary")
    flipped = (1 - target).where(target != 255, 255)
    loss = MCCLoss(task="binary", smooth=smooth, ignore_index=255)
    assert_equal(lambda z: loss(z, target), lambda z: loss(-z, flipped), logits)
    two = torch.cat([-logits / 2, logits / 2], 1)
    torch.testing.assert_close(
        MCCLoss(smooth=smooth, ignore_index=255)(two, target[:, 0]), loss(logits, target), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("label", [0, 1])
def test_false_positives_of_a_class_that_no_pixel_has_cost_and_so_for_every_pixel(label):
    target = torch.full((1, 6, 5), label)
    for height, smooth in ((0.0, 1.0), (-2.0, 0.5), (-30.0, 1.0)):
        logits = torch.full((1, 6, 5), -height if label else height, dtype=torch.float64)
        wrong = 30 / (1 + math.exp(-height))
        value, gradient = value_and_gradient(MCCLoss(task="binary", smooth=smooth), logits, target)
        expected = 1 - math.sqrt(smooth * (30 - wrong + smooth) / ((wrong + smooth) * (30 + smooth)))
        assert value.item() == pytest.approx(expected, abs=1e-12)
        assert gradient.isfinite().all()
        assert (gradient < 0 if label else gradient > 0).all()


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("predicted", [0, 1])
@pytest.mark.parametrize("smooth", [0.0, 1e-6, 1.0])
def test_a_constant_prediction_of_a_constant_target_is_right_or_wrong(label, predicted, smooth):
    target = torch.full((1, 6, 5), label)
    logits = torch.full((1, 6, 5), 800.0 if predicted else -800.0)
    value, gradient = value_and_gradient(MCCLoss(task="binary", smooth=smooth), logits, target)
    # Of wrong predictions 30 are wrong; the table is then (s, 30; 0, s).
    expected = 0 if label == predicted else 1 - smooth / (30 + smooth)
    assert value.item() == pytest.approx(expected, abs=1e-6)
    assert gradient.isfinite().all()


def test_without_smoothing_a_constant_prediction_of_two_classes_costs_one():
    target = torch.tensor([[0, 0, 1, 1]])
    for height in (800.0, -800.0):
        value, gradient = value_and_gradient(
            MCCLoss(task="binary", smooth=0), torch.full((1, 4), height, dtype=torch.float64), target
        )
        assert value == 1
        assert gradient.isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"average": "weighted"}, "average='weighted' is neither macro nor micro"),
        ({"smooth": -1.0}, r"smooth=-1\.0 is not a finite number of 0 or more"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MCCLoss(**options)
