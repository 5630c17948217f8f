import math

import pytest
import torch

from lightning_seg.losses.pixel.hard_examples import hard_example_weights


def hardest(costs, kept, valid=None):
    valid = torch.ones_like(costs, dtype=torch.bool) if valid is None else valid
    return hard_example_weights(costs, valid, torch.tensor(kept), False)


def by_sort(costs, kept, valid):
    """1 above the last cost that is kept; those equal to it share the places that are left."""
    ranked = costs[valid].sort(descending=True).values
    if not len(ranked) or not kept:
        return torch.zeros_like(costs)
    last = ranked[min(kept, len(ranked)) - 1]
    above, ties = valid & (costs > last), valid & (costs == last)
    share = min(1, (kept - int(above.sum())) / int(ties.sum()))
    return above.to(costs.dtype) + share * ties.to(costs.dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kept", [0, 1, 7, 250, 699, 2000])
@pytest.mark.parametrize("scale", [1e-42, 1e-30, 1e-3, 1.0, 1e4, 1e30])
def test_weights_are_those_of_a_sort_at_any_scale(scale, kept, dtype):
    torch.manual_seed(0)
    costs = (scale * torch.rand(10, 100)).to(dtype)
    valid = torch.rand(10, 100) < 0.7
    torch.testing.assert_close(hardest(costs, kept, valid), by_sort(costs, kept, valid))


@pytest.mark.parametrize("kept", [1, 20, 123, 300, 499])
def test_pixels_that_tie_share_the_last_places(kept):
    torch.manual_seed(0)
    costs = torch.randint(0, 6, (500,)).double()
    valid = torch.rand(500) < 0.8
    weights = hardest(costs, kept, valid)
    torch.testing.assert_close(weights, by_sort(costs, kept, valid))
    assert weights.sum().item() == pytest.approx(min(kept, int(valid.sum())))


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_costs_of_zero_of_either_sign_are_kept_like_others(zero):
    costs = torch.full((37,), zero)
    torch.testing.assert_close(hardest(costs, 3), torch.full((37,), 3 / 37))
    assert hardest(costs, 37).eq(1).all()
    torch.testing.assert_close(hardest(torch.tensor([zero, 2.0, -zero]), 2), torch.tensor([0.5, 1.0, 0.5]))


def test_infinite_and_huge_losses_come_first():
    costs = torch.tensor([1.0, math.inf, 3e38, 0.0, math.inf, 2.0])
    assert hardest(costs, 1).tolist() == [0, 0.5, 0, 0, 0.5, 0]
    assert hardest(costs, 2).tolist() == [0, 1, 0, 0, 1, 0]
    assert hardest(costs, 3).tolist() == [0, 1, 1, 0, 1, 0]
    assert hardest(costs, 4).tolist() == [0, 1, 1, 0, 1, 1]


def test_neighboring_numbers_are_told_apart():
    one = torch.tensor(1.0)
    above = torch.nextafter(one, torch.tensor(2.0))
    assert hardest(torch.stack([one, above, one]), 1).tolist() == [0, 1, 0]


@pytest.mark.parametrize("kept", [3, 4, 1000, 50_000_000_000])
def test_all_valid_pixels_are_kept_if_there_are_too_few(kept):
    valid = torch.tensor([True, False, True, False, True])
    for costs in (torch.tensor([0.0, 9.0, 2.0, 9.0, 1e-40]), torch.tensor([0.5, 9.0, 2.0, 9.0, math.inf])):
        assert hardest(costs, kept, valid).tolist() == [1, 0, 1, 0, 1]


@pytest.mark.parametrize("kept", [0, 1, 10])
def test_void_pixels_are_never_kept_whatever_they_cost(kept):
    costs = torch.tensor([0.0, 5.0, math.inf, math.nan])
    assert hardest(costs, kept, torch.zeros(4, dtype=torch.bool)).eq(0).all()
    assert hardest(costs[:0], kept).shape == (0,)


def test_nothing_is_kept_of_none():
    assert hardest(torch.tensor([0.0, 1.0, math.inf]), 0).eq(0).all()
