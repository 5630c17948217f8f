"""On a device without float64, such as mps, no loss asks for it; the CPU stands in for the device."""

import sys

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lightning_seg import losses
from lightning_seg.losses.engine import dtypes, jaccard_integrals, self_check, torch_backend

NAMES = [
    *("CrossEntropyLoss", "DiceLoss", "FocalLoss", "OhemCrossEntropyLoss", "TopKCrossEntropyLoss", "MCCLoss"),
    *("PolyCrossEntropyLoss", "JaccardLoss", "TverskyLoss", "FocalTverskyLoss", "GeneralizedDiceLoss"),
    *("LogCoshDiceLoss", "SoftClDiceLoss", "LovaszSoftmaxLoss", "CrossEntropyDiceLoss"),
]


class NoFloat64(TorchDispatchMode):
    """Raises where an operation gives float64."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and leaf.dtype == torch.float64:
                raise TypeError(f"{function} gives float64, which the device does not have")
        return result


@pytest.fixture
def no_float64(monkeypatch):
    monkeypatch.setenv("LIGHTNING_SEG_BACKEND", "torch")
    original = dtypes.sum_dtype
    for name, module in list(sys.modules.items()):
        if name.startswith("lightning_seg.losses") and getattr(module, "sum_dtype", None) is original:
            monkeypatch.setattr(module, "sum_dtype", lambda like: torch.float32)


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
@pytest.mark.parametrize("name", NAMES)
def test_a_loss_asks_for_no_float64(name, task, no_float64):
    if name == "LovaszSoftmaxLoss" and task == "multilabel":
        name = "LovaszHingeLoss"
    loss = getattr(losses, name)(task=task, ignore_index=255)
    logits = torch.randn(2, 10, 6, 7, requires_grad=True)
    target = torch.randint(0, 2, (2, 6, 7) if task == "multiclass" else (2, 10, 6, 7))
    target[0, :2] = 255
    with NoFloat64():
        value = loss(logits, target)
        value.backward()
    assert value.dtype == torch.float32
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("softmax", [True, False])
@pytest.mark.parametrize("requires", self_check._REQUIREMENTS)
def test_nor_does_a_pass_over_the_logits(softmax, requires, no_float64):
    with NoFloat64():  # which does not see what happens within an operator
        self_check._computed(torch_backend.BACK_END, torch.device("cpu"), softmax, requires)


def test_nor_do_the_slopes_of_lovasz_losses(no_float64):
    counts = torch.randint(0, 4, (3, 2, 50))
    with NoFloat64():
        slopes = jaccard_integrals._gradients(counts, counts[:, 1].sum(1).float())
    assert slopes.dtype == torch.float32
    assert slopes.isfinite().all()


def test_float64_would_be_noticed():
    with NoFloat64(), pytest.raises(TypeError, match="gives float64"):
        torch.zeros(1).double()
