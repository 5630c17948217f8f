"""The sums of soft targets, and their closed gradient, against plain differentiable torch operations."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_seg.losses import CrossEntropyDiceLoss
from lightning_seg.losses.engine import torch_backend
from lightning_seg.losses.engine.interface import Requirements
from lightning_seg.losses.engine.soft_sums import SoftSums, soft_sums

VOID = 255
EVERYTHING = Requirements(squares=True, uniform=True)
SUMS = (
    "log_probability",
    "overlap",
    "probability",
    "target",
    "valid",
    "probability_square",
    "target_square",
    "uniform",
)


@pytest.fixture(autouse=True)
def _several_blocks(monkeypatch):
    monkeypatch.setattr(torch_backend, "block_size", lambda _: 60)


def batch(softmax: bool, dtype=torch.float64, shape=(3, 5, 40)) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    logits = 2 * torch.randn(shape, dtype=dtype)
    target = torch.randn(shape, dtype=dtype)
    target = target.softmax(1) if softmax else target.sigmoid()
    target[..., :7] = VOID
    return logits, target


def plain(logits: Tensor, target: Tensor, softmax: bool) -> dict[str, Tensor]:
    valid = target != VOID
    t = target.where(valid, 0)
    if softmax:
        log_p = uniform = logits.log_softmax(1)
        p, each = log_p.exp(), t * log_p
    else:
        p = logits.sigmoid()
        each = -F.binary_cross_entropy_with_logits(logits, t, reduction="none")
        uniform = (F.logsigmoid(logits) + F.logsigmoid(-logits)) / 2
    maps = (each, p * t, p, t, torch.ones_like(p), p * p, t * t, uniform)
    return {name: (values * valid).sum(2) for name, values in zip(SUMS, maps, strict=True)}


def computed(logits: Tensor, target: Tensor, softmax: bool, requires: Requirements = EVERYTHING) -> SoftSums:
    return soft_sums(logits, target, ignore_index=VOID, softmax=softmax, requires=requires)


@pytest.mark.parametrize("softmax", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_sums_are_those_of_plain_operations(softmax, dtype):
    logits, target = batch(softmax, dtype)
    wide = torch.promote_types(dtype, torch.float32)
    sums = computed(logits, target, softmax)
    for name, expected in plain(logits.to(wide), target.to(wide), softmax).items():
        torch.testing.assert_close(getattr(sums, name), expected, check_dtype=False)


@pytest.mark.parametrize("softmax", [True, False])
@pytest.mark.parametrize("requires", [Requirements(), EVERYTHING])
def test_the_gradient_is_that_of_plain_operations(softmax, requires):
    logits, target = batch(softmax)
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    sums, expected = computed(ours, target, softmax, requires), plain(theirs, target, softmax)
    names = SUMS if requires is EVERYTHING else SUMS[:5]
    weights = {name: torch.randn_like(expected[name]) for name in names}
    sum((getattr(sums, name) * weights[name]).sum() for name in names).backward()
    sum((expected[name] * weights[name]).sum() for name in names).backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("softmax", [True, False])
def test_void_pixels_may_hold_anything_and_a_nan_elsewhere_shows(softmax, value):
    logits, target = batch(softmax)
    loss = CrossEntropyDiceLoss(task="multiclass" if softmax else "multilabel", ignore_index=VOID)
    clean, dirty = logits.clone().requires_grad_(), logits.masked_fill(target == VOID, value).requires_grad_()
    for leaf in (clean, dirty):
        loss(leaf, target).backward()
    assert torch.equal(loss(dirty, target), loss(clean, target))
    assert torch.equal(dirty.grad, clean.grad)
    logits[1, 2, 20] = float("nan")
    assert loss(logits, target).isnan()


def test_classes_of_minus_infinity_that_the_target_lacks_change_nothing():
    logits, target = batch(True)
    rest = target[:, :2] / target[:, :2].sum(1, keepdim=True)
    expected = computed(logits[:, :2], rest.masked_fill(target[:, :2] == VOID, VOID), True).log_probability
    logits[:, 2:] = -float("inf")
    padded = torch.cat([rest, torch.zeros_like(rest[:, :1]).expand(-1, 3, -1)], 1).masked_fill(target == VOID, VOID)
    torch.testing.assert_close(computed(logits, padded, True).log_probability[:, :2], expected)


@pytest.mark.slow
@pytest.mark.parametrize("softmax", [True, False])
def test_torch_finds_the_operator_sound_and_compiles_the_loss_whole(softmax):
    logits, target = batch(softmax)
    arguments = (logits.clone().requires_grad_(), target, VOID, softmax, True, True)
    torch.library.opcheck(torch.ops.lightning_seg.soft_sums.default, arguments)
    loss = CrossEntropyDiceLoss(task="multiclass" if softmax else "multilabel", ignore_index=VOID)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(logits, target), loss(logits, target))


def test_no_tensor_of_the_logits_size_is_made_but_the_gradient(monkeypatch):
    monkeypatch.undo()
    logits, target = batch(True, torch.float32, (2, 16, 64 * 1024))
    logits.requires_grad_()
    loss = CrossEntropyDiceLoss(ignore_index=VOID, label_smoothing=0.1, squared=True)
    with torch.profiler.profile(profile_memory=True) as profile:
        loss(logits, target).backward()
    changes = [event.nbytes() for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    live = peak = 0
    for change in changes:
        live += change
        peak = max(peak, live)
    size = logits.numel() * 4
    assert size <= peak <= 2 * size
