import pytest
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from lightning_seg.losses.boundary.distance_maps import signed_distance


def by_exhaustive_search(mask: Tensor, scope: Tensor, spacing: list[float]) -> Tensor:
    """φ of one mask (*spatial), from the distances of all pairs of pixels."""
    grid = torch.cartesian_prod(*(torch.arange(size) for size in mask.shape)).reshape(mask.numel(), mask.ndim)
    position = grid.double() * torch.tensor(spacing, dtype=torch.float64)
    distance = torch.cdist(position, position, compute_mode="donot_use_mm_for_euclid_dist")
    inside, outside = (mask & scope).flatten(), (~mask & scope).flatten()
    result = torch.zeros(mask.numel(), dtype=torch.float64)
    if inside.any() and outside.any():
        result[inside] = -distance[inside][:, outside].amin(1)
        result[outside] = distance[outside][:, inside].amin(1)
    return result.reshape(mask.shape)


@pytest.mark.parametrize(
    ("spatial", "spacing"),
    [((13,), None), ((13,), [0.5]), ((9, 7), None), ((9, 7), [2.5, 1]), ((4, 5, 6), None), ((4, 5, 6), [3, 1, 0.7])],
)
@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_distances_are_those_of_exhaustive_search(spatial, spacing, share):
    torch.manual_seed(0)
    mask = torch.rand(2, 3, *spatial) < share
    scope = torch.rand(2, 3, *spatial) < 0.7
    expected = torch.stack(
        [
            by_exhaustive_search(m, s, spacing or [1.0] * len(spatial))
            for m, s in zip(mask.flatten(0, 1), scope.flatten(0, 1), strict=True)
        ]
    ).reshape(2, 3, -1)
    torch.testing.assert_close(signed_distance(mask.flatten(2), scope.flatten(2), spatial, spacing), expected)


def test_a_row_has_1_at_both_sides_of_an_outline_and_no_0():
    mask = torch.tensor([[[0, 0, 0, 1, 1, 0, 1, 0, 0]]], dtype=torch.bool)
    expected = torch.tensor([[[3, 2, 1, -1, -1, 1, -1, 1, 2]]], dtype=torch.float64)
    assert torch.equal(signed_distance(mask, torch.ones_like(mask), (9,), None), expected)
    assert torch.equal(signed_distance(~mask, torch.ones_like(mask), (9,), None), -expected)


def test_distances_go_straight_across_what_is_out_of_scope():
    mask = torch.tensor([[[1, 1, 0, 0, 1, 0, 0]]], dtype=torch.bool)
    scope = torch.tensor([[[1, 1, 0, 0, 0, 1, 1]]], dtype=torch.bool)
    expected = torch.tensor([[[-5, -4, 0, 0, 0, 4, 5]]], dtype=torch.float64)
    assert torch.equal(signed_distance(mask, scope, (7,), None), expected)


def test_a_mask_without_outline_is_0_where_scipy_measures_to_a_pixel_that_does_not_exist():
    scope = torch.ones(1, 1, 12, dtype=torch.bool)
    for mask in (torch.zeros_like(scope), scope):
        assert signed_distance(mask, scope, (3, 4), None).eq(0).all()
    assert distance_transform_edt(scope.reshape(3, 4).numpy()).any()
    nothing = torch.zeros_like(scope)
    assert signed_distance(scope, nothing, (3, 4), None).eq(0).all()


def test_more_dimensions_of_one_pixel_change_nothing():
    torch.manual_seed(0)
    mask = torch.rand(2, 2, 30) < 0.4
    scope = torch.rand(2, 2, 30) < 0.8
    flat = signed_distance(mask, scope, (5, 6), [2.0, 1.0])
    assert torch.equal(signed_distance(mask, scope, (5, 1, 6), [2.0, 9.0, 1.0]), flat)


def test_pixels_without_space_have_no_outline():
    mask = torch.tensor([[[True], [False]]])
    assert signed_distance(mask, torch.ones_like(mask), (), None).eq(0).all()


def test_the_number_of_threads_changes_nothing():
    torch.manual_seed(0)
    mask, scope = torch.rand(3, 5, 400) < 0.3, torch.rand(3, 5, 400) < 0.9
    before = torch.get_num_threads()
    results = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        results.append(signed_distance(mask, scope, (20, 20), None))
    torch.set_num_threads(before)
    assert torch.equal(*results)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_it_compiles_without_a_graph_break(backend):
    torch.compiler.reset()
    torch.manual_seed(0)
    mask, scope = torch.rand(2, 2, 30) < 0.4, torch.rand(2, 2, 30) < 0.8
    compiled = torch.compile(signed_distance, backend=backend, fullgraph=True)
    assert torch.equal(compiled(mask, scope, (5, 6), (2.0, 1.0)), signed_distance(mask, scope, (5, 6), (2.0, 1.0)))


def test_torch_finds_no_fault_with_the_operator():
    inside = torch.rand(2, 4, 5) < 0.4
    operator = torch.ops.lightning_seg.signed_distance.default
    torch.library.opcheck(operator, (inside, ~inside, [2.0, 1.0], torch.float64))


def test_spacing_must_fit_the_image():
    mask = torch.zeros(1, 1, 6, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"spacing=\[1.0, 2.0, 3.0\] has 3 numbers and the images have 2 spatial"):
        signed_distance(mask, mask, (2, 3), [1.0, 2.0, 3.0])


def test_it_works_in_inference_mode_as_an_evaluation_is():
    mask = torch.zeros(2, 5, dtype=torch.bool)
    mask[:, 2] = True
    with torch.inference_mode():
        distances = signed_distance(mask, torch.ones_like(mask), (5,), None)
    assert distances.tolist() == 2 * [[2, 1, -1, 1, 2]]
