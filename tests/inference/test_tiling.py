import pytest
import torch
from torch.nn import functional as F

from lightning_seg.inference import predict_tiled


def local_network(channels: int = 3) -> torch.nn.Module:
    """Sees two pixels around each."""
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(4, channels, 3, padding=1)
    ).double()


def assembled(patches, channels: int, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    result, times = torch.zeros(1, channels, *size, dtype=torch.float64), torch.zeros(size)
    for rows, columns, logits in patches:
        result[:, :, rows, columns] = logits
        times[rows, columns] += 1
    return result, times


@pytest.mark.parametrize("size", [(1, 1), (40, 1), (1, 40), (17, 16), (33, 47), (64, 20), (13, 100)])
@pytest.mark.parametrize(("tile", "margin"), [(16, 2), (11, 3), (5, 2), (37, 9)])
@torch.no_grad()
def test_tiles_of_a_local_network_give_what_the_whole_image_gives(size, tile, margin):
    network, image = local_network(), torch.rand(1, 3, *size, dtype=torch.float64)
    result, times = assembled(predict_tiled(network, image, tile=tile, margin=margin), 3, size)
    assert (times == 1).all()
    torch.testing.assert_close(result, network(image))


@pytest.mark.parametrize("out", [(66, 94), (67, 91), (20, 30), (33, 47), (200, 1)])
@torch.no_grad()
def test_resampled_tiles_give_what_interpolating_the_whole_logits_gives(out):
    network, image = local_network(), torch.rand(1, 3, 33, 47, dtype=torch.float64)
    result, times = assembled(predict_tiled(network, image, tile=12, margin=3, size=out), 3, out)
    assert (times == 1).all()
    torch.testing.assert_close(result, F.interpolate(network(image), out, mode="bilinear"))


def test_a_tile_is_never_larger_than_asked_and_all_have_one_size():
    shapes = []

    def forward(part):
        shapes.append(tuple(part.shape[2:]))
        return part

    list(predict_tiled(forward, torch.rand(1, 3, 50, 90), tile=20, margin=4))
    assert set(shapes) == {(20, 20)}


def test_an_image_no_larger_than_the_tile_goes_through_whole_and_is_not_changed():
    image = torch.rand(1, 3, 20, 7)
    (patch,) = predict_tiled(lambda part: part, image, tile=20, margin=4)
    assert torch.equal(patch.logits, image)


@pytest.mark.parametrize(("tile", "margin"), [(16, 8), (10, 20), (16, -1), (0, 0)])
def test_a_tile_without_a_centre_is_refused_at_the_call(tile, margin):
    with pytest.raises(ValueError, match=f"tile={tile} leaves no center"):
        predict_tiled(lambda part: part, torch.rand(1, 3, 8, 8), tile=tile, margin=margin)


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 3, 8, 8), (1, 3, 0, 8)])
def test_anything_but_one_image_is_refused(shape):
    with pytest.raises(ValueError, match=r"expected an image of shape \(1, channels, H, W\)"):
        predict_tiled(lambda part: part, torch.zeros(shape), tile=8, margin=1)
