import monai.losses
import pytest
import torch
from region_reference import TASKS, WEIGHTS, assert_equal, batch, class_sums, value_and_gradient

from lightning_seg.losses import DiceLoss, GeneralizedDiceLoss


def generalized_dice(logits, target, task, classes=None, class_weights=None):
    """The formula of the paper, with weights 1/T², of classes that are present."""
    over = under = 0
    for c, (tp, p, t, _) in enumerate(class_sums(logits, target, task)):
        if classes is None or c in classes:
            weight = (class_weights[c] if class_weights else 1.0) / t**2
            over, under = over + weight * tp, under + weight * (p + t)
    return 1 - 2 * over / under


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("options", [{}, {"classes": [3, 1]}, {"class_weights": WEIGHTS}])
def test_without_smoothing_it_is_the_formula_of_the_paper(task, options):
    if task == "binary" and options:
        pytest.skip("the binary task has one class")
    logits, target = batch(task)
    loss = GeneralizedDiceLoss(smooth=0, task=task, ignore_index=255, **options)
    assert_equal(lambda z: loss(z, target), lambda z: generalized_dice(z, target, task, **options), logits)


def test_smoothing_is_in_pixels_of_the_rarest_class():
    logits, target = batch("multiclass")
    sums = class_sums(logits, target, "multiclass")
    rarest = min(t for _, _, t, _ in sums)
    over = sum(tp * (rarest / t) ** 2 for tp, _, t, _ in sums)
    under = sum((p + t) * (rarest / t) ** 2 for _, p, t, _ in sums)
    value = GeneralizedDiceLoss(smooth=0.7, ignore_index=255)(logits, target)
    torch.testing.assert_close(value, 1 - (2 * over + 0.7) / (under + 0.7))


@pytest.mark.parametrize("smooth", [0.0, 1.0])
@pytest.mark.parametrize("per_image", [False, True])
def test_of_one_class_it_is_dice(smooth, per_image):
    logits, target = batch("binary")
    target[2] = 0
    options = {"task": "binary", "smooth": smooth, "per_image": per_image, "ignore_index": 255}
    assert_equal(lambda z: GeneralizedDiceLoss(**options)(z, target), lambda z: DiceLoss(**options)(z, target), logits)


def test_of_classes_of_one_size_it_is_micro_dice():
    logits, _ = batch("multiclass", void=False)
    target = torch.arange(4).repeat(24)[:90].view(3, 6, 5)
    target[target == 0] = 255
    target[target == 1] = 255
    loss = GeneralizedDiceLoss(classes=[2, 3], ignore_index=255)
    micro = DiceLoss(average="micro", classes=[2, 3], ignore_index=255)
    assert (target == 2).sum() == (target == 3).sum()
    assert_equal(lambda z: loss(z, target), lambda z: micro(z, target), logits)


@pytest.mark.parametrize("per_image", [False, True])
@pytest.mark.parametrize("absent", [False, True])
def test_it_is_that_of_monai(per_image, absent):
    # Their weights are float32 in float64, too.
    theirs = monai.losses.GeneralizedDiceLoss(
        softmax=True, to_onehot_y=True, batch=not per_image, smooth_nr=0.0, smooth_dr=0.0
    )
    logits, target = batch("multiclass", void=False)
    if absent:
        target = target.where(target != 1, 0)
        target[0] = target[0].clamp(max=2)
    assert_equal(
        lambda z: GeneralizedDiceLoss(smooth=0, per_image=per_image)(z, target),
        lambda z: theirs(z, target[:, None]),
        logits,
        rtol=1e-5,
        atol=1e-8,
    )


def test_in_monai_false_positives_cost_nothing_where_there_is_no_foreground():
    logits, target = torch.full((1, 1, 6, 5), 2.0, dtype=torch.float64), torch.zeros(1, 1, 6, 5, dtype=torch.int64)
    assert monai.losses.GeneralizedDiceLoss(sigmoid=True)(logits, target.double()) == 0
    assert GeneralizedDiceLoss(task="binary")(logits, target) > 0.9
    assert GeneralizedDiceLoss(task="binary")(logits - 100, target) < 1e-9


def test_the_weights_do_not_cancel():
    logits, target = batch("multiclass")
    target[:, 1:] = target[:, 1:].where(target[:, 1:] == 255, 0)
    loss = GeneralizedDiceLoss(ignore_index=255)(logits, target)
    micro = DiceLoss(average="micro", ignore_index=255)(logits, target)
    assert (loss - micro).abs() > 0.1


@pytest.mark.parametrize("smooth", [0.0, 1.0])
def test_absent_classes_weigh_as_much_as_the_rarest_present_one(smooth):
    logits, target = batch("multiclass")
    target = target.where(target != 1, 255)
    sums = class_sums(logits, target, "multiclass")
    rarest = min(t for _, _, t, _ in sums if t > 0)
    weights = [1 if t == 0 else (rarest / t) ** 2 for _, _, t, _ in sums]
    over = sum(weight * tp for weight, (tp, _, _, _) in zip(weights, sums, strict=True))
    under = sum(weight * (p + t) for weight, (_, p, t, _) in zip(weights, sums, strict=True))
    value = GeneralizedDiceLoss(smooth=smooth, ignore_index=255)(logits, target)
    torch.testing.assert_close(value, 1 - (2 * over + smooth) / (under + smooth))
    present = GeneralizedDiceLoss(smooth=smooth, classes="present", ignore_index=255)(logits, target)
    left = GeneralizedDiceLoss(smooth=smooth, classes=[0, 2, 3], ignore_index=255)(logits, target)
    torch.testing.assert_close(present, left)


@pytest.mark.parametrize("classes", ["all", "present", [1], [1, 3]])
@pytest.mark.parametrize("smooth", [0.0, 1.0])
def test_where_no_chosen_class_is_present_all_is_finite(classes, smooth):
    logits = batch("multiclass")[0]
    target = torch.zeros(3, 6, 5, dtype=torch.int64)
    loss = GeneralizedDiceLoss(smooth=smooth, classes=classes)
    value, gradient = value_and_gradient(loss, logits, target)
    assert 0 <= value <= 1
    assert gradient.isfinite().all()


@pytest.mark.parametrize("task", TASKS)
def test_per_image_a_batch_of_three_is_the_mean_of_three_singles(task):
    logits, target = batch(task)
    target[0] = target[0].clamp(max=1) if task == "multiclass" else target[0]
    loss = GeneralizedDiceLoss(task=task, per_image=True, ignore_index=255)
    singles = [loss(logits[i : i + 1], target[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(loss(logits, target), sum(singles) / 3)


def test_options_without_a_meaning_are_refused():
    for option in ({"average": "macro"}, {"average": "micro"}):
        with pytest.raises(TypeError, match="unexpected keyword argument 'average'"):
            GeneralizedDiceLoss(**option)
    with pytest.raises(ValueError, match=r"smooth=-1\.0 is not a finite number of 0 or more"):
        GeneralizedDiceLoss(smooth=-1.0)
