import warnings

import pytest
import torch
from torch import nn

from lightning_seg import SegmentationModule
from lightning_seg.inference.reach import layer_that_sees_everything
from lightning_seg.losses import CrossEntropyLoss


class Excited(nn.Module):
    """Squeeze-and-excitation without a pooling layer."""

    def forward(self, image):
        return image * image.mean((2, 3), keepdim=True).sigmoid()


class Attention(nn.Module):
    """Of all positions, as tokens."""

    def forward(self, image):
        tokens = image.flatten(2).transpose(1, 2)
        seen = (tokens @ tokens.transpose(1, 2)).softmax(-1) @ tokens
        return seen.transpose(1, 2).reshape(image.shape)


class Fixed(nn.Module):
    """Takes images of one size."""

    def forward(self, image):
        if image.shape[2:] != (16, 16):
            raise ValueError("expected 16x16")
        return image - image.mean((2, 3), keepdim=True)


def network(middle):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 5, stride=4, padding=2), middle, nn.Conv2d(4, 3, 3, padding=1)).eval()


@pytest.mark.parametrize(
    ("middle", "name"),
    [
        (nn.ReLU(), None),
        (nn.BatchNorm2d(4), None),
        (nn.Conv2d(4, 4, 3, dilation=24, padding=24), None),
        (nn.AvgPool2d(3, 1, 1), None),
        (Excited(), "1 (Excited)"),
        (Attention(), "1 (Attention)"),
        (nn.Sequential(nn.ReLU(), nn.InstanceNorm2d(4)), "1.1 (InstanceNorm2d)"),
        (nn.GroupNorm(2, 4), "1 (GroupNorm)"),
    ],
)
def test_a_layer_that_sees_all_of_its_image_is_found(middle, name):
    assert layer_that_sees_everything(network(middle), 3, 4, (64, 64)) == name


def test_a_network_of_one_size_is_looked_at_in_that_size():
    assert layer_that_sees_everything(Fixed(), 3, 4, (16, 16)) == "Fixed"
    assert layer_that_sees_everything(Fixed(), 3, 4, (8, 8)) is None


def test_volumes_too():
    layers = nn.Sequential(nn.Conv3d(1, 2, 3, padding=1), nn.InstanceNorm3d(2))
    assert layer_that_sees_everything(layers, 1, 2, (16, 16, 16)) == "1 (InstanceNorm3d)"


def test_a_module_says_once_which_layer_sees_all_of_a_tile():
    options = {"num_classes": 3, "tile": 32, "margin": 4}
    module = SegmentationModule(network(Excited()), CrossEntropyLoss(), **options).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        module.predict(torch.rand(3, 32, 30))  # fits
    with pytest.warns(
        UserWarning, match=r"tiles of 32 pixels, and backbone.1 \(Excited\) sees all of its tile"
    ) as seen:
        module.predict(torch.rand(3, 40, 40))
    assert len(seen) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        module.predict(torch.rand(3, 40, 40))


def test_smooth_tiles_are_those_of_prediction_by_every_way():
    module = SegmentationModule(network(nn.ReLU()), CrossEntropyLoss(), num_classes=3, tile=32, margin=4).eval()
    module.tiling = "smooth"
    image = torch.rand(3, 70, 50)
    labels, probabilities = module.predict(image, probabilities=True)
    with torch.no_grad():
        logits = module.predict_logits(image[None])
    torch.testing.assert_close(probabilities, logits.softmax(1)[0])
    assert torch.equal(labels, logits.argmax(1)[0])
    module.tiling = "crop"
    with torch.no_grad():
        assert not torch.allclose(module.predict_logits(image[None]), logits)
