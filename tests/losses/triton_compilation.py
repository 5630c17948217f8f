"""The Triton kernels behind `class_sums`, compiled for an H100 without one; run by `test_class_sums_triton`."""

import pytest
import torch
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver
from triton.runtime.jit import JITFunction

from lightning_seg.losses import class_sums_torch, class_sums_triton
from lightning_seg.losses.class_sums import Reads, empty_outputs


class H100:
    """What Triton asks of a driver to compile."""

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


@pytest.fixture
def compiled(monkeypatch) -> dict[str, dict]:
    """The assembly of each kernel that would have been launched, by name."""
    assembly, run = {}, JITFunction.run

    def compile_only(self, *args, **kwargs):
        assembly[self.__name__] = run(self, *args, **kwargs | {"warmup": True}).asm

    driver.set_active(H100())
    monkeypatch.setattr(JITFunction, "run", compile_only)
    return assembly


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("softmax", "classes", "reads"),
    [
        (True, 19, Reads()),
        (True, 19, Reads((1.5, 2.0), True, True, True, "probability", True)),
        (True, 150, Reads((2.0,), True, True, True, "probability")),
        (False, 3, Reads((1.5, 2.0), True, True, True, "margin")),
    ],
)
def test_the_kernels_compile_read_along_pixels_and_add_errors_atomically(softmax, classes, reads, dtype, compiled):
    logits = torch.zeros(2, classes, 4096, dtype=dtype)
    target = torch.zeros((2, 4096) if softmax else logits.shape, dtype=torch.uint8)
    outputs = empty_outputs(logits, softmax, reads)
    by_label, by_channel, label_map, error_sums, _, normalizer = outputs
    class_sums_triton.forward(logits, target, softmax, 255, reads, outputs)
    gradients = class_sums_torch.Gradients(
        by_label, by_channel, label_map if reads.label_map else None, error_sums if reads.errors != "none" else None
    )
    class_sums_triton.backward(gradients, logits, target, normalizer, softmax, 255, reads)
    task = "softmax" if softmax else "sigmoid"
    assert set(compiled) == {f"{task}_forward", f"{task}_backward"}
    for assembly in compiled.values():
        assert assembly["cubin"]
        # Threads beside each other read pixels beside each other, 16 bytes each.
        assert "ld.global.v4.b32" in assembly["ptx"]
    assert ("atom.global" in compiled[f"{task}_forward"]["ptx"]) == (reads.errors != "none")
    assert "atom.global" not in compiled[f"{task}_backward"]["ptx"]
