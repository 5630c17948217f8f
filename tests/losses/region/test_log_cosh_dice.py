import math

import monai.losses
import pytest
import torch
from region_reference import assert_equal, assert_is_formula, batch, value_and_gradient

from lightning_seg.losses import DiceLoss, LogCoshDiceLoss


@pytest.mark.parametrize("smooth", [0.0, 0.3, 1.0])
def test_it_is_the_log_cosh_of_the_dice_loss_of_each_class(smooth):
    def formula(tp, p, t, n):
        dice = 1 - (2 * tp + smooth) / (p + t + smooth)
        return ((dice.exp() + (-dice).exp()) / 2).log()

    assert_is_formula(lambda **options: LogCoshDiceLoss(smooth=smooth, **options), formula)


def test_it_is_the_log_cosh_of_the_classes_that_monai_gives():
    logits, target = batch("multiclass", void=False)
    dice = monai.losses.DiceLoss(
        softmax=True, to_onehot_y=True, batch=True, smooth_nr=1.0, smooth_dr=1.0, reduction="none"
    )
    assert_equal(
        lambda z: LogCoshDiceLoss()(z, target),
        lambda z: dice(z, target[:, None]).cosh().log().mean(),
        logits,
    )


def test_its_slope_is_tanh_of_the_dice_loss():
    logits, target = batch("binary")
    options = {"task": "binary", "ignore_index": 255}
    dice, of_dice = value_and_gradient(DiceLoss(**options), logits, target)
    value, gradient = value_and_gradient(LogCoshDiceLoss(**options), logits, target)
    assert value.item() == pytest.approx(math.log(math.cosh(dice.item())))
    torch.testing.assert_close(gradient, dice.tanh() * of_dice)


def test_it_is_at_most_log_cosh_of_one():
    target = torch.tensor([[0, 1, 1, 0]])
    logits = (torch.stack([target, 1 - target], 1) * 2.0 - 1) * 200
    assert LogCoshDiceLoss(smooth=0)(logits, target).item() == pytest.approx(math.log(math.cosh(1)))
    assert LogCoshDiceLoss(smooth=0)(-logits, target).item() == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"average": "weighted"}, "average='weighted' is neither macro nor micro"),
        ({"smooth": -1.0}, r"smooth=-1\.0 is not a finite number of 0 or more"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        LogCoshDiceLoss(**options)
