"""A network for another number of channels than the images have is refused before anything is computed."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lightning_seg import SegmentationModule
from lightning_seg.callbacks.channels import ChannelsFit
from lightning_seg.data import ShapesDataModule


class Widened(SegmentationModule):
    """A module of one's own, whose network gets other channels than images have."""

    def unpack(self, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
        image, mask = super().unpack(batch)
        return torch.cat([image, image[:, :1]], 1), mask


@pytest.mark.parametrize(
    ("backbone", "mean", "message"),
    [
        ({"in_channels": 3}, [0.5] * 3, None),
        (
            {"in_channels": 4},
            None,
            r"images have 3 channels, and backbone\.in_channels=4: use backbone\.in_channels=3",
        ),
        ({"config": {"num_channels": 1}}, None, r"and backbone\.config\.num_channels=1"),
        ({}, [0.5] * 5, r"data\.mean and data\.std have 5 numbers: give 3, or data\.mean=auto"),
        ({"config": {}}, None, None),
    ],
)
def test_what_was_built_for_other_channels_is_said(backbone: Any, mean: Any, message: str | None) -> None:
    data = ShapesDataModule(num_train=1, num_val=1, num_test=1, image_size=32, seed=0, batch_size=1)
    data.augment = lambda sample: pytest.fail("the image is read as it is")
    data.setup("fit")
    trainer: Any = SimpleNamespace(datamodule=data)
    network, loss = torch.nn.Conv2d(3, 6, 1), torch.nn.CrossEntropyLoss()
    module = SegmentationModule(network, loss, num_classes=6, mean=mean, std=mean)
    callback = ChannelsFit({"module": {"backbone": backbone}})
    own = Widened(network, loss, num_classes=6, mean=mean, std=mean)
    callback.setup(trainer, own, "fit")
    if message is None:
        callback.setup(trainer, module, "fit")
    else:
        with pytest.raises(ValueError, match=message):
            callback.setup(trainer, module, "fit")
