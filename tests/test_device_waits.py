"""Neither a loss nor a metric makes a GPU wait: with fake CUDA tensors, looking at a value raises."""

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torchmetrics import Metric

from lightning_seg import losses
from lightning_seg.metrics import ImageMeanIoU, MeanIoU, PixelMean

TASKS = [("multiclass", 3), ("multilabel", 3), ("binary", 1)]


def batch(task: str, channels: int) -> tuple[torch.Tensor, torch.Tensor]:
    logits = torch.empty(2, channels, 4, 5, device="cuda", requires_grad=True)
    shape = (2, 4, 5) if task == "multiclass" else (2, channels, 4, 5)
    return logits, torch.empty(shape, dtype=torch.long, device="cuda")


def on_cuda(metric: Metric) -> Metric:
    for name, state in metric.metric_state.items():  # .to("cuda") moves the defaults too, through a mode of its own
        setattr(metric, name, state.to("cuda"))
    return metric


def test_looking_at_a_value_would_be_noticed():
    with FakeTensorMode(), pytest.raises(DataDependentOutputException):
        bool(torch.empty((), device="cuda") > 0)


@pytest.mark.parametrize("ignore_index", [None, 255, 0])
@pytest.mark.parametrize(("task", "channels"), TASKS)
def test_updating_metrics_makes_no_device_wait(task, channels, ignore_index):
    spec = {"task": task, "num_classes": channels, "ignore_index": ignore_index}
    with FakeTensorMode():
        logits, target = batch(task, channels)
        for metric in (MeanIoU(**spec), ImageMeanIoU(**spec)):
            on_cuda(metric).update(logits.detach(), target)
        on_cuda(PixelMean()).update(logits.detach().mean(), (target != 255).sum())


@pytest.mark.parametrize("ignore_index", [None, 255, 0])
@pytest.mark.parametrize(("task", "channels"), TASKS)
@pytest.mark.parametrize(
    "name",
    sorted(
        {"CrossEntropyLoss", "DiceLoss", "FocalLoss", "OhemCrossEntropyLoss", "TopKCrossEntropyLoss", "MCCLoss"}
        | {"PolyCrossEntropyLoss", "JaccardLoss", "TverskyLoss", "FocalTverskyLoss", "GeneralizedDiceLoss"}
        | {"LogCoshDiceLoss", "SoftClDiceLoss", "LovaszSoftmaxLoss", "CrossEntropyDiceLoss"}
    ),
)
def test_computing_a_loss_makes_no_device_wait(name, task, channels, ignore_index):
    if name == "LovaszSoftmaxLoss" and task != "multiclass":
        name = "LovaszHingeLoss"
    with FakeTensorMode():
        loss = getattr(losses, name)(task=task, ignore_index=ignore_index)
        assert loss(*batch(task, channels)).shape == ()
