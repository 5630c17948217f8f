from itertools import product

import pytest
import torch

from lightning_seg.d4 import SYMMETRIES, Symmetry

IMAGE = torch.arange(2 * 3 * 5).view(2, 3, 5)


def test_the_eight_symmetries_differ_and_the_first_changes_nothing() -> None:
    square = torch.arange(9).view(3, 3)
    assert len({tuple(symmetry(square).flatten().tolist()) for symmetry in SYMMETRIES}) == 8
    assert torch.equal(SYMMETRIES[0](IMAGE), IMAGE)


@pytest.mark.parametrize("symmetry", SYMMETRIES)
def test_the_inverse_takes_back_on_either_side(symmetry: Symmetry) -> None:
    assert symmetry.inverse in SYMMETRIES
    assert torch.equal(symmetry.inverse(symmetry(IMAGE)), IMAGE)
    assert torch.equal(symmetry(symmetry.inverse(IMAGE)), IMAGE)


def test_any_two_in_turn_are_one_of_the_eight() -> None:
    square = torch.arange(9).view(3, 3)
    products = {symmetry: symmetry(square) for symmetry in SYMMETRIES}
    for first, second in product(SYMMETRIES, repeat=2):
        both = second(first(square))
        assert sum(torch.equal(both, one) for one in products.values()) == 1


@pytest.mark.parametrize("symmetry", SYMMETRIES)
def test_size_is_that_of_what_comes_out(symmetry: Symmetry) -> None:
    assert symmetry(IMAGE).shape == (2, *symmetry.size(3, 5))


def test_a_quarter_turn_is_anticlockwise_and_follows_the_mirror() -> None:
    corner = torch.tensor([[1, 2], [3, 4]])
    assert Symmetry(1, False)(corner).tolist() == [[2, 4], [1, 3]]
    assert Symmetry(0, True)(corner).tolist() == [[2, 1], [4, 3]]
    assert Symmetry(1, True)(corner).tolist() == [[1, 3], [2, 4]]
