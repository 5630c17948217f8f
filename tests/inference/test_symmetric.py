"""Predictions averaged over the symmetries of the square."""

from functools import partial

import pytest
import torch
from torch import nn

from lightning_seg import SegmentationModule
from lightning_seg.backbones import logits_at_size
from lightning_seg.d4 import SYMMETRIES
from lightning_seg.inference import symmetric_logits
from lightning_seg.losses import CrossEntropyLoss


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def network(classes=3, kernel=3):
    """A convolution, whose kernel of more than one pixel is not symmetric."""
    return nn.Conv2d(3, classes, kernel, padding=kernel // 2).double()


def forward_of(layers):
    return lambda image, size: logits_at_size(layers(image), size)


def averaged(layers, image, softmax=True):
    return symmetric_logits(forward_of(layers), image, image.shape[2:], softmax=softmax)


@pytest.mark.parametrize("softmax", [True, False])
def test_probabilities_are_the_mean_of_those_turned_back(softmax):
    layers, image = network(), torch.rand(2, 3, 5, 8, dtype=torch.float64)
    to_probabilities = partial(torch.softmax, dim=1) if softmax else torch.sigmoid
    # By hand, with rot90 and flips: turned k times, and turned k times after a mirror.
    expected = sum(
        to_probabilities(layers(image.rot90(k, (2, 3)))).rot90(-k, (2, 3))
        + to_probabilities(layers(image.flip(3).rot90(k, (2, 3)))).rot90(-k, (2, 3)).flip(3)
        for k in range(4)
    )
    torch.testing.assert_close(to_probabilities(averaged(layers, image, softmax)), expected / 8)


@pytest.mark.parametrize("softmax", [True, False])
def test_an_equivariant_network_predicts_what_it_did(softmax):
    layers, image = network(kernel=1), torch.rand(2, 3, 6, 4, dtype=torch.float64)
    plain = layers(image)
    logits = averaged(layers, image, softmax)
    torch.testing.assert_close(logits, plain.log_softmax(1) if softmax else plain)


@pytest.mark.parametrize("symmetry", SYMMETRIES)
def test_the_prediction_turns_with_the_image_whatever_the_network(symmetry):
    layers, image = network(), torch.rand(1, 3, 7, 4, dtype=torch.float64)
    torch.testing.assert_close(averaged(layers, symmetry(image)), symmetry(averaged(layers, image)))


def test_certain_predictions_stay_finite():
    def certain(image, size):
        return 200 * (image - 0.5)

    image = torch.tensor([0.0, 1.0]).repeat(1, 3, 4, 2)
    for softmax in (True, False):
        logits = symmetric_logits(certain, image, (4, 4), softmax=softmax)
        assert logits.isfinite().all()
        assert softmax or torch.equal(logits > 0, image > 0.5)


def test_logits_may_have_another_size_than_the_image():
    layers, image = network(kernel=1), torch.rand(1, 3, 4, 6, dtype=torch.float64)
    logits = symmetric_logits(forward_of(layers), image, (8, 12), softmax=False)
    torch.testing.assert_close(logits, logits_at_size(layers(image), (8, 12)))


def test_half_precision_is_averaged_in_float32():
    layers, image = network().bfloat16(), torch.rand(1, 3, 4, 4).bfloat16()
    assert averaged(layers, image).dtype == torch.float32


def test_signals_of_one_dimension_cannot_be_turned():
    with pytest.raises(ValueError, match=r"leave test_time_augmentation out"):
        symmetric_logits(lambda image, size: image, torch.rand(1, 3, 8), (8,), softmax=True)


@pytest.mark.parametrize(("task", "classes"), [("multiclass", 3), ("multilabel", 3), ("binary", 1)])
def test_the_module_averages_in_prediction_where_it_is_told_to(task, classes):
    def module(**options):
        return SegmentationModule(layers, CrossEntropyLoss(task=task), num_classes=classes, task=task, **options)

    layers, image = network(classes), torch.rand(2, 3, 5, 6, dtype=torch.float64)
    plain, symmetric = module(), module(test_time_augmentation=True)
    assert torch.equal(plain.predict_logits(image), plain(image))
    expected = averaged(layers, image, softmax=task == "multiclass")
    torch.testing.assert_close(symmetric.predict_logits(image), expected)
    assert torch.equal(symmetric.predict_step(image, 0), symmetric.predict_labels(expected))
    assert torch.equal(symmetric(image), plain(image))
