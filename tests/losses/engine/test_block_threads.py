"""Blocks side by side on threads: the same results as one after the other, wherever they run."""

import multiprocessing
import threading
import time

import pytest
import torch

from lightning_seg.losses import CrossEntropyDiceLoss, LovaszSoftmaxLoss
from lightning_seg.losses.engine import histograms, torch_backend
from lightning_seg.losses.engine.block_threads import map_blocks

CPU = torch.device("cpu")


@pytest.fixture(params=[1, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_results_come_in_the_order_of_the_blocks(threads):
    assert map_blocks(lambda number: number**2, range(20), CPU) == [number**2 for number in range(20)]
    assert torch.get_num_threads() == threads


def test_as_many_blocks_run_at_once_as_torch_has_threads(threads):
    meeting = threading.Barrier(threads, timeout=30)

    def block(_: int) -> tuple[int, bool]:
        meeting.wait()  # passes only if so many blocks run at once
        return torch.get_num_threads(), torch.is_grad_enabled()

    assert map_blocks(block, range(2 * threads), CPU) == [(1, False)] * (2 * threads)


def test_four_blocks_share_more_threads(threads):
    torch.set_num_threads(8)
    running, most = 0, 0
    lock = threading.Lock()

    def block(_: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.02)
        with lock:
            running -= 1
        return torch.get_num_threads()

    assert map_blocks(block, range(16), CPU) == [2] * 16
    assert most <= 4


def test_an_error_in_a_block_is_raised_and_changes_no_setting(threads):
    with pytest.raises(ZeroDivisionError):
        map_blocks(lambda number: 1 // number, range(4), CPU)
    assert torch.get_num_threads() == threads


def test_an_error_is_raised_when_no_block_is_computed_any_more(threads):
    torch.set_num_threads(2)
    running, begun = [], []

    def block(number: int) -> None:
        begun.append(number)
        if number == 1:
            raise ZeroDivisionError
        running.append(number)
        time.sleep(0.05)
        running.remove(number)

    with pytest.raises(ZeroDivisionError):
        map_blocks(block, range(100), CPU)
    assert running == []
    assert len(begun) < 100


def loss_and_gradient() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    logits = torch.randn(2, 5, 50, 40, requires_grad=True)
    target = torch.randint(0, 5, (2, 50, 40))
    target[:, :5] = 255
    value = CrossEntropyDiceLoss(ignore_index=255)(logits, target)
    value = value + LovaszSoftmaxLoss(ignore_index=255)(logits, target)
    value.backward()
    assert logits.grad is not None
    return value.detach(), logits.grad


@pytest.fixture(params=["torch", "numba"])
def small_blocks(request, monkeypatch):
    monkeypatch.setenv("LIGHTNING_SEG_BACKEND", request.param)
    monkeypatch.setattr(histograms, "block_size", lambda _: 1000)
    monkeypatch.setattr(torch_backend, "block_size", lambda _: 1000)
    if request.param == "numba":
        numba_backend = pytest.importorskip("lightning_seg.losses.engine.numba_backend")
        for name, size in (("_LEAST", 1), ("_MOST", 1000), ("_MOST_PIXELS", 32)):
            monkeypatch.setattr(numba_backend, name, size)


@pytest.mark.slow
def test_the_number_of_threads_changes_no_bit_of_a_loss(threads, small_blocks):
    results = [loss_and_gradient()]
    torch.set_num_threads(1)
    results.append(loss_and_gradient())
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


def test_a_loss_is_the_same_in_inference_mode(threads, small_blocks):
    expected, _ = loss_and_gradient()
    torch.manual_seed(0)
    with torch.inference_mode():
        logits = torch.randn(2, 5, 50, 40)
        target = torch.randint(0, 5, (2, 50, 40))
        target[:, :5] = 255
        value = CrossEntropyDiceLoss(ignore_index=255)(logits, target)
        value = value + LovaszSoftmaxLoss(ignore_index=255)(logits, target)
    assert torch.equal(value, expected)


def in_forked_process(connection) -> None:
    connection.send(map_blocks(lambda number: number + 1, range(3), CPU))


def test_a_forked_process_has_threads_of_its_own(threads):
    map_blocks(lambda number: number, range(8), CPU)  # the threads exist here
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=in_forked_process, args=(sender,))
    process.start()
    assert receiver.poll(60), "the forked process waits for threads that it does not have"
    assert receiver.recv() == [1, 2, 3]
    process.join()
