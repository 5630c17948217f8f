"""The sums of one pass over the logits, and their closed gradient, against plain differentiable torch operations."""

from dataclasses import fields, replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_seg.losses import DiceLoss
from lightning_seg.losses.engine import histograms, label_blocks, torch_backend
from lightning_seg.losses.engine.class_sums import sigmoid_sums, softmax_sums
from lightning_seg.losses.engine.interface import ClassSums, Requirements

VOID = 255
GAMMAS = (1.5, 2.0)
# Numba compiles its kernels for each combination; few tests have one of their own.
EVERYTHING = Requirements(gammas=GAMMAS, squares=True, uniform=True, label_map=True, errors="probability")


@pytest.fixture(params=["one-hot labels", "indexed labels", "numba"], autouse=True)
def back_end(request, monkeypatch) -> str:
    if request.param == "numba":
        pytest.importorskip("numba")
        monkeypatch.setenv("LIGHTNING_SEG_BACKEND", "numba")
        return "numba"
    monkeypatch.setenv("LIGHTNING_SEG_BACKEND", "torch")
    monkeypatch.setattr(label_blocks, "FEW_CLASSES", 10**6 if request.param == "one-hot labels" else 0)
    return "torch"


def batch(softmax: bool, dtype=torch.float64, shape=(3, 5, 40)) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    images, classes, pixels = shape
    logits = 2 * torch.randn(shape, dtype=dtype)
    target = torch.randint(0, classes, (images, pixels)) if softmax else torch.randint(0, 2, shape)
    target[..., :7] = VOID
    return logits, target


def plain(logits: Tensor, target: Tensor, softmax: bool) -> dict[str, Tensor]:
    """What the operators must return, with one-hot labels and torch's own gradient."""
    valid = target != VOID
    labels = target.where(valid, 0)
    if softmax:
        log_p = logits.log_softmax(1)
        p, channels = log_p.exp(), valid.unsqueeze(1)
        label_map = log_p.gather(1, labels.unsqueeze(1)).squeeze(1) * valid
        one_hot = F.one_hot(labels, logits.shape[1]).movedim(-1, 1) * channels
        uniform = log_p

        def by_label(values: Tensor) -> Tensor:
            return (one_hot * values.unsqueeze(1)).sum(2)
    else:
        p, channels = logits.sigmoid(), valid
        label_map = F.logsigmoid(torch.where(labels == 1, logits, -logits)) * valid
        uniform = (F.logsigmoid(logits) + F.logsigmoid(-logits)) / 2

        def by_label(values: Tensor) -> Tensor:
            return torch.stack([(values * (valid & (labels == label))).sum(2) for label in (0, 1)], -1)

    own = label_map.exp()
    columns = [torch.ones_like(own), label_map, own, *((1 - own) ** gamma * label_map for gamma in GAMMAS)]
    sums = [(p * channels).sum(2), (p * p * channels).sum(2), (uniform * channels).sum(2)]
    return {
        "by_label": torch.stack([by_label(values) for values in columns], -1),
        "by_channel": torch.stack(sums, -1),
        "label_map": label_map,
    }


def nothing_of(sums: ClassSums) -> Tensor:
    """0, through which all sums have a gradient: Numba's kernels are not compiled for what has none."""
    return 0 * sum(getattr(sums, name).sum() for name in ("by_label", "by_channel", "label_map", "error_sums"))


def computed(logits: Tensor, target: Tensor, softmax: bool, requires: Requirements = EVERYTHING) -> ClassSums:
    sums = softmax_sums if softmax else sigmoid_sums
    return sums(logits, target, ignore_index=VOID, requires=requires)


@pytest.mark.parametrize("softmax", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_sums_are_those_of_plain_operations(softmax, dtype):
    logits, target = batch(softmax, dtype)
    expected = plain(logits.to(torch.promote_types(dtype, torch.float32)), target, softmax)
    for name, values in expected.items():
        torch.testing.assert_close(getattr(computed(logits, target, softmax), name), values, check_dtype=False)


@pytest.mark.parametrize("softmax", [True, False])
@pytest.mark.parametrize("part", ["by_label", "by_channel", "label_map", "all"])
def test_the_gradient_is_that_of_plain_operations(softmax, part):
    logits, target = batch(softmax)
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    sums, expected = computed(ours, target, softmax), plain(theirs, target, softmax)
    parts = [part] if part != "all" else list(expected)
    weights = {name: torch.randn_like(expected[name]) for name in parts}
    ours_of = [(getattr(sums, name) * weights[name]).sum() for name in parts]
    ours_of.append(nothing_of(sums))
    sum(ours_of).backward()
    sum((expected[name] * weights[name]).sum() for name in parts).backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.slow
@pytest.mark.parametrize("softmax", [True, False])
@pytest.mark.parametrize("errors", ["probability", "margin"])
def test_every_valid_error_is_counted_once_and_summed(softmax, errors):
    if softmax and errors == "margin":
        pytest.skip("margins are of the sigmoid's tasks")
    logits, target = batch(softmax)
    valid = target != VOID
    sums = computed(logits, target, softmax, replace(EVERYTHING, errors=errors, errors_per_image=True))
    if softmax:
        one_hot = F.one_hot(target.where(valid, 0), 5).movedim(-1, 1)
        all_errors, valid = (logits.softmax(1) - one_hot).abs(), valid.unsqueeze(1).expand_as(logits)
    else:
        one_hot = (target == 1).long()
        margin = (1 - (2 * one_hot - 1) * logits).relu()
        all_errors = (logits.sigmoid() - one_hot).abs() if errors == "probability" else margin
    for label in (0, 1):
        of_label = valid & (one_hot == label)
        counted = of_label & (all_errors > 0)
        assert torch.equal(sums.error_counts[:, :, label].sum(-1), counted.sum(-1))
        torch.testing.assert_close(sums.error_sums[:, :, label].sum(-1), (all_errors * of_label).sum(-1))
    joined = computed(logits, target, softmax, replace(EVERYTHING, errors=errors))
    assert torch.equal(joined.error_counts, sums.error_counts.sum(0, keepdim=True))


def test_log_probabilities_that_a_loss_did_not_ask_for_cannot_be_read():
    loss = DiceLoss(ignore_index=VOID)
    statistics = loss.read(*batch(True), loss.requires)
    with pytest.raises(ValueError, match="was not asked for"):
        statistics.label_log_probability_sum  # noqa: B018


@pytest.mark.parametrize("softmax", [True, False])
def test_of_void_pixels_alone_every_sum_is_zero(softmax):
    logits, target = batch(softmax, torch.float32)
    sums = computed(logits, torch.full_like(target, VOID), softmax)
    for name in ("by_label", "by_channel", "label_map", "error_sums", "error_counts"):
        assert not getattr(sums, name).any(), name


@pytest.mark.parametrize("softmax", [True, False])
@pytest.mark.parametrize("shape", [(3, 5, 40), (40, 3, 1), (2, 300, 3), (1, 2, 0)])
def test_blocks_of_any_size_give_the_same(softmax, shape, back_end, monkeypatch):
    logits, target = batch(softmax, shape=shape)
    whole = computed(logits, target, softmax)
    if back_end == "numba":
        from lightning_seg.losses.engine import numba_backend

        for name, size in (("_LEAST", 1), ("_MOST", 64), ("_MOST_PIXELS", 16)):
            monkeypatch.setattr(numba_backend, name, size)
    monkeypatch.setattr(torch_backend, "block_size", lambda _: 32)
    monkeypatch.setattr(histograms, "block_size", lambda _: 32)
    logits.requires_grad_()
    blocks = computed(logits, target, softmax)
    for name in ("by_label", "by_channel", "label_map"):
        torch.testing.assert_close(getattr(blocks, name), getattr(whole, name))
    (blocks.by_channel.square().sum() + nothing_of(blocks)).backward()
    reference = logits.detach().clone().requires_grad_()
    plain(reference, target, softmax)["by_channel"].square().sum().backward()
    torch.testing.assert_close(logits.grad, reference.grad)


@pytest.mark.slow
@pytest.mark.parametrize("softmax", [True, False])
def test_torch_finds_the_operator_sound(softmax):
    logits, target = batch(softmax)
    arguments = (logits.requires_grad_(), target, VOID, [2.0], True, True, True, "probability", False, True)
    operators = torch.ops.lightning_seg
    torch.library.opcheck((operators.softmax_sums if softmax else operators.sigmoid_sums).default, arguments)


@pytest.mark.slow
def test_no_tensor_of_the_logits_size_is_made_but_the_gradient(back_end):
    logits, target = batch(True, torch.float32, (2, 16, 64 * 1024))
    logits.requires_grad_()
    # Of Numba what is compiled for other tests.
    requires = Requirements(squares=True, gammas=(2.0,) if back_end == "torch" else ())
    target = target if back_end == "torch" else target.byte()
    with torch.profiler.profile(profile_memory=True) as profile:
        loss = computed(logits, target, True, requires)
        (loss.by_label.sum() + loss.by_channel.sum()).backward()
    changes = [event.nbytes() for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    live = peak = 0
    for change in changes:
        live += change
        peak = max(peak, live)
    size = logits.numel() * 4
    assert size <= peak <= 1.5 * size


@pytest.mark.slow
@pytest.mark.parametrize("softmax", [True, False])
def test_torch_compile_takes_the_operator_and_its_gradient_whole(softmax):
    logits, target = batch(softmax)

    def loss(logits: Tensor) -> Tensor:
        sums = computed(logits, target, softmax)
        of_errors = (sums.error_sums * sums.error_counts).sum()
        return sums.by_label.square().sum() + sums.by_channel.sum() + sums.label_map.sum() + of_errors

    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")(ours)
    torch.testing.assert_close(compiled, loss(theirs))
    compiled.backward()
    loss(theirs).backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize("name", ["softmax_sums", "softmax_sums_backward", "sigmoid_sums", "sigmoid_sums_backward"])
def test_the_operators_take_the_requirements_in_their_order(name):
    names = [argument.name for argument in getattr(torch.ops.lightning_seg, name).default._schema.arguments]
    assert names[-len(fields(Requirements)) :] == [field.name for field in fields(Requirements)]
