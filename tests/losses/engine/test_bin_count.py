import pytest
import torch

from lightning_seg.losses.engine.bin_count import _any_order, bin_count

CELLS = torch.tensor([0, 2, 2, 5])


def test_each_integer_is_counted_also_as_a_gpu_does(monkeypatch):
    assert bin_count(CELLS, 7).tolist() == [1, 0, 2, 0, 0, 1, 0]
    monkeypatch.setattr("torch.bincount", lambda *arguments, **options: pytest.fail("would make a GPU wait"))
    monkeypatch.setattr("torch.compiler.is_compiling", lambda: True)
    assert bin_count(CELLS, 7).tolist() == [1, 0, 2, 0, 0, 1, 0]


@pytest.mark.parametrize("warn_only", [False, True])
def test_the_deterministic_mode_is_lifted_for_the_sum_alone(warn_only):
    torch.use_deterministic_algorithms(True, warn_only=warn_only)
    try:
        with _any_order():
            assert not torch.are_deterministic_algorithms_enabled()
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled() is warn_only
    finally:
        torch.use_deterministic_algorithms(False)
    with _any_order():
        assert not torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()
