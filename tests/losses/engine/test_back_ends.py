"""Which back end computes a batch: by device, dtype and size, by a variable, and by what is installed."""

import importlib.util
import os
import subprocess
import sys

import pytest
import torch

from lightning_seg.losses import engine
from lightning_seg.losses.engine import back_ends
from lightning_seg.losses.engine.back_ends import choose_back_end

LARGE = 2**20


@pytest.fixture(autouse=True)
def _nothing_forced(monkeypatch):
    monkeypatch.delenv("LIGHTNING_SEG_BACKEND", raising=False)


@pytest.mark.parametrize(
    ("device", "dtype", "size", "name"),
    [
        ("cpu", torch.float32, LARGE, "numba"),
        ("cpu", torch.float64, LARGE, "numba"),
        ("cpu", torch.bfloat16, LARGE, "numba"),
        ("cpu", torch.float16, LARGE, "numba"),
        ("cpu", torch.float32, LARGE - 1, "torch"),
        ("cpu", torch.float32, 0, "torch"),
        ("cuda", torch.float64, 1, "torch"),
        ("cuda", torch.float32, 0, "torch"),
        ("mps", torch.float32, 1, "torch"),
        ("xpu", torch.float32, 1, "torch"),
    ],
)
def test_the_back_end_follows_device_dtype_and_size(device, dtype, size, name):
    pytest.importorskip("numba")
    assert choose_back_end(device, dtype, size).name == name


@pytest.mark.parametrize("name", ["torch", "numba"])
def test_the_variable_forces_a_back_end(name, monkeypatch):
    pytest.importorskip("numba")
    monkeypatch.setenv("LIGHTNING_SEG_BACKEND", name)
    assert choose_back_end("cpu", torch.float32, 1).name == name


@pytest.mark.parametrize(
    ("name", "device", "message"),
    [
        ("cuda", "cpu", "LIGHTNING_SEG_BACKEND=cuda is none of torch, triton, numba"),
        ("numba", "cuda", r"LIGHTNING_SEG_BACKEND=numba does not compute torch.float32 on cuda"),
        ("triton", "cpu", r"LIGHTNING_SEG_BACKEND=triton does not compute torch.float32 on cpu"),
    ],
)
def test_a_back_end_that_cannot_be_forced_is_an_error(name, device, message, monkeypatch):
    monkeypatch.setenv("LIGHTNING_SEG_BACKEND", name)
    with pytest.raises(ValueError, match=message):
        choose_back_end(device, torch.float32, 1)


@pytest.mark.parametrize(("package", "device"), [("triton", "cuda"), ("numba", "cpu")])
def test_torch_stands_in_for_what_is_not_installed_unless_it_is_forced(package, device, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    for part in ("backend", "kernels", "cache"):
        monkeypatch.delitem(sys.modules, f"lightning_seg.losses.engine.{package}_{part}", raising=False)
        monkeypatch.delattr(engine, f"{package}_{part}", raising=False)
    monkeypatch.setattr(back_ends, "_installed", back_ends._installed.__wrapped__)
    assert choose_back_end(device, torch.float32, LARGE).name == "torch"
    monkeypatch.setenv("LIGHTNING_SEG_BACKEND", package)
    with pytest.raises(ImportError):
        choose_back_end(device, torch.float32, 1)


def test_a_package_that_cannot_be_imported_is_said_once(monkeypatch):
    def broken(name):
        raise ImportError("Numba needs NumPy 2.3 or less")

    monkeypatch.setattr(back_ends, "_required", broken)
    monkeypatch.setattr(back_ends, "_installed", back_ends._installed.__wrapped__)
    with pytest.warns(UserWarning, match=r"numba cannot be imported \(Numba needs .*torch operations"):
        assert choose_back_end("cpu", torch.float32, LARGE).name == "torch"


@pytest.mark.slow
def test_a_new_process_imports_numba_for_the_first_large_batch_on_the_cpu_and_triton_never():
    code = """
import importlib.util
import os
import subprocess
import sys

sys.modules["triton"] = None  # importing it raises
import torch
from lightning_seg.losses import DiceLoss
from lightning_seg.losses.engine.back_ends import choose_back_end

loss = DiceLoss(task="multiclass", ignore_index=255)
loss(torch.randn(2, 3, 4, 4, requires_grad=True), torch.zeros(2, 4, 4).long()).backward()
print(choose_back_end("cpu", torch.float32, 2**20 - 1).name, "numba" in sys.modules)
print(choose_back_end("cpu", torch.float32, 2**20).name, "numba" in sys.modules)
print([name for name in sys.modules if "triton_backend" in name or "triton_kernels" in name])
"""
    environment = {name: value for name, value in os.environ.items() if name != "LIGHTNING_SEG_BACKEND"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    large = ["numba", "True"] if importlib.util.find_spec("numba") else ["torch", "False"]
    assert done.stdout.split() == ["torch", "False", *large, "[]"]
