"""Predictions averaged over the symmetries of the square."""

from functools import partial

import pytest
import torch
from torch import nn

from lightning_seg import SegmentationModule
from lightning_seg.backbones import logits_at_size
from lightning_seg.d4 import SYMMETRIES
from lightning_seg.inference import symmetric_logits, views
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


@pytest.mark.parametrize(
    ("augmentation", "changes"),
    [
        (False, [lambda x: x]),
        ("flip", [lambda x: x, lambda x: x.flip(-1)]),
        ("flips", [lambda x: x, lambda x: x.flip(-1), lambda x: x.flip(-2), lambda x: x.flip(-1, -2)]),
        ({"flips": "flip"}, [lambda x: x, lambda x: x.flip(-1)]),
    ],
)
def test_the_views_are_those_of_their_name(augmentation, changes):
    image = torch.rand(1, 3, 6, 8).double()
    layers = network()
    result = symmetric_logits(forward_of(layers), image, (6, 8), softmax=True, views=views(augmentation))
    expected = sum(change(layers(change(image)).softmax(1)) for change in changes) / len(changes)
    torch.testing.assert_close(result.softmax(1), expected)


def test_true_is_d4_and_scales_multiply_the_flips():
    assert views(True) == views("d4")
    assert [view.symmetry for view in views(True)] == list(SYMMETRIES)
    found = views({"scales": [0.5, 2], "flips": True})
    assert [(view.scale, view.symmetry) for view in found] == [
        (scale, view.symmetry) for scale in (0.5, 2.0) for view in views("flips")
    ]


def test_a_scaled_view_is_seen_at_its_size_and_brought_back():
    seen, image = [], torch.rand(1, 3, 6, 8).double()
    layers = network()

    def forward(part, size):
        seen.append(tuple(part.shape[2:]))
        return logits_at_size(layers(part), size)

    result = symmetric_logits(forward, image, (6, 8), softmax=True, views=views({"scales": [0.5, 1, 1.5]}))
    assert seen == [(3, 4), (6, 8), (9, 12)]
    parts = [
        logits_at_size(
            layers(nn.functional.interpolate(image, size=size, mode="bilinear", antialias=True)), (6, 8)
        ).softmax(1)
        for size in seen
    ]
    torch.testing.assert_close(result.softmax(1), sum(parts) / 3)


def test_an_enlarged_tile_is_cut_into_tiles_itself():
    sides = []

    class Watched(nn.Conv2d):
        def forward(self, image):
            sides.append(max(image.shape[2:]))
            return super().forward(image)

    module = SegmentationModule(
        Watched(3, 3, 1), CrossEntropyLoss(), num_classes=3, tile=16, margin=2, test_time_augmentation={"scales": [2.0]}
    )
    assert module.predict_logits(torch.rand(1, 3, 20, 24)).shape == (1, 3, 20, 24)
    assert max(sides) == 16


@pytest.mark.parametrize(
    ("augmentation", "message"),
    [
        ("all", r"test_time_augmentation=all must be false, flip, flips, d4 or \{scales"),
        (2, "test_time_augmentation=2 must be false"),
        ({"flips": "both"}, "must be false, flip, flips, d4"),
        ({"scale": [1]}, "has the key scale; it takes scales and flips"),
        ({"scales": []}, r"scales=\[\] must be a list of numbers above 0 and 4 at most"),
        ({"scales": [0.5, -1]}, r"scales=\[0.5, -1\] must be"),
        ({"scales": 2}, "scales=2 must be a list"),
        ({"scales": [100]}, r"scales=\[100\] must be"),
    ],
)
def test_what_is_no_augmentation_is_refused_as_the_module_is_built(augmentation, message):
    with pytest.raises(ValueError, match=message):
        SegmentationModule(network(), CrossEntropyLoss(), num_classes=3, test_time_augmentation=augmentation)
