import pytest
import segmentation_models_pytorch.losses
import torch
from region_reference import assert_equal, assert_is_formula, batch, value_and_gradient

from lightning_seg.losses import FocalTverskyLoss, TverskyLoss


@pytest.mark.parametrize("gamma", [0.5, 1.0, 4 / 3, 3.0])
@pytest.mark.parametrize("smooth", [0.0, 1.0])
def test_it_is_the_tversky_loss_of_each_class_to_the_power_of_one_over_gamma(gamma, smooth):
    def formula(tp, p, t, n):
        return (1 - (tp + smooth) / (tp + 0.2 * (p - tp) + 0.9 * (t - tp) + smooth)) ** (1 / gamma)

    assert_is_formula(
        lambda **options: FocalTverskyLoss(alpha=0.2, beta=0.9, gamma=gamma, smooth=smooth, **options), formula
    )


def test_its_defaults_are_those_of_the_paper_with_alpha_for_false_positives():
    logits, target = batch("binary")
    tversky = TverskyLoss(alpha=0.3, beta=0.7, task="binary", ignore_index=255)(logits, target)
    value = FocalTverskyLoss(task="binary", ignore_index=255)(logits, target)
    torch.testing.assert_close(value, tversky**0.75)


def test_with_gamma_of_one_it_is_tversky():
    logits, target = batch("multiclass")
    options = {"alpha": 0.3, "beta": 0.7, "ignore_index": 255}
    assert_equal(
        lambda z: FocalTverskyLoss(gamma=1, **options)(z, target),
        lambda z: TverskyLoss(**options)(z, target),
        logits,
    )


def test_it_is_that_of_segmentation_models_pytorch_for_one_class():
    # Theirs calls the exponent itself gamma, and raises the mean over the classes to it.
    logits, target = batch("binary")
    shared = {"alpha": 0.3, "beta": 0.7, "smooth": 1.0, "ignore_index": 255}
    theirs = segmentation_models_pytorch.losses.TverskyLoss("binary", gamma=0.75, **shared)
    assert_equal(
        lambda z: FocalTverskyLoss(gamma=4 / 3, task="binary", **shared)(z, target),
        lambda z: theirs(z, target),
        logits,
    )
    logits, target = batch("multilabel")
    theirs = segmentation_models_pytorch.losses.TverskyLoss("multilabel", gamma=0.75, **shared)
    ours = FocalTverskyLoss(gamma=4 / 3, task="multilabel", **shared)
    assert not torch.isclose(ours(logits, target), theirs(logits, target))


@pytest.mark.parametrize("gamma", [0.5, 4 / 3, 3.0, 100.0])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("height", [0.0, 5.0, 10.0, 20.0, 40.0, 100.0])
def test_its_gradient_is_finite_up_to_a_loss_of_zero(gamma, dtype, height):
    target = torch.tensor([[0, 1, 1, 0, 1]])
    logits = (torch.stack([1 - target, target], 1) * 2 - 1).to(dtype) * height
    value, gradient = value_and_gradient(FocalTverskyLoss(gamma=gamma), logits, target)
    assert value.isfinite()
    assert gradient.isfinite().all()
    if height == 100:
        assert value < 1e-3 or gamma == 100
        assert gradient.abs().max() < 1e-2


def test_rounding_does_not_make_the_base_of_the_power_negative():
    torch.manual_seed(0)
    target = torch.randint(0, 2, (1, 10_000))
    for height in range(8, 40):
        logits = (torch.stack([1 - target, target], 1) * 2 - 1) * (height / 2 + torch.rand(1, 2, 10_000))
        assert FocalTverskyLoss(gamma=3.0, smooth=0.0)(logits, target).isfinite()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gamma": 0}, "gamma=0 must be more than 0"),
        ({"gamma": -1.0}, r"gamma=-1\.0 is not a finite number"),
        ({"gamma": None}, "gamma=None is not a finite number"),
        ({"alpha": -0.1}, r"alpha=-0\.1 is not a finite number of 0 or more"),
        ({"alpha": 0, "beta": 0}, "alpha=0 and beta=0 penalize no prediction"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        FocalTverskyLoss(**options)
