"""The largest channel and the confusion counts of logits, against argmax and counting one pixel after the other."""

import importlib.util
from itertools import product

import pytest
import torch

from lightning_seg.losses.engine import predictions, torch_backend
from lightning_seg.losses.engine.predictions import confusion_counts, largest_channels

VOID = 255
needs_numba = pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="needs numba")


@pytest.fixture(params=["torch", pytest.param("numba", marks=needs_numba)], autouse=True)
def back_end(request, monkeypatch):
    monkeypatch.setenv("LIGHTNING_SEG_BACKEND", request.param)
    monkeypatch.setattr(torch_backend, "block_size", lambda _: 600)
    if request.param == "numba":
        from lightning_seg.losses.engine import numba_backend

        for name, size in (("_LEAST", 1000), ("_MOST", 1000), ("_MOST_PIXELS", 64)):  # several tiles in a block
            monkeypatch.setattr(numba_backend, name, size)


def batch(softmax, shape=(3, 5, 301)):
    """Logits with ties, infinities and NaN, and labels with void pixels."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randint(-3, 4, shape, generator=generator).float()
    for value, share in ((torch.nan, 0.05), (torch.inf, 0.1), (-torch.inf, 0.1)):
        logits.masked_fill_(torch.rand(shape, generator=generator) < share, value)
    labels = (shape[0], shape[2]) if softmax else shape
    target = torch.randint(0, shape[1] if softmax else 2, labels, generator=generator)
    return logits, target.masked_fill_(torch.rand(labels, generator=generator) < 0.2, VOID)


def counted_one_by_one(logits, target, softmax):
    classes = logits.shape[1]
    if softmax:
        counts = torch.zeros(classes, classes, dtype=torch.int64)
        for label, prediction in zip(target.flatten().tolist(), logits.argmax(1).flatten().tolist(), strict=True):
            if label != VOID:
                counts[label, prediction] += 1
        return counts
    counts = torch.zeros(classes, 2, 2, dtype=torch.int64)
    for image, channel, pixel in product(*map(range, logits.shape)):
        label = int(target[image, channel, pixel])
        if label != VOID:
            counts[channel, label, int(logits[image, channel, pixel] > 0)] += 1
    return counts


@pytest.mark.parametrize("shape", [(3, 5, 301), (3, 2, 7), (1, 30, 40), (0, 3, 5), (2, 3, 0)])
def test_the_largest_channel_is_that_of_argmax_with_ties_and_nan(shape):
    logits, _ = batch(True, shape)
    found = largest_channels(logits)
    assert found.dtype == torch.int64
    assert torch.equal(found, logits.argmax(1))


def test_logits_may_have_any_number_of_dimensions_and_any_strides():
    logits = batch(True, (2, 5, 60))[0].view(2, 5, 3, 4, 5)
    assert torch.equal(largest_channels(logits), logits.argmax(1))
    assert torch.equal(largest_channels(logits[..., 0, 0, 0]), logits[..., 0, 0, 0].argmax(1))
    last = logits.movedim(1, -1).contiguous().movedim(-1, 1)
    assert torch.equal(largest_channels(last), logits.argmax(1))
    assert torch.equal(largest_channels(logits[:, :, 1]), logits[:, :, 1].argmax(1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("softmax", [True, False])
def test_counts_are_those_of_each_pixel(softmax, dtype):
    logits, target = batch(softmax)
    expected = counted_one_by_one(logits, target, softmax)
    assert torch.equal(confusion_counts(logits.to(dtype), target, ignore_index=VOID, softmax=softmax), expected)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.bool])
@pytest.mark.parametrize("softmax", [True, False])
def test_labels_are_any_integers(softmax, dtype):
    logits, target = batch(softmax, (2, 2, 300))
    void = None if dtype == torch.bool else VOID
    target = target.where(target != VOID, 1) if void is None else target
    expected = counted_one_by_one(logits, target, softmax)
    assert torch.equal(confusion_counts(logits, target.to(dtype), ignore_index=void, softmax=softmax), expected)


def test_a_void_label_may_be_one_of_the_classes():
    logits, target = batch(True)
    target = target.where(target != VOID, 1)
    expected = counted_one_by_one(logits, target.where(target != 1, VOID), True)
    assert torch.equal(confusion_counts(logits, target, ignore_index=1, softmax=True), expected)


@pytest.mark.parametrize("softmax", [True, False])
def test_a_label_out_of_range_is_named(softmax):
    logits, target = batch(softmax)
    target.view(-1)[-1] = 77
    with pytest.raises(ValueError, match="target holds label 77, which is out of range"):
        confusion_counts(logits, target, ignore_index=VOID, softmax=softmax)


def test_threads_count_the_same(monkeypatch):
    logits, target = batch(True)
    expected = counted_one_by_one(logits, target, True)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert torch.equal(confusion_counts(logits, target, ignore_index=VOID, softmax=True), expected)
    finally:
        torch.set_num_threads(threads)


def test_while_torch_compile_traces_argmax_itself_finds_it(monkeypatch):
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    monkeypatch.setattr(predictions, "map_blocks", None)
    logits, _ = batch(True)
    assert torch.equal(largest_channels(logits), logits.argmax(1))
