"""A back end that must prove itself on a device: a right one is used, a wrong or failing one is not."""

import warnings
from dataclasses import replace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from lightning_seg.losses import CrossEntropyDiceLoss
from lightning_seg.losses.engine import back_ends
from lightning_seg.losses.engine.back_ends import agree_on_back_ends, choose_back_end
from lightning_seg.losses.engine.self_check import find_difference
from lightning_seg.losses.engine.torch_backend import BACK_END
from tests.process_group import run_on_ranks

CPU = torch.device("cpu")


def one_pixel_too_many(logits, target, ignore_index, requires, outputs):
    BACK_END.softmax_forward(logits, target, ignore_index, requires, outputs)
    outputs.by_label[0, 0, 0] += 1


def void_counted(logits, target, ignore_index, requires, outputs):
    BACK_END.sigmoid_forward(logits, target.where(target != ignore_index, 0), None, requires, outputs)


def not_a_number(*arguments):
    return BACK_END.softmax_backward(*arguments) * torch.nan


def reversed_gradient(*arguments):
    return -BACK_END.sigmoid_backward(*arguments)


def no_compiler(*arguments):
    raise RuntimeError("Failed to find C compiler.\nPlease set CC")


RIGHT = replace(BACK_END, name="right")
WRONG = {
    "sums by label of softmax differs": {"softmax_forward": one_pixel_too_many},
    "sums by label of sigmoid differs": {"sigmoid_forward": void_counted},
    "the gradient of softmax differs": {"softmax_backward": not_a_number},
    "the gradient of sigmoid differs": {"sigmoid_backward": reversed_gradient},
    "RuntimeError: Failed to find C compiler.": {"softmax_forward": no_compiler},
}


def back_end(parts):
    return replace(BACK_END, name="wrong", **parts)


@pytest.fixture
def to_prove(monkeypatch):
    """Puts a back end in the place of Triton's, on the CPU."""

    def put(candidate):
        monkeypatch.delenv(back_ends.VARIABLE, raising=False)
        monkeypatch.setattr(back_ends, "_KERNELS", {"triton": ("cpu", (torch.float32,))})
        monkeypatch.setattr(back_ends, "_verdicts", {})
        monkeypatch.setattr(back_ends, "_installed", lambda name: candidate)

    return put


def test_a_right_back_end_has_no_difference():
    assert find_difference(RIGHT, CPU) is None


@pytest.mark.parametrize("message", WRONG)
def test_what_is_wrong_is_said(message):
    assert find_difference(back_end(WRONG[message]), CPU) == message


def test_a_right_one_is_used_and_checked_once(to_prove, monkeypatch):
    to_prove(RIGHT)
    checks = []
    monkeypatch.setattr(back_ends.self_check, "find_difference", lambda *arguments: checks.append(arguments))
    for _ in range(3):
        assert choose_back_end("cpu", torch.float32, 1) is RIGHT
    assert checks == [(RIGHT, CPU)]


def test_for_a_wrong_one_torch_operations_stand_in_with_one_warning(to_prove):
    to_prove(back_end({"softmax_forward": one_pixel_too_many}))
    with pytest.warns(UserWarning, match=r"triton's kernels .* on cpu \(sums by label of softmax differs\).* torch op"):
        assert choose_back_end("cpu", torch.float32, 1) is BACK_END
    with warnings.catch_warnings(action="error"):
        assert choose_back_end("cpu", torch.float32, 1) is BACK_END


def test_a_back_end_that_is_forced_is_not_checked(to_prove, monkeypatch):
    wrong = back_end({"softmax_forward": no_compiler})
    to_prove(wrong)
    monkeypatch.setattr(back_ends, "_required", lambda name: wrong)
    monkeypatch.setenv(back_ends.VARIABLE, "triton")
    assert choose_back_end("cpu", torch.float32, 1) is wrong


def test_nothing_is_checked_while_a_loss_is_traced(to_prove, monkeypatch):
    to_prove(back_end({"softmax_forward": no_compiler}))
    arguments = torch.randn(2, 3, 8, requires_grad=True), torch.zeros(2, 8, dtype=torch.long)
    with warnings.catch_warnings(action="error"):
        exported = torch.export.export(Traced(), arguments)
        with FakeTensorMode() as mode:
            CrossEntropyDiceLoss()(*map(mode.from_tensor, arguments)).backward()
    assert "softmax_sums" in exported.graph_module.print_readable(print_output=False)
    assert not back_ends._verdicts


class Traced(torch.nn.Module):
    def forward(self, logits, target):
        return CrossEntropyDiceLoss()(logits, target)


def decision(rank: int, world_size: int) -> list[str]:
    """Rank 1 has a wrong back end, all others a right one."""
    wrong = back_end({"softmax_forward": no_compiler})
    back_ends._KERNELS = {"triton": ("cpu", (torch.float32,))}
    back_ends._installed = lambda name: wrong if rank == 1 else RIGHT
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        agree_on_back_ends(CPU)
        chosen = choose_back_end("cpu", torch.float32, 1).name
    return [chosen, *(str(warning.message) for warning in caught)]


@pytest.mark.slow
def test_all_processes_use_the_same(tmp_path):
    one, other = run_on_ranks(decision, 2, tmp_path)
    assert one[0] == other[0] == "torch"
    assert len(one) == len(other) == 2
    assert "they fail on another process" in one[1]
    assert "Failed to find C compiler" in other[1]
