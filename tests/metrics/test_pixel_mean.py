import math

import pytest
import torch

from lightning_seg.metrics import PixelMean


def test_batches_weigh_what_their_pixels_do():
    mean = PixelMean()
    mean.update(torch.tensor(1.0), 3)
    mean.update(torch.tensor(5.0), torch.tensor(1))
    assert mean.compute() == 2
    assert mean.compute().dtype == torch.float32


def test_more_pixels_than_float32_can_count_are_counted():
    mean = PixelMean()
    mean.update(torch.tensor(0.0), 2**24)
    for _ in range(64):
        mean.update(torch.tensor(1.0), 1)
    assert mean.pixels == 2**24 + 64
    assert mean.compute().item() == pytest.approx(64 / (2**24 + 64), rel=1e-6)


def test_a_batch_without_pixels_does_not_count_whatever_its_value():
    mean = PixelMean()
    mean.update(torch.tensor(math.nan), 0)
    mean.update(torch.tensor(2.0), 4)
    assert mean.compute() == 2


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_that_is_not_finite_shows(value):
    mean = PixelMean()
    mean.update(torch.tensor(value), 4)
    mean.update(torch.tensor(2.0), 4)
    assert not mean.compute().isfinite()


def test_the_mean_of_nothing_is_nan():
    with pytest.warns(UserWarning, match="before the ``update``"):
        assert PixelMean().compute().isnan()


def test_the_gradient_is_not_kept():
    mean, value = PixelMean(), torch.tensor(1.0, requires_grad=True)
    mean.update(value, 2)
    assert not mean.total.requires_grad
