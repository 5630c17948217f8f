"""The CUDA back end of `class_sums`, without a GPU: its kernels are interpreted in another process."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lightning_seg.losses.engine import back_ends
from lightning_seg.losses.engine.back_ends import choose_back_end

needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs triton")


def run(*command: str, **environment: str) -> str:
    """What a Python process prints; it must succeed."""
    clean = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, *command], env=clean | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def run_tests(name: str, **environment: str) -> None:
    # At the end Hypothesis' plugin imports Hypothesis, which takes a second.
    options = "-n", "0", "-p", "no:hypothesispytest"
    printed = run("-m", "pytest", str(Path(__file__).with_name(name)), *options, **environment)
    assert " passed" in printed
    assert "skipped" not in printed


@needs_triton
@pytest.mark.slow
def test_the_kernels_compute_the_sums_and_their_gradient():
    run_tests("triton_checks.py", TRITON_INTERPRET="1")


@needs_triton
@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_the_kernels_compute_the_same_on_a_gpu():
    assert " passed" in run("-m", "pytest", str(Path(__file__).with_name("triton_checks.py")), "-n", "0")


@needs_triton
def test_cuda_tensors_are_given_to_the_kernels(monkeypatch):
    from lightning_seg.losses.engine import triton_backend

    for name in ("softmax_sums", "softmax_sums_backward", "sigmoid_sums", "sigmoid_sums_backward"):
        assert torch._C._dispatch_has_computed_kernel_for_dispatch_key(f"lightning_seg::{name}", "CUDA")
    monkeypatch.setattr(back_ends.self_check, "find_difference", lambda back_end, device: None)
    monkeypatch.setattr(back_ends, "_verdicts", {})
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        assert choose_back_end("cuda", dtype, 1) is triton_backend.BACK_END
