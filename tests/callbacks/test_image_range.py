"""Images that are nearly black for a network, or far too bright, are said before the first step."""

import warnings
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from lightning_seg import SegmentationModule
from lightning_seg.callbacks.image_range import ImageRange, unusual_range
from lightning_seg.losses import CrossEntropyLoss
from tests.small_module import trainer

IMAGENET = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
NONE = None, None


def images(low: float, high: float) -> torch.Tensor:
    return low + (high - low) * torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("image", "by", "found"),
    [
        (images(0, 1), IMAGENET, ""),
        (images(0, 1), NONE, ""),
        (images(0.3, 0.6), IMAGENET, ""),
        (images(-2, 2), NONE, ""),  # normalized by the data module
        (images(0, 4095 / 65535), IMAGENET, "from 4.98e-06 to 0.0625 and are normalized by data.mean and data.std"),
        (images(0, 4095 / 65535), NONE, "from 4.98e-06 to 0.0625 and are not normalized"),
        (images(0, 255), IMAGENET, "to 255 and are normalized by data.mean and data.std: the network gets a standard "),
        (images(0, 255), NONE, "to 255 and are not normalized: the network gets a standard deviation of 7"),
        (images(0, 4095 / 65535), (torch.full((3,), 0.03), torch.full((3,), 0.018)), ""),  # data.mean=auto
        (images(0, 4095 / 65535)[:, :1], (torch.tensor([0.5]), torch.tensor([0.25])), "from "),
        (torch.full((1, 3, 4, 4), float("nan")), IMAGENET, ""),  # for others to say
    ],
)
def test_values_that_mean_and_std_are_not_for_are_said(image: torch.Tensor, by: Any, found: str) -> None:
    line = unusual_range(image, *by)
    assert found in line
    assert bool(line) == bool(found)


class Own(SegmentationModule):
    def unpack(self, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
        return batch[0] / 255, batch[1]


@pytest.mark.parametrize(("kind", "times"), [(SegmentationModule, 1), (Own, 0)])
def test_it_is_said_once_and_not_of_batches_that_a_module_of_ones_own_unpacks(kind: Any, times: int) -> None:
    data = [(255 * torch.rand(3, 8, 8), torch.zeros(8, 8, dtype=torch.int64)) for _ in range(4)]
    module = kind(nn.Conv2d(3, 2, 1), CrossEntropyLoss(), num_classes=2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer(max_epochs=2, callbacks=[ImageRange()]).fit(module, DataLoader(data, batch_size=2))
    assert sum("images of the first batch" in str(one.message) for one in caught) == times


@pytest.mark.parametrize(
    "batch", [{"pixels": torch.zeros(1)}, torch.zeros(1), ["text", 0], [torch.zeros(1, 4, 2, 2), 0], None]
)
def test_what_it_does_not_know_is_for_the_step_to_refuse_or_to_read(batch: Any) -> None:
    module = SegmentationModule(nn.Conv2d(3, 2, 1), CrossEntropyLoss(), num_classes=2, mean=[0.5] * 3, std=[0.2] * 3)
    before = trainer(max_epochs=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ImageRange().on_train_batch_start(before, module, batch, 0)
