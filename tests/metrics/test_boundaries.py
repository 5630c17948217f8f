import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from lightning_seg.metrics import boundaries
from lightning_seg.metrics.boundaries import boundary_counts, boundary_iou_counts, surface_dice_counts


def random_masks(seed, shape=(23, 31)):
    random = np.random.default_rng(seed)
    coarse = random.random((2, *(side // 4 + 1 for side in shape))) > 0.5
    return [np.kron(part, np.ones([4] * len(shape), bool))[tuple(map(slice, shape))].astype(bool) for part in coarse]


def inner_band(mask, width):
    """The pixels of a mask that are within `width` of one outside, in either direction; by brute force."""
    padded = np.pad(mask, width)
    band = np.zeros_like(mask)
    for place in np.argwhere(mask):
        window = padded[tuple(slice(at, at + 2 * width + 1) for at in place)]
        band[tuple(place)] = not window.all()
    return band


@pytest.mark.parametrize(("shape", "width"), [((23, 31), 1), ((150, 200), 5)])
def test_by_default_the_band_is_two_percent_of_the_diagonal_and_at_least_a_pixel(shape, width):
    one, other = random_masks(1, shape)
    assert boundary_iou_counts(one, other).tolist() == boundary_iou_counts(one, other, width).tolist()


@pytest.mark.parametrize("width", [1, 3])
def test_boundary_iou_is_that_of_the_bands_within_the_masks(width):
    one, other = random_masks(0)
    bands = inner_band(one, width), inner_band(other, width)
    expected = [(bands[0] & bands[1]).sum(), (bands[0] | bands[1]).sum()]
    assert boundary_iou_counts(one, other, width).tolist() == expected


@pytest.mark.parametrize(("shift", "expected"), [(0, 1.0), (1, 1.0), (2, 1.0), (6, 16 / 36)])
def test_surface_dice_of_squares_that_are_shifted(shift, expected):
    masks = np.zeros((2, 40, 40), bool)
    masks[0, 10:20, 10:20] = masks[1, 10:20, 10 + shift : 20 + shift] = True
    near, total = surface_dice_counts(masks[0], masks[1], tolerance=2)
    assert total == 72
    by_hand = 0
    surfaces = [mask & inner_cross(mask) for mask in masks]
    for one, other in (surfaces, surfaces[::-1]):
        by_hand += (distance_transform_edt(~other)[one] <= 2).sum()
    assert near == by_hand
    assert near / total == pytest.approx(expected, abs=0.05)


def inner_cross(mask):
    padded = np.pad(mask, 1)
    inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return ~inside


@pytest.mark.parametrize("tolerance", [0, 1.5, 4, 100, np.inf])
@pytest.mark.parametrize("rows", [1, 7, 512])
def test_distances_of_some_rows_at_a_time_are_those_of_all(tolerance, rows, monkeypatch):
    random = np.random.default_rng(0)
    for shape, share in (((40, 30), 0.02), ((40, 30), 0.4), ((20, 9, 8), 0.02)):
        one, other = random.random((2, *shape)) < share
        one[12:30] = False
        monkeypatch.setattr(boundaries, "_ROWS", rows)
        near = [(distance_transform_edt(~b)[a] <= tolerance).sum() for a, b in ((one, other), (other, one))]
        assert [boundaries._near(one, other, tolerance), boundaries._near(other, one, tolerance)] == near
    nothing = np.zeros_like(one)
    assert boundaries._near(one, nothing, tolerance) == boundaries._near(nothing, one, tolerance) == 0


def test_classes_are_counted_alone_and_void_pixels_belong_to_none():
    target, prediction = (np.where(mask, 2, 0) for mask in random_masks(1))
    valid = np.ones(target.shape, bool)
    valid[:5] = False
    counts = boundary_counts(prediction, target, valid, 4, tolerance=1.5)
    assert not counts[[1, 3]].any()
    one, other = ((part == 2) & valid for part in (prediction, target))
    assert counts[2, :2].tolist() == boundary_iou_counts(one, other, 1).tolist()
    assert counts[2, 2:].tolist() == surface_dice_counts(one, other, 1.5).tolist()
    masks = [np.stack([part == index for index in range(4)]) for part in (prediction, target)]
    assert np.array_equal(boundary_counts(*masks, valid, 4, 1.5), counts)


def test_volumes_have_surfaces():
    one, other = random_masks(2, (9, 10, 11))
    bands = inner_band(one, 1), inner_band(other, 1)
    assert boundary_iou_counts(one, other, 1).tolist() == [(bands[0] & bands[1]).sum(), (bands[0] | bands[1]).sum()]
