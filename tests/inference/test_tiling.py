import re

import pytest
import torch
from torch.nn import functional as F

from lightning_seg.backbones import PadToStride
from lightning_seg.inference import predict_tiled
from lightning_seg.inference.tiling import tiled_logits


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


@pytest.mark.parametrize("size", [(1, 1), (40, 1), (17, 16), (33, 47), (64, 20), (13, 100)])
@pytest.mark.parametrize(("tile", "margin"), [(16, 2), (11, 3), (5, 2), (37, 9), (8, 0)])
@torch.no_grad()
def test_smooth_tiles_of_a_local_network_give_what_the_whole_image_gives_each_pixel_once(size, tile, margin):
    network, image = local_network(), torch.rand(1, 3, *size, dtype=torch.float64)
    options = {"tile": tile, "margin": margin, "tiling": "smooth"}
    result, times = assembled(predict_tiled(network, image, **options, batch_size=3), 3, size)
    assert (times == 1).all()
    if margin >= 2:
        torch.testing.assert_close(result, network(image))


@torch.no_grad()
def test_smooth_weights_are_0_within_the_margin_of_an_inner_edge_and_rise_from_there():
    image = torch.arange(64, dtype=torch.float64).expand(1, 3, 8, -1)
    starts = []

    def number_of_tile(part):  # 1 in the second tile alone
        starts.append(int(part[0, 0, 0, 0]))
        return torch.full_like(part, float(len(starts) == 2))

    result, _ = assembled(predict_tiled(number_of_tile, image, tile=24, margin=4, tiling="smooth"), 3, (8, 64))
    second = result[0, 0, 0]
    assert starts[:3] == [0, 12, 24]  # centers of 16 that overlap by 4
    inner = slice(starts[1] + 4, starts[1] + 24 - 4)
    assert (second[: inner.start] == 0).all()
    assert (second[inner.stop :] == 0).all()
    rising = torch.tensor([0.125, 0.375, 0.625, 0.875], dtype=torch.float64)
    torch.testing.assert_close(second[inner.start : inner.start + 4], rising)
    torch.testing.assert_close(second[inner.stop - 4 : inner.stop], rising.flip(0))
    assert (second[inner.start + 4 : inner.stop - 4] == 1).all()


@torch.no_grad()
def test_smooth_tiles_have_no_seams_where_a_network_adds_a_number_of_its_own_to_each_tile():
    image = torch.rand(1, 1, 96, 96, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    jumps = {}
    for tiling in ("crop", "smooth"):
        patches = predict_tiled(lambda part: part.mean().expand_as(part), image, tile=32, margin=4, tiling=tiling)
        result, _ = assembled(patches, 1, (96, 96))
        jumps[tiling] = float(result[0, 0].diff(dim=-1).abs().max())
    assert jumps["smooth"] < jumps["crop"] / 3


@torch.no_grad()
def test_what_waits_for_a_neighbor_in_smooth_tiling_is_a_row_of_overlaps():
    tiles, image = {"tile": 32, "margin": 4, "tiling": "smooth"}, torch.zeros(1, 1, 512, 96)
    waiting, most = 0, 0

    def forward(part):
        nonlocal waiting
        waiting += part.numel()
        return part

    for patch in predict_tiled(forward, image, **tiles):
        waiting -= patch.logits.numel()
        most = max(most, waiting)
    overlaps = waiting  # what tiles read twice, of the whole image
    assert most < overlaps + 3 * 32 * 96


def test_a_tiling_of_no_known_kind_is_refused():
    with pytest.raises(ValueError, match="tiling=soft is not one of crop, smooth"):
        predict_tiled(lambda part: part, torch.rand(1, 3, 8, 8), tile=8, margin=1, tiling="soft")


@pytest.mark.parametrize("tiling", ["crop", "smooth"])
@pytest.mark.parametrize("out", [(66, 94), (67, 91), (20, 30), (33, 47), (200, 1)])
@torch.no_grad()
def test_resampled_tiles_give_what_interpolating_the_whole_logits_gives(out, tiling):
    network, image = local_network(), torch.rand(1, 3, 33, 47, dtype=torch.float64)
    result, times = assembled(predict_tiled(network, image, tile=12, margin=3, size=out, tiling=tiling), 3, out)
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


@pytest.mark.parametrize(("tile", "margin"), [(16, 8), (10, 20), (16, -1), (0, 0), ([16, 8], 4), ([16, 8], [8, 1])])
def test_a_tile_without_a_centre_is_refused_at_the_call(tile, margin):
    with pytest.raises(ValueError, match=re.escape(f"tile={tile} leaves no center")):
        predict_tiled(lambda part: part, torch.rand(1, 3, 8, 8), tile=tile, margin=margin)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 3, 0, 8)])
def test_anything_but_images_is_refused(shape):
    with pytest.raises(ValueError, match=r"expected images of shape \(N, channels, H, W\)"):
        predict_tiled(lambda part: part, torch.zeros(shape), tile=8, margin=1)


@torch.no_grad()
def test_a_batch_of_images_gives_the_tiles_of_each():
    network, images = local_network(), torch.rand(3, 3, 17, 30, dtype=torch.float64)
    together = list(predict_tiled(network, images, tile=12, margin=3, size=(20, 25)))
    for index in range(3):
        alone = predict_tiled(network, images[index : index + 1], tile=12, margin=3, size=(20, 25))
        for patch, own in zip(together, alone, strict=True):
            assert (patch.rows, patch.columns) == (own.rows, own.columns)
            torch.testing.assert_close(patch.logits[index : index + 1], own.logits)


# ---- put together


def at_size(network):
    """Logits of a network at a size, brought there in one step."""
    return lambda image, size: F.interpolate(
        network(image), tuple(size), mode="bilinear" if len(size) == 2 else "nearest"
    )


@torch.no_grad()
def test_logits_put_together_are_those_of_the_patches():
    network, image = local_network(), torch.rand(2, 3, 33, 47, dtype=torch.float64)
    expected = torch.zeros(2, 3, 20, 91, dtype=torch.float64)
    for rows, columns, logits in predict_tiled(network, image, tile=12, margin=3, size=(20, 91)):
        expected[:, :, rows, columns] = logits
    assert torch.equal(tiled_logits(at_size(network), image, (20, 91), tile=12, margin=3), expected)


@pytest.mark.parametrize("tile", [None, 33])
@torch.no_grad()
def test_an_image_that_fits_is_brought_to_the_size_asked_for_in_one_pass(tile):
    network, image = local_network(), torch.rand(1, 3, 33, 20, dtype=torch.float64)
    seen = []

    def forward(part, size):
        seen.append((tuple(part.shape[2:]), tuple(size)))
        return at_size(network)(part, size)

    logits = tiled_logits(forward, image, (66, 40), tile=tile, margin=tile and 3)
    assert seen == [((33, 20), (66, 40))]
    assert torch.equal(logits, at_size(network)(image, (66, 40)))


@pytest.mark.parametrize("tiling", ["crop", "smooth"])
@torch.no_grad()
def test_volumes_are_tiled_along_every_axis(tiling):
    torch.manual_seed(0)
    network, volume = torch.nn.Conv3d(1, 2, 3, padding=1).double(), torch.rand(1, 1, 9, 20, 14, dtype=torch.float64)
    shapes = set()

    def forward(part, size):
        shapes.add(tuple(part.shape[2:]))
        return at_size(network)(part, size)

    for tile, margin, size in (
        (10, 2, (9, 10, 10)),
        ([9, 12, 5], [1, 2, 1], (9, 12, 5)),
        ([7, 12, 20], 1, (7, 12, 14)),
        (8, [1, 1, 3], (8, 8, 8)),
    ):
        shapes.clear()
        logits = tiled_logits(forward, volume, (9, 20, 14), tile=tile, margin=margin, tiling=tiling)
        torch.testing.assert_close(logits, network(volume))
        assert shapes == {size}
    with pytest.raises(ValueError, match=r"tile=\[8, 8\] has 2 numbers, and images have 3 axes"):
        tiled_logits(forward, volume, (9, 20, 14), tile=[8, 8], margin=1)


@pytest.mark.parametrize("tiling", ["crop", "smooth"])
@pytest.mark.parametrize("size", [(53, 70), (64, 33), (100, 41)])
@pytest.mark.parametrize("batch_size", [1, 4])
@torch.no_grad()
def test_tiles_start_at_multiples_of_the_stride_so_that_a_network_that_downsamples_gives_the_whole(
    size, batch_size, tiling
):
    torch.manual_seed(0)
    layers = torch.nn.Conv2d(3, 4, 4, stride=4), torch.nn.ReLU(), torch.nn.ConvTranspose2d(4, 3, 4, stride=4)
    network = PadToStride(torch.nn.Sequential(*layers).double(), 4)
    image = torch.rand(1, 3, *size, dtype=torch.float64)
    patches = predict_tiled(network, image, tile=19, margin=4, stride=4, batch_size=batch_size, tiling=tiling)
    result, times = assembled(patches, 3, size)
    assert (times == 1).all()
    torch.testing.assert_close(result, network(image))
    moved, _ = assembled(predict_tiled(network, image, tile=19, margin=4), 3, size)
    assert not torch.allclose(moved, network(image))
