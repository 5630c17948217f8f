import itertools

import monai.losses
import monai.losses.cldice
import pytest
import torch
from torch import Tensor

from lightning_seg.losses import SoftClDiceLoss
from lightning_seg.losses.cldice import soft_skeleton

WEIGHTS = [1.0, 0.5, 2.0, 0.25]
both = pytest.mark.parametrize("task", ["multiclass", "multilabel", "binary"])


def batch(task: str, void: bool = False, images: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    channels = 1 if task == "binary" else 4
    logits = 2 * torch.randn(images, channels, 7, 8, generator=generator, dtype=torch.float64)
    shape = (images, 7, 8) if task == "multiclass" else logits.shape
    target = torch.randint(0, 4 if task == "multiclass" else 2, shape, generator=generator)
    if void:
        target[torch.rand(shape, generator=generator) < 0.3] = 255
    return logits, target


def value_and_gradient(loss, logits, target):
    logits = logits.detach().clone().requires_grad_()
    value = loss(logits, target)
    value.backward()
    assert logits.grad is not None
    return value.detach(), logits.grad


def skeleton_pixel_by_pixel(image: Tensor, valid: Tensor, iterations: int) -> Tensor:
    """The soft skeleton of one image (*spatial), by a loop over pixels and their valid neighbours."""
    pixels = [p for p in itertools.product(*map(range, image.shape)) if valid[p]]

    def near(pixel, along_axes):
        steps = itertools.product((-1, 0, 1), repeat=image.ndim)
        steps = [step for step in steps if not along_axes or sum(map(abs, step)) <= 1]
        moved = [tuple(a + b for a, b in zip(pixel, step, strict=True)) for step in steps]
        return [q for q in moved if q in inside]

    inside = set(pixels)
    x = {p: image[p].item() for p in pixels}
    skeleton = dict.fromkeys(pixels, 0.0)
    for _ in range(iterations + 1):
        eroded = {p: min(x[q] for q in near(p, True)) for p in pixels}
        opened = {p: max(eroded[q] for q in near(p, False)) for p in pixels}
        for p in pixels:  # the first adds to 0, which gives the ridge itself
            skeleton[p] += (1 - skeleton[p]) * max(x[p] - opened[p], 0)
        x = eroded
    result = torch.zeros_like(image)
    for p in pixels:
        result[p] = skeleton[p]
    return result


@pytest.mark.parametrize("spatial", [(11,), (6, 7), (4, 3, 5)])
@pytest.mark.parametrize("iterations", [1, 3])
@pytest.mark.parametrize("hard", [False, True])
def test_the_skeleton_is_that_of_a_loop_over_pixels(spatial, iterations, hard):
    torch.manual_seed(0)
    for share in (1.0, 0.8, 0.4):
        image, valid = torch.rand(2, 2, *spatial, dtype=torch.float64), torch.rand(2, 2, *spatial) < share
        image = (image > 0.2).double() if hard else image
        image = image.where(valid, 0)
        expected = [skeleton_pixel_by_pixel(image[n, c], valid[n, c], iterations) for n in range(2) for c in range(2)]
        ours = soft_skeleton(image, valid, iterations)
        torch.testing.assert_close(ours, torch.stack(expected).reshape(image.shape))


@pytest.mark.parametrize("spatial", [(9, 8), (5, 6, 7)])
def test_the_skeleton_is_that_of_monai(spatial):
    torch.manual_seed(0)
    image = torch.rand(2, 3, *spatial, dtype=torch.float64)
    theirs = monai.losses.cldice.soft_skel(image, 3)
    torch.testing.assert_close(soft_skeleton(image, torch.ones_like(image, dtype=torch.bool), 3), theirs)


def test_the_skeleton_of_a_bar_is_its_centreline():
    image = torch.zeros(1, 1, 9, 20)
    image[..., 2:7, 3:17] = 1  # five rows, so that two erosions leave one
    skeleton = soft_skeleton(image, torch.ones_like(image, dtype=torch.bool), 3)
    assert skeleton[0, 0, 4, 5:15].eq(1).all()
    assert skeleton[0, 0, [2, 3, 5, 6], 6:14].eq(0).all()
    assert skeleton[image == 0].eq(0).all()


def class_terms(logits: Tensor, target: Tensor, iterations: int = 3, smooth: float = 1.0) -> list[Tensor]:
    """1 - clDice of each class of the multiclass task without void pixels, with MONAI's skeleton."""
    terms = []
    for c in range(logits.shape[1]):
        p, t = logits.softmax(1)[:, c : c + 1], (target == c).double().unsqueeze(1)
        sp, st = (monai.losses.cldice.soft_skel(x, iterations) for x in (p, t))
        precision = ((sp * t).sum() + smooth) / (sp.sum() + smooth)
        recall = ((st * p).sum() + smooth) / (st.sum() + smooth)
        terms.append(1 - 2 * precision * recall / (precision + recall))
    return terms


@pytest.mark.parametrize(("iterations", "smooth"), [(3, 1.0), (1, 0.0), (5, 0.2)])
def test_it_is_the_mean_of_the_formula_over_classes(iterations, smooth):
    logits, target = batch("multiclass")
    options = {"iterations": iterations, "smooth": smooth}
    value, gradient = value_and_gradient(SoftClDiceLoss(**options), logits, target)
    leaf = logits.clone().requires_grad_()
    expected = torch.stack(class_terms(leaf, target, **options)).mean()
    expected.backward()
    torch.testing.assert_close(value, expected.detach())
    torch.testing.assert_close(gradient, leaf.grad)
    each = torch.stack(class_terms(logits, target, **options))
    torch.testing.assert_close(SoftClDiceLoss(classes=[3, 1], **options)(logits, target), each[[1, 3]].mean())
    weights = torch.tensor(WEIGHTS, dtype=torch.float64)
    weighted = SoftClDiceLoss(class_weights=WEIGHTS, **options)(logits, target)
    torch.testing.assert_close(weighted, (weights * each).sum() / 3.75)


# kornia has no clDice.
@pytest.mark.parametrize("spatial", [(7, 8), (4, 5, 6)])
def test_it_is_that_of_monai_class_by_class(spatial):
    # Theirs is one ratio of all classes together, and it smooths the harmonic mean, too: here one class, and not.
    torch.manual_seed(0)
    logits = 2 * torch.randn(3, 4, *spatial, dtype=torch.float64)
    target = torch.randint(0, 4, (3, *spatial))
    theirs = monai.losses.SoftclDiceLoss(smooth=1e-15)

    def their_mean(z: Tensor, labels: Tensor) -> Tensor:
        one_hot = torch.stack([labels == c for c in range(4)], 1).double()
        return torch.stack([theirs(z.softmax(1)[:, c : c + 1], one_hot[:, c : c + 1]) for c in range(4)]).mean()

    expected, expected_gradient = value_and_gradient(their_mean, logits, target)
    value, gradient = value_and_gradient(SoftClDiceLoss(per_image=True), logits, target)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient, expected_gradient)
    theirs = monai.losses.SoftclDiceLoss(sigmoid=True, smooth=1e-15)
    logits, target = logits[:, :1], target.clamp(max=1).unsqueeze(1)
    ours = SoftClDiceLoss(task="binary", per_image=True)
    torch.testing.assert_close(ours(logits, target), theirs(logits, target.double()))


def test_a_gap_in_a_line_costs_its_share_of_the_centreline_whatever_the_width():
    values = []
    for radius in (0, 2):
        target = torch.zeros(1, 1, 15, 60, dtype=torch.int64)
        target[..., 7 - radius : 8 + radius, :] = 1
        logits = target.double() * 200 - 100
        logits[..., 20:40] = -100
        values.append(SoftClDiceLoss(task="binary", smooth=0)(logits, target).item())
    # Nothing predicted is wrong, and two thirds of the line are found.
    assert values[0] == pytest.approx(1 - 2 * (2 / 3) / (1 + 2 / 3))
    assert values[1] == pytest.approx(values[0], abs=0.05)


@both
def test_a_perfect_prediction_costs_nothing_and_a_wrong_one_something(task):
    _, target = batch(task, void=True)
    loss = SoftClDiceLoss(task=task, ignore_index=255)
    one_hot = torch.stack([target == c for c in range(4)], 1) if task == "multiclass" else target == 1
    perfect = one_hot.double() * 200 - 100
    assert loss(perfect, target).item() == pytest.approx(0, abs=1e-12)
    assert loss(-perfect, target) > 0.1


def test_an_absent_class_costs_its_false_positives_with_all_and_nothing_with_present():
    logits, target = batch("multiclass")
    target[target == 3] = 0
    p = logits.softmax(1)[:, 3:]
    length = monai.losses.cldice.soft_skel(p, 3).sum()
    each = torch.stack(class_terms(logits, target))
    precision = 1 / (length + 1)
    torch.testing.assert_close(each[3], 1 - 2 * precision / (precision + 1))
    torch.testing.assert_close(SoftClDiceLoss(classes="all")(logits, target), each.mean())
    torch.testing.assert_close(SoftClDiceLoss(classes="present")(logits, target), each[:3].mean())


def test_no_skeleton_is_made_of_a_class_that_is_left_out(monkeypatch):
    seen = []

    def watched(image: Tensor, valid: Tensor, iterations: int) -> Tensor:
        seen.append(image.shape[1])
        return soft_skeleton(image, valid, iterations)

    monkeypatch.setattr("lightning_seg.losses.cldice.soft_skeleton", watched)
    SoftClDiceLoss(classes=[3])(*batch("multiclass"))
    assert seen == [1, 1]


def test_without_smoothing_a_class_without_skeletons_costs_nothing():
    logits = torch.full((1, 1, 4, 5), -2000.0)
    value, gradient = value_and_gradient(
        SoftClDiceLoss(task="binary", smooth=0), logits, torch.zeros(1, 1, 4, 5).long()
    )
    assert value == 0
    assert gradient.isfinite().all()


@both
@pytest.mark.parametrize("filling", [50.0, float("inf"), float("nan")])
def test_void_pixels_never_change_value_or_gradient_whatever_logits_hold_there(task, filling):
    logits, target = batch(task, void=True)
    loss = SoftClDiceLoss(task=task, ignore_index=255)
    void = (target == 255).unsqueeze(1).expand_as(logits) if task == "multiclass" else target == 255
    value, gradient = value_and_gradient(loss, logits, target)
    other, other_gradient = value_and_gradient(loss, logits.masked_fill(void, filling), target)
    assert gradient[void].eq(0).all()
    assert torch.equal(value, other)
    assert torch.equal(gradient, other_gradient)


@both
def test_void_pixels_count_as_if_they_were_cut_out(task):
    logits, target = batch(task)
    target[..., 4:, :] = 255
    loss = SoftClDiceLoss(task=task, ignore_index=255)
    whole, gradient = value_and_gradient(loss, logits, target)
    cut, cut_gradient = value_and_gradient(loss, logits[..., :4, :], target[..., :4, :])
    torch.testing.assert_close(whole, cut)
    torch.testing.assert_close(gradient[..., :4, :], cut_gradient)


@both
def test_a_batch_of_void_pixels_gives_zero_attached_to_the_graph(task):
    logits, target = batch(task)
    for options in ({}, {"per_image": True}, {"smooth": 0.0}):
        loss = SoftClDiceLoss(task=task, ignore_index=255, **options)
        value, gradient = value_and_gradient(loss, logits, torch.full_like(target, 255))
        assert value == 0
        assert gradient.eq(0).all()


@both
def test_per_image_a_batch_is_the_mean_of_its_images(task):
    logits, target = batch(task, void=True)
    target[1] = target[1].clamp(max=1)
    loss = SoftClDiceLoss(task=task, ignore_index=255, classes="present", per_image=True)
    single = torch.stack([loss(logits[i : i + 1], target[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(loss(logits, target), single.mean())
    assert not torch.isclose(SoftClDiceLoss(task=task, ignore_index=255)(logits, target), single.mean())


@both
def test_more_dimensions_of_one_pixel_change_nothing(task):
    logits, target = batch(task, void=True)
    loss = SoftClDiceLoss(task=task, ignore_index=255)
    at = target.ndim - 2
    for dimension in (0, 1, 2):
        deep = loss(logits.unsqueeze(2 + dimension), target.unsqueeze(at + dimension))
        torch.testing.assert_close(deep, loss(logits, target))
    row = loss(logits[..., :1, :], target[..., :1, :])
    torch.testing.assert_close(loss(logits[..., 0, :], target[..., 0, :]), row)
    pixel = loss(logits[..., :1, :1], target[..., :1, :1])
    torch.testing.assert_close(loss(logits[..., 0, 0], target[..., 0, 0]), pixel)


@both
def test_gradcheck_passes_in_float64(task):
    logits, target = batch(task, void=True)
    loss = SoftClDiceLoss(task=task, ignore_index=255, per_image=True)
    logits, target = logits[:2, ..., :4, :4].clone().requires_grad_(), target[:2, ..., :4, :4]
    assert torch.autograd.gradcheck(lambda z: loss(z, target), logits)


@both
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_of_50_are_computed_in_float32(task, dtype):
    logits, target = batch(task, void=True)
    logits = (logits.sign() * 50).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value, gradient = value_and_gradient(SoftClDiceLoss(task=task, ignore_index=255), logits, target)
    assert value.dtype == torch.float32
    assert value.isfinite()
    assert gradient.isfinite().all()


@both
def test_inputs_are_bit_identical_afterwards(task):
    logits, target = batch(task, void=True)
    before, target_before = logits.clone(), target.clone()
    value_and_gradient(SoftClDiceLoss(task=task, ignore_index=255), logits, target)
    assert torch.equal(logits, before)
    assert torch.equal(target, target_before)


@both
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_it_compiles_without_a_graph_break(task, backend):
    torch.compiler.reset()
    logits, target = batch(task, void=True)
    loss = SoftClDiceLoss(task=task, ignore_index=255)
    value, gradient = value_and_gradient(torch.compile(loss, backend=backend, fullgraph=True), logits, target)
    expected, expected_gradient = value_and_gradient(loss, logits, target)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient, expected_gradient)


def test_options_that_do_not_fit_are_refused():
    for iterations in (0, -1, 2.0, True, None):
        with pytest.raises(ValueError, match=f"iterations={iterations} is not an integer of 1 or more"):
            SoftClDiceLoss(iterations=iterations)
    with pytest.raises(ValueError, match=r"smooth=-1\.0 is not a finite number of 0 or more"):
        SoftClDiceLoss(smooth=-1.0)
    with pytest.raises(ValueError, match="the binary task has one"):
        SoftClDiceLoss(task="binary", class_weights=[1.0])
    logits, _ = batch("multiclass")
    with pytest.raises(TypeError, match="no meaning for soft targets"):
        SoftClDiceLoss()(logits, logits.softmax(1))
    with pytest.raises(ValueError, match="do not all exist: the logits have 4 classes"):
        SoftClDiceLoss(classes=[1, 4])(*batch("multiclass"))
    with pytest.raises(ValueError, match=r"of one to three dimensions, not of shape \(2, 1, 2, 2\)"):
        SoftClDiceLoss()(torch.zeros(1, 2, 2, 1, 2, 2), torch.zeros(1, 2, 1, 2, 2, dtype=torch.int64))
