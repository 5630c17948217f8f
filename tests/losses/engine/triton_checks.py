"""The Triton kernels behind `class_sums`, run by `test_triton_backend` under Triton's interpreter on the CPU.

With a GPU, `pytest tests/losses/engine/triton_checks.py` runs them there. The sums, and the gradient that torch's
autograd gives of them, are compared with float64 operations on one-hot labels.
"""

import os
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_seg.losses.engine import back_ends, predictions, torch_backend, triton_backend, triton_kernels
from lightning_seg.losses.engine.back_ends import choose_back_end
from lightning_seg.losses.engine.class_sums import sigmoid_sums, softmax_sums
from lightning_seg.losses.engine.interface import BackEnd, Requirements
from lightning_seg.losses.engine.predictions import confusion_counts

DEVICE = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"
# With so many classes the softmax is computed by tiles of channels.
MANY = 70
TUNED = {name: getattr(triton_backend, name) for name in ("_TILE", "_MOST_SUMS", "_MOST_PROBABILITIES")}
if DEVICE == "cpu":
    _choose = back_ends.choose_back_end
    back_ends.choose_back_end = predictions.choose_back_end = lambda device, dtype, size: _choose("cuda", dtype, size)
    back_ends._verdicts["triton", torch.device("cuda")] = True  # there is no device to compare on

    from triton.language import core
    from triton.runtime import interpreter

    _patch, _patched = interpreter._patch_lang, set()

    def _patch_once(function):
        """Triton's language is replaced when a kernel begins, and not by each function that it calls, as slow again."""
        if id(function.__globals__) in _patched:
            return interpreter._LangPatchScope()
        scope = _patch(function)
        restore = scope.restore
        scope.restore = lambda: (restore(), _patched.clear())
        _patched.add(id(function.__globals__))
        return scope

    interpreter._patch_lang = _patch_once
    _np_dtype, _np_dtypes = interpreter._get_np_dtype, {}

    def _known_np_dtype(kind):
        """Looked up once: Triton writes a table of all dtypes for each operation."""
        if kind.name not in _np_dtypes:
            _np_dtypes[kind.name] = _np_dtype(kind)
        return _np_dtypes[kind.name]

    interpreter._get_np_dtype = _known_np_dtype
    _init_block_type, _block_types = core.block_type.__init__, {}
    _init_tensor, _shapes = core.tensor.__init__, {}

    def _init_known_block_type(self, element_type, shape):
        """Checked and named once, like shapes of tensors below: each operation makes several types of blocks."""
        key = element_type.name, *(size.value if isinstance(size, core.constexpr) else size for size in shape)
        if key not in _block_types:
            _init_block_type(self, element_type, shape)
            _block_types[key] = vars(self)
        vars(self).update(_block_types[key])

    def _init_tensor_of_known_shape(self, handle, kind):
        if kind.name not in _shapes:
            _init_tensor(self, handle, kind)
            _shapes[kind.name] = self.shape, self.numel
        self.shape, self.numel = _shapes[kind.name]
        self.handle, self.type, self.dtype = handle, kind, kind.scalar

    core.block_type.__init__ = _init_known_block_type
    core.tensor.__init__ = _init_tensor_of_known_shape
    # Each operation on each channel takes it a tenth of a millisecond: fewer are many.
    MANY = 10
    triton_backend._TILE, triton_backend._MOST_SUMS, triton_backend._MOST_PROBABILITIES = 4, 40, 9

VOID = 255
GAMMAS = (0.0, 0.5, 1.0, 1.5, 2.0)
EVERYTHING = Requirements(
    GAMMAS, squares=True, uniform=True, label_map=True, errors="probability", errors_per_image=True
)
EACH = [
    Requirements(),
    Requirements(gammas=GAMMAS),
    Requirements(squares=True),
    Requirements(uniform=True),
    Requirements(label_map=True),
    Requirements(errors="probability"),
    Requirements(errors="probability", errors_per_image=True),
    EVERYTHING,
]
MARGINS = [
    Requirements(errors="margin"),
    Requirements(errors="margin", errors_per_image=True, squares=True, uniform=True),
]
TASKS = [(True, 3), (True, MANY), (False, 3)]
# Neighboring bins that share a weight: which of two bins an error at their edge falls in depends on its last bit.
BANDS = {"probability": torch.arange(1, 8) / 8, "margin": 2.0 ** torch.arange(1, 12) - 1}


@pytest.fixture(autouse=True)
def _kernels_only(monkeypatch):
    """Where the kernels must run, torch operations may not stand in for them."""
    if DEVICE == "cuda":
        choose_back_end(torch.device("cuda", torch.cuda.current_device()), torch.float32, 1)  # which compares them

    def fail(*_):
        raise AssertionError("torch operations ran")

    monkeypatch.setattr(torch_backend, "BACK_END", BackEnd("torch", fail, fail, fail, fail, fail))


def batch(softmax: bool, classes: int, pixels: int = 40, images: int = 1, dtype=torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(classes)
    logits = 3 * torch.randn(images, classes, pixels, generator=generator)
    shape = (images, pixels) if softmax else logits.shape
    target = torch.randint(0, classes if softmax else 2, shape, generator=generator)
    target[torch.rand(shape, generator=generator) < 0.2] = VOID
    return logits.to(DEVICE, dtype), target.to(DEVICE)


def reference(
    logits: Tensor, target: Tensor, softmax: bool, requires: Requirements, void: int | None = VOID
) -> dict[str, Tensor]:
    """What the operators return, by one-hot labels and boolean masks, with the bins of errors joined to bands."""
    valid = torch.ones_like(target, dtype=torch.bool) if void is None else target != void
    labels = target.long().where(valid, 0)
    if softmax:
        one_hot = F.one_hot(labels, logits.shape[1]).movedim(-1, 1).bool()
        valid = valid.unsqueeze(1).expand_as(logits)
        log_p = logits.where(valid, 0).log_softmax(1)
        p, uniform = log_p.exp(), log_p
        masks, log_own = (one_hot & valid).unsqueeze(2), log_p
        label_map = log_p.where(one_hot & valid, 0).sum(1)
    else:
        one_hot = labels == 1
        z = logits.where(valid, 0)
        p, uniform = z.sigmoid(), (F.logsigmoid(z) + F.logsigmoid(-z)) / 2
        log_own = F.logsigmoid(torch.where(one_hot, z, -z))
        masks = torch.stack([valid & ~one_hot, valid & one_hot], 2)
        label_map = log_own * valid
    p_own = log_own.exp()
    columns = [p_own * 0 + 1, log_own, p_own, *((1 - p_own) ** gamma * log_own for gamma in requires.gammas)]
    by_label = torch.stack([values.unsqueeze(2).where(masks, 0).sum(-1) for values in columns], -1)
    of_channel = [p, *[p * p] * requires.squares, *[uniform] * requires.uniform]
    results = {
        "by_label": by_label.squeeze(2) if softmax else by_label,
        "by_channel": torch.stack([values.where(valid, 0).sum(-1) for values in of_channel], -1),
    }
    if requires.label_map:
        results["label_map"] = label_map
    if requires.errors != "none":
        margin = (1 - (2 * one_hot.double() - 1) * logits.where(valid, 0)).relu()
        errors = margin if requires.errors == "margin" else (p - one_hot.double()).abs()
        band = torch.bucketize(errors.detach(), BANDS[requires.errors].to(errors), right=True)
        counted = valid if softmax else valid & (errors > 0)
        sums, counts = [], []
        for own in (False, True):
            chosen = F.one_hot(band, len(BANDS[requires.errors]) + 1) * (counted & (one_hot == own)).unsqueeze(-1)
            counts.append(chosen.sum(2))
            sums.append((chosen * errors.unsqueeze(-1)).sum(2))
        results["error_sums"], results["error_counts"] = torch.stack(sums, 2), torch.stack(counts, 2)
        if not requires.errors_per_image:
            results |= {name: results[name].sum(0, keepdim=True) for name in ("error_sums", "error_counts")}
    return results


def computed(
    logits: Tensor, target: Tensor, softmax: bool, requires: Requirements, void: int | None = VOID
) -> dict[str, Tensor]:
    """The same from the kernels."""
    operator = softmax_sums if softmax else sigmoid_sums
    sums = operator(logits, target, ignore_index=void, requires=requires)
    results = {"by_label": sums.by_label, "by_channel": sums.by_channel}
    if requires.label_map:
        results["label_map"] = sums.label_map
    if requires.errors != "none":
        bands = len(BANDS[requires.errors]) + 1
        for name in ("error_sums", "error_counts"):
            values = getattr(sums, name)
            # The last bin holds errors of the largest size alone; they belong to the last band.
            last = F.pad(values[..., -1:], (bands - 1, 0))
            results[name] = values[..., :-1].unflatten(-1, (bands, -1)).sum(-1) + last
    return results


def assert_same(
    logits: Tensor, target: Tensor, softmax: bool, requires: Requirements, void: int | None = VOID, **tolerances: float
) -> None:
    """The sums are equal, and the gradient of a random weighting of all of them."""
    ours, theirs = logits.detach().requires_grad_(), logits.detach().double().requires_grad_()
    results, expected = (
        computed(ours, target, softmax, requires, void),
        reference(theirs, target, softmax, requires, void),
    )
    assert results.keys() == expected.keys()
    assert torch.equal(results["by_label"][..., 0], expected["by_label"][..., 0])
    generator = torch.Generator().manual_seed(1)
    losses = []
    for name, values in expected.items():
        torch.testing.assert_close(results[name].to(values.dtype), values, rtol=1e-5, atol=1e-5)
        if name != "error_counts":
            weights = torch.randn(values.shape, generator=generator, dtype=torch.float64).to(values)
            losses.append([(side[name] * weights).sum() for side in (results, expected)])
    sum(own for own, _ in losses).backward()
    sum(other for _, other in losses).backward()
    assert ours.grad.dtype == logits.dtype
    torch.testing.assert_close(ours.grad.double(), theirs.grad, **(tolerances or {"rtol": 2e-5, "atol": 2e-5}))


@pytest.mark.parametrize(
    ("softmax", "classes"), [*((True, c) for c in (1, 2, 4, 21)), *((False, c) for c in (1, 2, 5))]
)
def test_all_sums_and_their_gradient_are_those_of_float64_operations(softmax, classes, monkeypatch):
    for name, value in TUNED.items():
        monkeypatch.setattr(triton_backend, name, value)
    # The softmax of one class is 1, where the derivative of (1 - p)^½ that torch computes is not finite.
    requires = EVERYTHING if classes > 1 else replace(EVERYTHING, gammas=(0.0, 1.0, 2.0))
    pixels = 33 if classes > 4 else 560 if classes == 2 else 77
    assert_same(*batch(softmax, classes, pixels=pixels, images=2 if classes == 4 else 1), softmax, requires)


@pytest.mark.parametrize("requires", EACH)
@pytest.mark.parametrize("softmax", [True, False])
def test_each_thing_read_alone_is_right(softmax, requires):
    assert_same(*batch(softmax, 3, images=1 + (requires.errors != "none")), softmax, requires)


@pytest.mark.parametrize("requires", MARGINS)
@pytest.mark.parametrize("classes", [1, 3])
def test_errors_of_margins_are_right(classes, requires):
    assert_same(*batch(False, classes, images=2), False, requires)


@pytest.mark.parametrize("part", ["by_label", "by_channel", "label_map", "error_sums"])
@pytest.mark.parametrize(("softmax", "classes"), TASKS)
def test_the_gradient_of_one_output_alone_is_right(softmax, classes, part):
    logits, target = batch(softmax, classes, pixels=19)
    ours, theirs = logits.clone().requires_grad_(), logits.double().requires_grad_()
    computed(ours, target, softmax, EVERYTHING)[part].square().sum().backward()
    reference(theirs, target, softmax, EVERYTHING)[part].square().sum().backward()
    torch.testing.assert_close(ours.grad.double(), theirs.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("softmax", "classes"), TASKS)
def test_half_precision_is_computed_in_float32(softmax, dtype, classes):
    epsilon = torch.finfo(dtype).eps
    logits, target = batch(softmax, classes, dtype=dtype)
    assert_same(logits, target, softmax, EVERYTHING, rtol=epsilon, atol=epsilon * 0.01)


@pytest.mark.parametrize(("softmax", "classes"), TASKS)
def test_void_pixels_may_hold_anything(softmax, classes):
    logits, target = batch(softmax, classes)
    void = (target == VOID).unsqueeze(1).expand_as(logits) if softmax else target == VOID
    clean = computed(logits, target, softmax, EVERYTHING)
    values = torch.tensor([float("nan"), float("inf"), -float("inf")], device=DEVICE)
    anything = values[torch.arange(logits.numel(), device=DEVICE) % len(values)].view_as(logits)
    filled = anything.where(void, logits).requires_grad_()
    results = computed(filled, target, softmax, EVERYTHING)
    for name, values in clean.items():
        assert torch.equal(results[name], values)
    sum(values.square().sum() for name, values in results.items() if name != "error_counts").backward()
    assert filled.grad.isfinite().all()
    assert not filled.grad[void].any()


@pytest.mark.parametrize("softmax", [True, False])
def test_of_void_pixels_alone_every_sum_and_the_gradient_are_zero(softmax):
    logits, target = batch(softmax, 3)
    logits.requires_grad_()
    results = computed(logits, torch.full_like(target, VOID), softmax, EVERYTHING)
    assert not any(values.any() for values in results.values())
    sum(values.sum() for name, values in results.items() if name != "error_counts").backward()
    assert not logits.grad.any()


@pytest.mark.parametrize(("softmax", "classes"), TASKS)
def test_without_ignore_index_every_pixel_counts(softmax, classes):
    logits, target = batch(softmax, classes)
    assert_same(logits, target.where(target != VOID, 1), softmax, EVERYTHING, void=None)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool])
@pytest.mark.parametrize("softmax", [True, False])
def test_labels_are_any_integers(softmax, dtype):
    logits, target = batch(softmax, 2)
    void = None if dtype == torch.bool else -1 if dtype.is_signed else VOID
    target = target.where(target != VOID, 1 if void is None else void).to(dtype)
    assert_same(logits, target, softmax, Requirements(label_map=True), void)


@pytest.mark.skipif(DEVICE == "cuda", reason="an assertion on a GPU ends the process")
def test_a_void_label_of_minus_one_is_not_255_of_unsigned_labels():
    logits, target = batch(True, 3)
    with pytest.raises(RuntimeError, match="out of range"):
        computed(logits, target.to(torch.uint8), True, Requirements(), void=-1)


@pytest.mark.parametrize("softmax", [True, False])
def test_logits_and_labels_may_have_any_strides(softmax):
    logits, target = batch(softmax, 3, pixels=40, images=2)
    strided_logits = logits.movedim(1, 2).contiguous().movedim(2, 1)
    strided_target = target.movedim(0, -1).contiguous().movedim(-1, 0)
    assert not strided_logits.is_contiguous()
    assert not strided_target.is_contiguous()
    assert_same(strided_logits, strided_target, softmax, EVERYTHING)
    assert_same(logits[..., ::2], target[..., ::2], softmax, EVERYTHING)


@pytest.mark.parametrize("label", [-1, MANY, 2**32 + 1])
@pytest.mark.parametrize(("softmax", "classes"), TASKS)
@pytest.mark.skipif(DEVICE == "cuda", reason="an assertion on a GPU ends the process")
def test_a_label_out_of_range_is_asserted(softmax, classes, label):
    logits, target = batch(softmax, classes)
    target[..., -1] = label
    labels = classes if softmax else 2
    with pytest.raises(RuntimeError, match=f"out of range: expected 0 to {labels - 1}, and ignore_index"):
        computed(logits, target, softmax, Requirements())


@pytest.mark.parametrize("softmax", [True, False])
def test_programs_that_add_up_several_blocks_give_the_same(softmax, monkeypatch):
    monkeypatch.setattr(triton_backend, "_PROGRAMS", 2)
    monkeypatch.setattr(triton_backend, "_FORWARD_BLOCK", 32)
    monkeypatch.setattr(triton_backend, "_BACKWARD_BLOCK", 32)
    monkeypatch.setattr(triton_backend, "_LOGITS_OF_A_COPY", 0)
    assert_same(*batch(softmax, 3, pixels=200 if softmax else 70), softmax, EVERYTHING)


def test_programs_never_add_up_more_pixels_than_float32_counts(monkeypatch):
    grids = []
    kernel = triton_kernels.softmax_forward
    monkeypatch.setattr(triton_kernels, "softmax_forward", _Recorder(kernel, grids))
    monkeypatch.setattr(triton_backend, "_PROGRAMS", 1)
    assert triton_backend._MOST_PIXELS <= 2**24
    monkeypatch.setattr(triton_backend, "_MOST_PIXELS", 2**7)
    logits, target = batch(True, 1, pixels=2**8 + 1)
    results = computed(logits, target, True, Requirements())
    assert grids == [(3,)]
    assert int(results["by_label"][..., 0].sum()) == int((target != VOID).sum())


@pytest.mark.parametrize(("dtype", "images"), [(torch.float64, 2), (torch.float32, 0)])
def test_torch_computes_float64_and_empty_batches(dtype, images, monkeypatch):
    monkeypatch.undo()
    logits, target = batch(True, 5, dtype=dtype)
    assert_same(logits[:images], target[:images], True, EVERYTHING)


class _Recorder:
    """A kernel that notes how many programs it is launched with."""

    def __init__(self, kernel, grids: list) -> None:
        self.kernel, self.grids = kernel, grids

    def __getitem__(self, grid: tuple[int, ...]):
        self.grids.append(grid)
        return self.kernel[grid]


@pytest.mark.parametrize("softmax", [True, False])
def test_the_sums_of_large_logits_lose_no_digits(softmax):
    logits, target = batch(softmax, MANY if softmax else 5)
    shift = 1000.0 if softmax else 0.0
    # The gradient is computed from log Σ exp z, which float32 holds to 6e-5 at 1000.
    assert_same((logits * 4).round() / 4 + shift, target, softmax, EVERYTHING, rtol=5e-3, atol=5e-4)


def test_classes_with_a_logit_of_minus_infinity_have_probability_zero():
    logits, target = batch(True, MANY)
    most = MANY // 2 + 1
    logits[:, :most] = -float("inf")
    target = target.where(target >= most, VOID)
    assert_same(logits, target, True, Requirements(squares=True))


def test_two_runs_give_the_same_bits():
    logits, target = batch(True, 3)
    first, second = (computed(logits, target, True, EVERYTHING) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("softmax", [True, False])
def test_torch_finds_the_operator_sound(softmax):
    logits, target = batch(softmax, 2, pixels=7)
    arguments = (logits.requires_grad_(), target, VOID, [2.0], True, True, True, "probability", False, True)
    operators = torch.ops.lightning_seg
    torch.library.opcheck((operators.softmax_sums if softmax else operators.sigmoid_sums).default, arguments)


def scores_batch(
    softmax: bool, classes: int, pixels: int, dtype=torch.float32, images: int = 1
) -> tuple[Tensor, Tensor]:
    """Logits with ties, infinities and NaN."""
    logits, target = batch(softmax, classes, pixels, images)
    generator = torch.Generator().manual_seed(1)
    logits = logits.round().cpu()
    for value in (torch.nan, torch.inf, -torch.inf):
        logits.masked_fill_(torch.rand(logits.shape, generator=generator) < 0.1 / classes**0.5, value)
    return logits.to(DEVICE, dtype), target


def counted(logits: Tensor, target: Tensor, softmax: bool) -> Tensor:
    classes = logits.shape[1]
    prediction = logits.argmax(1) if softmax else (logits > 0).long()
    labels = classes if softmax else 2
    cell = target * labels + prediction
    if not softmax:
        cell = cell + 4 * torch.arange(classes, device=cell.device).view(-1, 1)
    return torch.bincount(cell[target != VOID], minlength=labels**2 * (1 if softmax else classes))


@pytest.mark.parametrize(
    ("softmax", "classes", "dtype"),
    [
        *((True, classes, torch.float32) for classes in (2, 63, 70)),
        *((True, 5, dtype) for dtype in (torch.float32, torch.bfloat16, torch.float16)),
        *((False, classes, dtype) for classes in (1, 3) for dtype in (torch.float32, torch.bfloat16, torch.float16)),
    ],
)
def test_confusion_counts_are_those_of_argmax_with_ties_and_nan(softmax, classes, dtype):
    logits, target = scores_batch(softmax, classes, 1100, dtype)
    counts = confusion_counts(logits, target, ignore_index=VOID, softmax=softmax)
    assert torch.equal(counts.flatten(), counted(logits, target, softmax))


@pytest.mark.parametrize("softmax", [True, False])
def test_confusion_counts_of_any_strides_and_label_types_and_of_several_blocks(softmax, monkeypatch):
    monkeypatch.setattr(triton_backend, "_COUNTING_PROGRAMS", 2)
    monkeypatch.setattr(triton_backend, "_PIXELS", 64)
    logits, target = scores_batch(softmax, 3, 150, images=2)
    expected = counted(logits, target, softmax)
    strided = logits.movedim(1, 2).contiguous().movedim(2, 1)
    for labels in (target, target.to(torch.uint8), target.int().movedim(0, -1).contiguous().movedim(-1, 0)):
        counts = confusion_counts(strided, labels, ignore_index=VOID, softmax=softmax)
        assert torch.equal(counts.flatten(), expected)
    without_void = target.where(target != VOID, 1)
    counts = confusion_counts(logits, without_void, ignore_index=None, softmax=softmax)
    assert torch.equal(counts.flatten(), counted(logits, without_void, softmax))


@pytest.mark.skipif(DEVICE == "cuda", reason="an assertion on a GPU ends the process")
def test_confusion_counts_assert_a_label_out_of_range():
    logits, target = batch(True, 3)
    target[..., -1] = 3
    with pytest.raises(RuntimeError, match="out of range: expected 0 to 2, and ignore_index"):
        confusion_counts(logits, target, ignore_index=VOID, softmax=True)
