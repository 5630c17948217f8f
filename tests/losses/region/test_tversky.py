import kornia
import monai.losses
import pytest
import segmentation_models_pytorch.losses
import torch
from packaging.version import Version
from region_reference import assert_equal, assert_is_formula, batch

from lightning_seg.losses import DiceLoss, FocalTverskyLoss, TverskyLoss

weights = pytest.mark.parametrize(("alpha", "beta"), [(0.5, 0.5), (0.3, 0.7), (2.0, 0.0), (0.0, 1.0)])


@weights
@pytest.mark.parametrize("smooth", [0.0, 0.3, 1.0])
def test_it_is_one_minus_the_tversky_index(alpha, beta, smooth):
    assert_is_formula(
        lambda **options: TverskyLoss(alpha=alpha, beta=beta, smooth=smooth, **options),
        lambda tp, p, t, n: 1 - (tp + smooth) / (tp + alpha * (p - tp) + beta * (t - tp) + smooth),
    )


@weights
@pytest.mark.parametrize("per_image", [False, True])
def test_it_is_that_of_monai(alpha, beta, per_image):
    logits, target = batch("multiclass", void=False)
    shared = {"alpha": alpha, "beta": beta, "batch": not per_image, "smooth_nr": 1.0, "smooth_dr": 1.0}
    assert_equal(
        lambda z: TverskyLoss(alpha=alpha, beta=beta, per_image=per_image)(z, target),
        lambda z: monai.losses.TverskyLoss(softmax=True, to_onehot_y=True, **shared)(z, target[:, None]),
        logits,
    )


@weights
@pytest.mark.parametrize("task", ["multiclass", "multilabel", "binary"])
def test_it_is_that_of_segmentation_models_pytorch(alpha, beta, task):
    logits, target = batch(task)
    theirs = segmentation_models_pytorch.losses.TverskyLoss(task, alpha=alpha, beta=beta, smooth=0.7, ignore_index=255)
    assert_equal(
        lambda z: TverskyLoss(alpha=alpha, beta=beta, smooth=0.7, task=task, ignore_index=255)(z, target),
        lambda z: theirs(z, target),
        logits,
    )


@weights
@pytest.mark.skipif(Version(kornia.__version__) < Version("0.9"), reason="older ones read only alpha + beta")
def test_it_is_that_of_kornia_for_the_classes_of_each_image(alpha, beta):
    logits, target = batch("multiclass")
    target[0] = target[0].where(target[0] != 3, 1)
    loss = TverskyLoss(alpha=alpha, beta=beta, smooth=0, classes="present", per_image=True, ignore_index=255)
    assert_equal(
        lambda z: loss(z, target),
        lambda z: kornia.losses.tversky_loss(z, target, alpha, beta, eps=0.0, ignore_index=255),
        logits,
    )


def test_alpha_weighs_false_positives_and_beta_false_negatives():
    # Class of the binary task: one pixel hit, two too many, three missed.
    target = torch.tensor([[1, 0, 0, 1, 1, 1, 0]])
    logits = torch.tensor([[1.0, 1, 1, -1, -1, -1, -1]]) * 200
    for alpha, beta in ((0.3, 0.7), (0.7, 0.3), (1.0, 0.0), (0.0, 1.0)):
        value = TverskyLoss(alpha=alpha, beta=beta, smooth=0, task="binary")(logits, target)
        assert value.item() == pytest.approx(1 - 1 / (1 + 2 * alpha + 3 * beta))


@pytest.mark.parametrize("task", ["multiclass", "multilabel", "binary"])
def test_swapping_alpha_and_beta_changes_value_and_gradient(task):
    logits, target = batch(task)
    logits = (logits + 1).requires_grad_()
    one, other = (TverskyLoss(alpha=a, beta=1 - a, task=task, ignore_index=255)(logits, target) for a in (0.3, 0.7))
    assert (one - other).abs() > 1e-3
    (one_gradient,), (other_gradient,) = (torch.autograd.grad(value, logits) for value in (one, other))
    assert (one_gradient - other_gradient).norm() > 0.1 * one_gradient.norm()


def test_over_all_classes_of_the_multiclass_task_micro_reads_only_their_sum():
    logits, target = batch("multiclass")
    one, other = (
        TverskyLoss(alpha=a, beta=1 - a, average="micro", ignore_index=255)(logits, target) for a in (0.3, 0.7)
    )
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize("task", ["multiclass", "multilabel", "binary"])
def test_with_one_half_of_either_error_it_is_dice(task):
    logits, target = batch(task)
    options = {"task": task, "ignore_index": 255}
    assert_equal(
        lambda z: TverskyLoss(smooth=0.5, **options)(z, target),
        lambda z: DiceLoss(smooth=1.0, **options)(z, target),
        logits,
    )


def test_false_positives_of_an_absent_class_cost_alpha():
    logits = torch.tensor([[0.0, 0.0, 0.0]], dtype=torch.float64)
    target = torch.zeros(1, 3, dtype=torch.int64)
    # P = 3/2.
    value = TverskyLoss(alpha=0.4, beta=0.6, task="binary")(logits, target)
    assert value.item() == pytest.approx(1 - 1 / (0.4 * 1.5 + 1))
    assert TverskyLoss(alpha=0, beta=1, smooth=0, task="binary")(logits, target) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": -0.1}, r"alpha=-0\.1 is not a finite number of 0 or more"),
        ({"beta": float("inf")}, "beta=inf is not a finite number of 0 or more"),
        ({"alpha": 0, "beta": 0}, "alpha=0 and beta=0 penalize no prediction"),
        ({"smooth": -1.0}, r"smooth=-1\.0 is not a finite number of 0 or more"),
        ({"average": "weighted"}, "average='weighted' is neither macro nor micro"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TverskyLoss(**options)


@pytest.mark.parametrize(("make", "former"), [(TverskyLoss, (0.5, 0.5)), (FocalTverskyLoss, (0.3, 0.7))])
@pytest.mark.parametrize("given", [{}, {"alpha": 0.9}, {"beta": 0.2}])
def test_weights_that_are_left_out_are_still_those_of_the_former_release_with_a_warning(make, former, given):
    with pytest.warns(FutureWarning, match=f"^{make.__name__} will need alpha and beta .*give alpha=") as warned:
        loss = make(**given)
    assert (loss.alpha, loss.beta) == (given.get("alpha", former[0]), given.get("beta", former[1]))
    assert warned[0].filename == __file__
