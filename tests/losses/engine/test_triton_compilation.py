"""The Triton kernels behind `class_sums`, compiled for an H100 without one."""

import pytest
import torch

pytest.importorskip("triton")

from triton.backends.compiler import GPUTarget
from triton.compiler import CompiledKernel
from triton.runtime.driver import driver
from triton.runtime.jit import JITFunction

from lightning_seg.losses.engine import triton_backend
from lightning_seg.losses.engine.interface import Gradients, Requirements, empty_sigmoid_outputs, empty_softmax_outputs

pytestmark = pytest.mark.slow


class H100:
    """What Triton asks of a driver to compile."""

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


@pytest.fixture
def compiled(monkeypatch, tmp_path) -> dict[str, CompiledKernel]:
    """What each kernel that would have been launched was compiled to, by name."""
    kernels, run = {}, JITFunction.run
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))

    def compile_only(self, *args, **kwargs):
        kernels[self.__name__] = run(self, *args, **kwargs | {"warmup": True})

    monkeypatch.setattr(driver, "_active", H100())
    monkeypatch.setattr(JITFunction, "run", compile_only)
    return kernels


@pytest.mark.parametrize(
    ("softmax", "classes", "dtype", "requires"),
    [
        (True, 19, torch.bfloat16, Requirements()),
        (True, 6, torch.float32, Requirements((1.5, 2.0), True, True, True, "probability", True)),
        (True, 150, torch.float16, Requirements((2.0,), True, True, True, "probability")),
        (False, 3, torch.bfloat16, Requirements((1.5, 2.0), True, True, True, "margin")),
    ],
)
def test_the_kernels_compile_and_only_histograms_are_added_up_atomically(
    softmax, classes, requires, dtype, compiled, monkeypatch
):
    monkeypatch.setattr(triton_backend, "_TILE", 4)  # of the loop over many classes, whose body is written out
    logits = torch.zeros(2, classes, 4096, dtype=dtype)
    target = torch.zeros((2, 4096) if softmax else logits.shape, dtype=torch.uint8)
    outputs = (empty_softmax_outputs if softmax else empty_sigmoid_outputs)(logits, requires)
    by_label, by_channel, label_map, error_sums, _, normalizer = outputs
    task = "softmax" if softmax else "sigmoid"
    getattr(triton_backend, f"{task}_forward")(logits, target, 255, requires, outputs)
    gradients = Gradients(
        by_label,
        by_channel,
        label_map if requires.label_map else None,
        error_sums if requires.errors != "none" else None,
    )
    getattr(triton_backend, f"{task}_backward")(gradients, logits, target, normalizer, 255, requires)
    assert set(compiled) == {f"{task}_forward", f"{task}_backward"}
    forward, backward = compiled[f"{task}_forward"].asm, compiled[f"{task}_backward"].asm
    assert forward["cubin"]
    assert backward["cubin"]
    assert ("atom.global" in forward["ptx"]) == (requires.errors != "none")
    assert "atom.global" not in backward["ptx"]


@pytest.mark.parametrize(("softmax", "classes"), [(True, 2), (True, 63), (True, 150), (False, 3)])
def test_the_confusion_counts_compile(softmax, classes, compiled):
    logits = torch.zeros(2, classes, 4096, dtype=torch.bfloat16)
    target = torch.zeros((2, 4096) if softmax else logits.shape, dtype=torch.uint8)
    counts = torch.zeros((classes, classes) if softmax else (classes, 2, 2), dtype=torch.int64)
    triton_backend.add_confusion(logits, target, 255, softmax, counts)
    assert compiled["confusion"].asm["cubin"]
