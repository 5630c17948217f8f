"""The integral of the Jaccard loss over histograms of errors, by torch operations and by Numba's kernel."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lightning_seg.losses.engine.jaccard_integrals import jaccard_integrals
from lightning_seg.losses.region.lovasz import _jaccard_steps

by_both_back_ends = pytest.mark.parametrize("back_end", ["torch", pytest.param("numba", marks=pytest.mark.slow)])


def integrals(back_end: str, sums: Tensor, counts: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
    if back_end == "numba":
        pytest.importorskip("numba")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIGHTNING_SEG_BACKEND", back_end)
        return jaccard_integrals(sums, counts, total, 1)


@by_both_back_ends
@settings(max_examples=100, deadline=None, derandomize=True)
@given(data=st.data())
def test_gradients_keep_the_total_change_of_the_jaccard_loss(data, back_end):
    counts = st.lists(st.integers(0, 5) | st.just(10**8), min_size=4, max_size=4)
    own, other = data.draw(counts), data.draw(counts)
    total = sum(own) + data.draw(st.sampled_from([0, 0, 1, 7, 10**9]))
    exact_total = torch.tensor([[total]], dtype=torch.float64)
    sums = torch.zeros(1, 1, 2, 4).double()
    _, gradients = integrals(back_end, sums, torch.tensor([[[other, own]]]), exact_total)
    assert gradients.isfinite().all()
    assert (gradients >= 0).all()
    found, wrong = sum(own), sum(other)
    expected = 1 - (total - found) / (total + wrong) if total else float(wrong > 0)
    change = (gradients[0, 0] * torch.tensor([other, own])).sum()
    assert change.item() == pytest.approx(expected, rel=1e-10)


@by_both_back_ends
def test_an_error_alone_in_its_bin_has_the_gradient_of_sorting(back_end):
    torch.manual_seed(0)
    own = torch.rand(3, 4, 50) < 0.3
    own[0, 1] = False  # a class that is absent
    rank = torch.randperm(120)[:50].sort().values
    counts = torch.zeros(3, 4, 2, 120, dtype=torch.int64)
    counts[..., rank] = torch.stack([~own, own], 2).long()
    _, gradients = integrals(back_end, torch.zeros(counts.shape).double(), counts, own.sum(-1).double())
    expected = _jaccard_steps(own.flip(-1), torch.float64).flip(-1)
    of_background, of_foreground = gradients[..., rank].unbind(2)
    torch.testing.assert_close(torch.where(own, of_foreground, of_background), expected)


@pytest.mark.slow
def test_numbas_kernel_agrees_with_torch_operations_where_there_are_errors():
    torch.manual_seed(0)
    counts = torch.randint(0, 4, (3, 5, 2, 200)) * torch.randint(0, 2, (3, 5, 2, 200))
    counts[1, 2, 1] = 0  # a class that is absent
    counts[2, :, :, 150:] = 0
    counts[2, 3] = 0  # no error at all
    sums = counts * torch.rand(3, 5, 2, 200).double()
    total = counts[:, :, 1].sum(-1).double() + torch.tensor([0.0, 3.0, 0.0, 5.0, 10.0])
    total[1, 2] = 0
    (ours, of_ours), (theirs, of_theirs) = (integrals(name, sums, counts, total) for name in ("numba", "torch"))
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(of_ours * (counts > 0), of_theirs * (counts > 0), rtol=1e-12, atol=1e-14)
    assert of_ours.isfinite().all()
    # Of integers in the order that a sum over processes leaves, and of counts that are a view.
    turned = counts.transpose(0, 1).contiguous().transpose(0, 1)
    assert torch.equal(integrals("numba", sums, turned, total)[0], ours)
