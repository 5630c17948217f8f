"""Losses and scores on a CUDA GPU, against float64 on the CPU; skipped where there is none."""

import copy
from itertools import product

import pytest
import torch
from torch import Tensor, nn

from lightning_seg import losses
from lightning_seg.losses.engine import back_ends, torch_backend
from lightning_seg.losses.engine.back_ends import choose_back_end
from lightning_seg.losses.engine.predictions import confusion_counts
from lightning_seg.losses.engine.self_check import find_difference
from lightning_seg.metrics import ImageMeanIoU, MeanIoU, PixelMean
from tests.losses.test_all_losses import CASES, Case, rows, value_and_gradient, void_of

if not torch.cuda.is_available():
    pytest.skip("needs a CUDA GPU", allow_module_level=True)

HALF = [torch.float32, torch.bfloat16, torch.float16]
TASKS = [("multiclass", 5), ("multilabel", 3), ("binary", 1)]
NAMES = [
    *("CrossEntropyLoss", "DiceLoss", "FocalLoss", "OhemCrossEntropyLoss", "TopKCrossEntropyLoss", "MCCLoss"),
    *("PolyCrossEntropyLoss", "JaccardLoss", "TverskyLoss", "FocalTverskyLoss", "GeneralizedDiceLoss"),
    *("LogCoshDiceLoss", "SoftClDiceLoss", "LovaszSoftmaxLoss", "CrossEntropyDiceLoss"),
]


@pytest.fixture
def no_wait():
    """Raises where the host waits for the device."""

    def watch(on: bool) -> None:
        torch.cuda.set_sync_debug_mode("error" if on else "default")

    yield watch
    torch.cuda.set_sync_debug_mode("default")


def batch(task: str, channels: int, size=(37, 41)) -> tuple[Tensor, Tensor]:
    """Logits of two images, and labels of which some are void."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(2, channels, *size, generator=generator)
    shape = (2, *size) if task == "multiclass" else logits.shape
    target = torch.randint(0, channels if task == "multiclass" else 2, shape, generator=generator)
    target[torch.rand(shape, generator=generator) < 0.2] = 255
    return logits, target


def loss_of(name: str, task: str) -> nn.Module:
    if name == "LovaszSoftmaxLoss" and task != "multiclass":
        name = "LovaszHingeLoss"
    return getattr(losses, name)(task=task, ignore_index=255)


def test_the_kernels_are_right_on_this_gpu_and_used():
    pytest.importorskip("triton")
    device = torch.device("cuda", torch.cuda.current_device())
    back_end = choose_back_end(device, torch.float32, 1)
    assert back_end.name == "triton"
    assert find_difference(back_end, device) is None


@rows()
def test_a_loss_is_that_of_float64_on_the_cpu(case: Case, task: str):
    loss = case.make(task=task, ignore_index=255, **case.options)
    wide, target = batch(task, 1 if task == "binary" else 4)
    on_cuda = copy.deepcopy(loss).cuda()
    for dtype, layout in product(HALF, (torch.contiguous_format, torch.channels_last)):
        logits = wide.to(dtype)
        expected, expected_gradient = value_and_gradient(loss, logits.double(), target)
        logits = logits.cuda().to(memory_format=layout)
        value, gradient = value_and_gradient(on_cuda, logits, target.cuda())
        assert value.dtype == torch.float32
        torch.testing.assert_close(value.double().cpu(), expected, rtol=1e-4, atol=1e-6)
        difference = torch.linalg.vector_norm(gradient.double().cpu() - expected_gradient)
        # Of Lovász' histograms each error near an edge of its bin may be in the other one.
        allowed = 1e-2 if "asz" in str(loss) else 1e-3 if dtype == torch.float32 else 1e-2
        assert difference <= allowed * torch.linalg.vector_norm(expected_gradient), (dtype, layout)


@rows(every_task=False)
def test_void_pixels_may_hold_anything(case: Case, task: str):
    loss = case.make(task=task, ignore_index=255, **case.options).cuda()
    logits, target = (part.cuda() for part in batch(task, 1 if task == "binary" else 4))
    void = void_of(target, logits, 255)
    value, gradient = value_and_gradient(loss, logits, target)
    other, other_gradient = value_and_gradient(loss, logits.masked_fill(void, torch.nan), target)
    torch.testing.assert_close(other, value)
    torch.testing.assert_close(other_gradient, gradient)
    assert not gradient[void].any()


@pytest.mark.parametrize(("task", "channels"), TASKS)
@pytest.mark.parametrize("name", NAMES)
def test_a_training_step_makes_the_host_wait_for_nothing(name: str, task: str, channels: int, no_wait):
    loss = loss_of(name, task).cuda()
    logits, target = (part.cuda() for part in batch(task, channels))
    logits.requires_grad_()
    metrics = [metric(task=task, num_classes=channels, ignore_index=255).cuda() for metric in (MeanIoU, ImageMeanIoU)]
    mean = PixelMean().cuda()
    for watched in (False, True):  # the first time kernels are compiled and compared
        no_wait(watched)
        value = loss(logits, target)
        value.backward()
        for metric in metrics:
            metric.update(logits.detach(), target)
        mean.update(value.detach(), (target != 255).sum())
    no_wait(False)
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("name", ["CrossEntropyDiceLoss", "LovaszSoftmaxLoss", "FocalLoss", "OhemCrossEntropyLoss"])
@pytest.mark.parametrize("task", ["multiclass", "binary"])
def test_torch_compile_gives_the_same(name: str, task: str):
    torch.compiler.reset()
    loss = loss_of(name, task).cuda()
    logits, target = (part.cuda() for part in batch(task, 5 if task == "multiclass" else 1))
    compiled = torch.compile(loss, fullgraph=True)
    for _ in range(2):
        value, gradient = value_and_gradient(compiled, logits, target)
    expected, expected_gradient = value_and_gradient(loss, logits, target)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient, expected_gradient)


@pytest.mark.parametrize("name", ["CrossEntropyDiceLoss", "LovaszSoftmaxLoss"])
def test_a_step_can_be_recorded_in_a_graph(name: str):
    loss = loss_of(name, "multiclass").cuda()
    logits, target = (part.cuda() for part in batch("multiclass", 5))
    logits.requires_grad_()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        expected = loss(logits, target)
        (expected_gradient,) = torch.autograd.grad(expected, logits)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        value = loss(logits, target)
        (gradient,) = torch.autograd.grad(value, logits)
    graph.replay()
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient, expected_gradient)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["CrossEntropyDiceLoss", "LovaszSoftmaxLoss"])
def test_with_autocast_a_small_network_learns(name: str, dtype: torch.dtype):
    torch.manual_seed(0)
    network = nn.Conv2d(3, 4, 3, padding=1).cuda()
    loss = loss_of(name, "multiclass").cuda()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5)
    scaler = torch.amp.GradScaler(enabled=dtype == torch.float16)
    images = torch.randn(2, 3, 64, 64, device="cuda")
    target = images.abs().argmax(1)
    found = []
    for _ in range(30):
        optimizer.zero_grad()
        with torch.autocast("cuda", dtype=dtype):
            logits = network(images)
            assert logits.dtype == dtype
            value = loss(logits, target)
        scaler.scale(value).backward()
        scaler.step(optimizer)
        scaler.update()
        found.append(value.detach())
    assert torch.stack(found).isfinite().all()
    assert found[-1] < 0.97 * found[0]


@pytest.mark.parametrize("forced", ["triton", "torch"])
@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize(("softmax", "classes"), [(True, 2), (True, 19), (True, 150), (False, 3)])
def test_confusion_counts_are_those_of_the_cpu(softmax, classes, dtype, forced, monkeypatch):
    pytest.importorskip("triton")
    logits, target = batch("multiclass" if softmax else "multilabel", classes, size=(90, 170))
    logits = logits.masked_fill_(torch.rand(logits.shape) < 0.01, torch.nan).to(dtype)
    logits, target = logits.flatten(2), target.flatten(1 if softmax else 2)
    monkeypatch.setenv(back_ends.VARIABLE, "torch")
    expected = confusion_counts(logits, target, ignore_index=255, softmax=softmax)
    monkeypatch.setenv(back_ends.VARIABLE, forced)
    found = confusion_counts(logits.cuda(), target.cuda(), ignore_index=255, softmax=softmax)
    assert torch.equal(found.cpu(), expected)


def test_the_torch_path_computes_the_same_on_this_gpu():
    assert find_difference(torch_backend.BACK_END, torch.device("cuda")) is None
    for name in ("ce_dice", "lovasz"):
        loss = CASES[name].make(ignore_index=255).cuda()
        logits, target = batch("multiclass", 5)
        expected, expected_gradient = value_and_gradient(loss, logits.double(), target)
        value, gradient = value_and_gradient(loss, logits.double().cuda(), target.cuda())
        torch.testing.assert_close(value.cpu(), expected)
        torch.testing.assert_close(gradient.cpu(), expected_gradient)
