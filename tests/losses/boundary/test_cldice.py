import itertools

import monai.losses
import monai.losses.cldice
import pytest
import torch
from torch import Tensor

from lightning_seg.losses import SoftClDiceLoss
from lightning_seg.losses.boundary.cldice import soft_skeleton

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
    """The soft skeleton of one image (*spatial), by a loop over pixels and their valid neighbors."""
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


@pytest.mark.parametrize("iterations", [1, 3, 4, 8])  # with 4, the last steps are fewer
@pytest.mark.parametrize("spatial", [(30,), (9, 11), (5, 6, 7)])
def test_the_gradient_of_the_skeleton_is_that_of_keeping_all_maps(spatial, iterations, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, 3, *spatial, generator=generator, dtype=torch.float64)
    valid = torch.rand(image.shape, generator=generator) > 0.1
    image, weights = image.where(valid, 0), torch.rand(image.shape, generator=generator, dtype=torch.float64)
    gradients = []
    for keeps_all in (False, True):
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda keeps_all=keeps_all: keeps_all)
        leaf = image.clone().requires_grad_()
        (weights * soft_skeleton(leaf, valid, iterations)).sum().backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients)


def test_the_skeleton_of_a_bar_is_its_centerline():
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


def test_a_gap_in_a_line_costs_its_share_of_the_centerline_whatever_the_width():
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

    monkeypatch.setattr("lightning_seg.losses.boundary.cldice.soft_skeleton", watched)
    SoftClDiceLoss(classes=[3])(*batch("multiclass"))
    assert seen == [1, 1]


def test_without_smoothing_a_class_without_skeletons_costs_nothing():
    logits = torch.full((1, 1, 4, 5), -2000.0)
    value, gradient = value_and_gradient(
        SoftClDiceLoss(task="binary", smooth=0), logits, torch.zeros(1, 1, 4, 5).long()
    )
    assert value == 0
    assert gradient.isfinite().all()


def test_options_that_do_not_fit_are_refused():
    for iterations in (0, -1, 2.0, True, None):
        with pytest.raises(ValueError, match=f"iterations={iterations} is not an integer of 1 or more"):
            SoftClDiceLoss(iterations=iterations)
    with pytest.raises(ValueError, match=r"smooth=-1\.0 is not a finite number of 0 or more"):
        SoftClDiceLoss(smooth=-1.0)
    with pytest.raises(ValueError, match="the binary task has one"):
        SoftClDiceLoss(task="binary", class_weights=[1.0])
    with pytest.raises(ValueError, match="do not all exist: the logits have 4 classes"):
        SoftClDiceLoss(classes=[1, 4])(*batch("multiclass"))
    with pytest.raises(ValueError, match=r"need one to three dimensions, but got spatial shape \(2, 1, 2, 2\)"):
        SoftClDiceLoss()(torch.zeros(1, 2, 2, 1, 2, 2), torch.zeros(1, 2, 1, 2, 2, dtype=torch.int64))
