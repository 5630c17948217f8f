"""The CPU's kernels against torch operations, and the cache of what they are compiled to."""

import fcntl
import multiprocessing
import runpy
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch
from torch import Tensor

pytest.importorskip("numba")

from lightning_seg.losses import CrossEntropyDiceLoss, DiceLoss, LovaszHingeLoss, LovaszSoftmaxLoss
from lightning_seg.losses.engine import numba_cache
from lightning_seg.losses.engine.class_sums import sigmoid_sums, softmax_sums
from lightning_seg.losses.engine.interface import Requirements

VOID = 255
# Few are combined: what is not read is not compiled, and each combination takes seconds.
EVERYTHING = Requirements((0.0, 0.5, 1.0, 1.5, 2.0), squares=True, uniform=True, label_map=True, errors="probability")
EACH = [
    *((softmax, requires) for softmax in (True, False) for requires in (Requirements(), Requirements(gammas=(2.0,)))),
    (True, Requirements(squares=True)),
    (False, Requirements(log_probabilities=False)),
]
# Kernels are compiled for labels of one byte and for those of eight; where this is read, for one byte only.
OF_BYTES = {True: Requirements(squares=True), False: Requirements(gammas=(2.0,))}


def batch(softmax: bool, shape: tuple[int, int, int], dtype=torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images, classes, pixels = shape
    logits = (3 * torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype)
    labels = (images, pixels) if softmax else shape
    target = torch.randint(0, classes if softmax else 2, labels, generator=generator)
    return logits, target.masked_fill(torch.rand(labels, generator=generator) < 0.2, VOID)


def computed(
    back_end: str, logits: Tensor, target: Tensor, softmax: bool, requires: Requirements, void: int | None = VOID
) -> dict[str, Tensor]:
    """The sums, and the gradient of a random weighting of all of them."""
    logits = logits.detach().requires_grad_()
    operator = softmax_sums if softmax else sigmoid_sums
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIGHTNING_SEG_BACKEND", back_end)
        sums = operator(logits, target, ignore_index=void, requires=requires)
        results = {name: getattr(sums, name) for name in ("by_label", "by_channel", "label_map")}
        if not requires.log_probabilities:
            results["by_label"] = sums.by_label[..., [0, 2]]
        if requires.errors != "none":
            # Which of two bins an error at their edge is in depends on its last bit: seldom seen of float64.
            results["errors"] = sums.error_sums if logits.dtype == torch.float64 else sums.error_sums.sum(-1)
        generator = torch.Generator().manual_seed(1)
        parts = [(v * torch.randn(v.shape, generator=generator, dtype=v.dtype)).sum() for v in results.values()]
        torch.stack([part.double() for part in parts]).sum().backward()
    assert logits.grad is not None
    return {name: values.detach() for name, values in results.items()} | {"gradient": logits.grad}


def assert_same(
    logits: Tensor, target: Tensor, softmax: bool, requires: Requirements, void: int | None = VOID
) -> dict[str, Tensor]:
    ours = computed("numba", logits, target, softmax, requires, void)
    theirs = computed("torch", logits, target, softmax, requires, void)
    tolerance = 1e-9 if logits.dtype == torch.float64 else 3e-5
    for name, values in theirs.items():
        assert ours[name].dtype == values.dtype
        half = values.dtype in (torch.bfloat16, torch.float16)
        torch.testing.assert_close(
            ours[name], values, rtol=1e-2 if half else tolerance, atol=1e-2 if half else 3 * tolerance
        )
    return ours


@pytest.mark.parametrize("shape", [(2, 5, 3000), (3, 21, 70), (40, 3, 1), (1, 2, 5), (2, 150, 40)])
@pytest.mark.parametrize(
    "dtype",
    [
        torch.float32,  # the kernels of each are compiled
        *(pytest.param(dtype, marks=pytest.mark.slow) for dtype in (torch.float64, torch.bfloat16, torch.float16)),
    ],
)
@pytest.mark.parametrize("softmax", [True, False])
def test_sums_and_gradient_are_those_of_torch_operations(softmax, dtype, shape):
    assert_same(*batch(softmax, shape, dtype), softmax, EVERYTHING)


@pytest.mark.slow
@pytest.mark.parametrize(("softmax", "requires"), EACH)
def test_each_thing_read_alone_is_right(softmax, requires):
    logits, target = batch(softmax, (2, 4, 1500))
    assert_same(logits, target.byte() if requires == OF_BYTES[softmax] else target, softmax, requires)


@pytest.mark.slow
@pytest.mark.parametrize("per_image", [False, True])
@pytest.mark.parametrize(("softmax", "errors"), [(True, "probability"), (False, "probability"), (False, "margin")])
def test_histograms_and_their_gradient_are_right(softmax, errors, per_image):
    alone = Requirements(errors=errors, errors_per_image=per_image, log_probabilities=False)
    assert_same(*batch(softmax, (3, 5, 1100)), softmax, alone)
    with_others = replace(EVERYTHING, errors=errors, errors_per_image=per_image)
    assert_same(*batch(softmax, (3, 5, 1100), torch.float64), softmax, with_others)


@pytest.mark.parametrize("softmax", [True, False])
def test_logits_and_labels_may_have_any_strides(softmax):
    logits, target = batch(softmax, (3, 6, 500))
    expected = computed("numba", logits, target, softmax, EVERYTHING)
    strided = logits.movedim(1, 2).contiguous().movedim(2, 1), target.movedim(0, -1).contiguous().movedim(-1, 0)
    for name, values in computed("numba", *strided, softmax, EVERYTHING).items():
        torch.testing.assert_close(values, expected[name])
    assert_same(logits[..., 3::3], target[..., 3::3], softmax, EVERYTHING)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool])
@pytest.mark.parametrize("softmax", [True, False])
def test_labels_are_any_integers(softmax, dtype):
    logits, target = batch(softmax, (2, 2, 300))
    void = None if dtype == torch.bool else -1 if dtype.is_signed else VOID
    target = target.where(target != VOID, 1 if void is None else void).to(dtype)
    requires = OF_BYTES[softmax] if dtype == torch.uint8 else Requirements(log_probabilities=softmax)
    assert_same(logits, target, softmax, requires, void)


@pytest.mark.parametrize("void", [-100, 2, 2**31, 2**40 + 1, -(2**31) - 1])
def test_void_pixels_have_any_label(void):
    logits, target = batch(True, (2, 5, 300))
    assert_same(logits, target.masked_fill(target == VOID, void), True, Requirements(), void)


@pytest.mark.parametrize("softmax", [True, False])
def test_log_probabilities_in_float32_are_right_to_the_last_digits(softmax):
    logits, target = batch(softmax, (2, 5, 3000))
    ours = computed("numba", logits, target, softmax, EVERYTHING)["label_map"]
    exact = computed("torch", logits.double(), target, softmax, EVERYTHING)["label_map"]
    torch.testing.assert_close(ours.double(), exact, rtol=3e-7, atol=3e-7)


def test_of_labels_that_are_right_torch_operations_see_nothing(monkeypatch):
    monkeypatch.setattr("lightning_seg.losses.engine.numba_backend.valid_labels", None)  # says which one is wrong
    computed("numba", *batch(True, (2, 5, 300)), True, Requirements())


@pytest.mark.parametrize("void", [VOID, None])
@pytest.mark.parametrize("label", [-1, 5, 2**32 + 1])
def test_a_label_out_of_range_is_named(label, void):
    logits, target = batch(True, (2, 5, 300))
    target = target.where(target != VOID, 1)  # void pixels are looked at, too
    target[0, 7] = label
    with pytest.raises(ValueError, match=f"target holds label {label}, which is out of range: expected labels from 0"):
        computed("numba", logits, target, True, Requirements(), void)


@pytest.mark.slow
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("softmax", [True, False])
def test_void_pixels_may_hold_anything(softmax, value):
    logits, target = batch(softmax, (2, 5, 1200))
    void = (target == VOID).unsqueeze(1) if softmax else target == VOID
    clean = computed("numba", logits, target, softmax, EVERYTHING)
    for name, values in computed("numba", logits.masked_fill(void, value), target, softmax, EVERYTHING).items():
        assert torch.equal(values, clean[name])
    assert not clean["gradient"][void.expand_as(logits)].any()


@pytest.mark.slow
@pytest.mark.parametrize(
    "loss",
    [CrossEntropyDiceLoss(), DiceLoss(task="multilabel"), LovaszSoftmaxLoss(), LovaszHingeLoss(task="multilabel")],
)
def test_a_nan_among_the_logits_shows(loss, monkeypatch):
    monkeypatch.setenv("LIGHTNING_SEG_BACKEND", "numba")
    logits, target = batch(loss.task == "multiclass", (2, 5, 1200))
    logits[1, 3, 700] = float("nan")
    target = target.where(target != VOID, 1)
    assert loss(logits, target).isnan()


@pytest.mark.slow
@pytest.mark.parametrize("back_end", ["numba", "torch"])
def test_the_sums_of_large_logits_lose_no_digits(back_end):
    logits, target = batch(True, (2, 6, 1200))
    logits += 1000
    sums, exact = (
        computed(of, values, target, True, EVERYTHING)
        for of, values in ((back_end, logits), ("torch", logits.double()))
    )
    for name in ("by_label", "by_channel", "label_map"):
        torch.testing.assert_close(sums[name].double(), exact[name], rtol=1e-5, atol=1e-5)
    # The gradient is computed from log Σ exp z, which float32 holds to 6e-5 at 1000.
    ours, theirs = (computed(name, logits, target, True, Requirements())["gradient"] for name in (back_end, "torch"))
    torch.testing.assert_close(ours, theirs, rtol=5e-3, atol=5e-4)


def test_classes_of_minus_infinity_have_probability_zero():
    logits, target = batch(True, (2, 6, 1200))
    target = target.where(target >= 3, VOID)
    requires = OF_BYTES[True]
    others = computed("torch", logits[:, 3:], (target - 3).where(target != VOID, VOID), True, requires)
    logits[:, :3] = -float("inf")
    ours = computed("numba", logits, target.byte(), True, requires)
    assert ours["gradient"].isfinite().all()
    for name in ("by_label", "by_channel"):
        torch.testing.assert_close(ours[name][:, 3:], others[name], rtol=3e-5, atol=1e-4)


KERNEL = """
from lightning_seg.losses.engine.numba_cache import compiled

@compiled(set())
def twice(x):
    return x + x

results = twice(2), twice(2.5), sum(twice.stats.cache_hits.values())
"""


@pytest.fixture
def kernel(tmp_path) -> Path:
    (tmp_path / "kernel.py").write_text(KERNEL)
    return tmp_path / "kernel.py"


def start(kernel: Path, cache: Path) -> Connection:
    """A process that calls the kernel, a copy of this one."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    multiprocessing.get_context("fork").Process(target=run_kernel, args=(kernel, cache, sender)).start()
    return receiver


def run_kernel(kernel: Path, cache: Path, sender: Connection) -> None:
    import numba

    numba.config.CACHE_DIR = str(cache)
    sender.send(runpy.run_path(str(kernel))["results"])


def results_of(process: Connection) -> tuple[int, float, int]:
    """What a process was given by the kernel, and how many compiled ones it loaded."""
    assert process.poll(120)
    results: tuple[int, float, int] = process.recv()
    return results


@pytest.mark.slow
def test_code_is_kept_and_a_damaged_cache_is_made_anew(kernel, tmp_path):
    cache = tmp_path / "cache"
    assert results_of(start(kernel, cache)) == (4, 5.0, 0)
    assert results_of(start(kernel, cache)) == (4, 5.0, 2)
    for file in cache.rglob("*.nb?"):
        file.write_bytes(b"damaged")
    assert results_of(start(kernel, cache)) == (4, 5.0, 0)


def test_where_nothing_can_be_written_code_is_compiled_without_a_cache(kernel, tmp_path):
    (tmp_path / "a file").touch()
    assert results_of(start(kernel, tmp_path / "a file")) == (4, 5.0, 0)


def test_where_numba_finds_no_folder_code_is_compiled_without_a_cache(monkeypatch):
    monkeypatch.setattr("numba.core.caching.CacheImpl._locator_classes", [])

    @numba_cache.compiled(set())
    def twice(x):
        return x + x

    assert twice(2) == 4


def test_other_processes_may_compile_once_code_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path))

    @numba_cache.compiled(set())
    def twice(x):
        return x + x

    assert twice(2) == 4
    (lock,) = tmp_path.rglob("lightning_seg.lock")
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises where it is taken


@pytest.mark.slow
def test_processes_that_compile_at_once_do_not_disturb_each_other(kernel, tmp_path):
    processes = [start(kernel, tmp_path / "cache") for _ in range(3)]
    results = [results_of(process) for process in processes]
    assert all(result[:2] == (4, 5.0) for result in results)
    assert sum(hits for *_, hits in results) == 4  # one compiles each of two, which the others load
    assert results_of(start(kernel, tmp_path / "cache")) == (4, 5.0, 2)
