"""Images of any size through networks that need multiples."""

import pytest
import torch
from torch import Tensor, nn

from lightning_seg.backbones import PadToStride

STRIDE = 8


class OnlyMultiples(nn.Module):
    """Raises where smp and others do, and remembers the image it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, STRIDE, stride=STRIDE), nn.Upsample(scale_factor=STRIDE))

    def forward(self, image: Tensor) -> Tensor:
        if image.shape[-1] % STRIDE or image.shape[-2] % STRIDE:
            raise RuntimeError("not a multiple")
        self.image = image
        return self.layers(image)


@pytest.mark.parametrize("size", [(1, 1), (7, 9), (8, 17), (33, 16), (31, 31)])
def test_logits_have_the_size_of_an_image_of_any_size(size):
    assert PadToStride(OnlyMultiples(), STRIDE)(torch.rand(2, 3, *size)).shape == (2, 4, *size)


@pytest.mark.parametrize("size", [(8, 8), (16, 24)])
def test_images_of_a_multiple_of_the_stride_give_what_the_network_gives(size):
    network = OnlyMultiples()
    image = torch.rand(2, 3, *size)
    assert torch.equal(PadToStride(network, STRIDE)(image), network(image))


def test_the_image_stays_in_the_upper_left_and_its_border_is_repeated():
    network = OnlyMultiples()
    image = torch.rand(1, 3, 7, 13)
    PadToStride(network, STRIDE)(image)
    rows, columns = torch.arange(8).clamp(max=6), torch.arange(16).clamp(max=12)
    assert torch.equal(network.image, image[..., rows, :][..., columns])


def test_logits_are_cropped_to_the_pixels_of_the_image():
    image = torch.rand(1, 3, 7, 13)
    assert torch.equal(PadToStride(nn.Identity(), STRIDE)(image), image)


def test_low_resolution_logits_are_brought_to_the_padded_image_before_the_crop():
    class Low(nn.Module):
        def forward(self, image: Tensor) -> dict[str, Tensor]:
            return {"out": nn.functional.avg_pool2d(image, 4)}

    padded = torch.rand(1, 3, 7, 7)[..., torch.arange(8).clamp(max=6), :][..., torch.arange(8).clamp(max=6)]
    expected = nn.functional.interpolate(nn.functional.avg_pool2d(padded, 4), (8, 8), mode="bilinear")[..., :7, :7]
    torch.testing.assert_close(PadToStride(Low(), STRIDE)(padded[..., :7, :7]), expected)


@pytest.mark.parametrize("size", [(5,), (8,), (3, 9, 5)])
def test_there_may_be_one_or_three_spatial_dimensions(size):
    image = torch.rand(2, 3, *size)
    padded = []
    network = nn.Identity()
    network.register_forward_hook(lambda module, inputs, output: padded.append(tuple(output.shape[2:])))
    assert torch.equal(PadToStride(network, 4)(image), image)
    assert padded == [tuple(-(-side // 4) * 4 for side in size)]


def test_logits_of_auxiliary_heads_are_cropped_to_the_pixels_of_the_image_too():
    class TwoHeads(nn.Module):
        def forward(self, image: Tensor) -> dict[str, Tensor]:
            return {"out": image, "aux": nn.functional.avg_pool2d(image, 4)}

    image = torch.rand(1, 3, 7, 13)
    logits, auxiliary = PadToStride(TwoHeads(), STRIDE)(image)
    assert torch.equal(logits, image)
    assert auxiliary.shape == image.shape


def test_a_program_exported_at_one_size_pads_at_every_other():
    sides = {axis: torch.export.Dim(f"side{axis}", min=2, max=4096) for axis in (2, 3)}
    network = PadToStride(nn.Conv2d(3, 2, 3, padding=1), STRIDE)
    program = torch.export.export(network, (torch.rand(1, 3, 16, 24),), dynamic_shapes=(sides,)).module()
    for size in ((16, 24), (7, 13), (33, 8)):
        image = torch.rand(1, 3, *size)
        torch.testing.assert_close(program(image), network(image))
