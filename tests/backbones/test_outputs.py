"""Logits from every form of output that networks have."""

from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from lightning_seg.backbones import logits_at_size, network_output


@pytest.mark.parametrize(
    "wrap",
    [
        lambda logits: logits,
        lambda logits: {"out": logits},
        lambda logits: {"logits": logits},
        lambda logits: SimpleNamespace(logits=logits),
        lambda logits: {"aux": logits[..., :2, :2], "out": logits},
    ],
    ids=["tensor", "out", "logits", "attribute", "out beside aux"],
)
def test_logits_at_the_wanted_size_are_passed_on_untouched(wrap):
    logits = torch.randn(2, 3, 5, 7)
    assert logits_at_size(wrap(logits), (5, 7)) is logits


@pytest.mark.parametrize(
    ("small", "size", "mode"),
    [((4,), (9,), "linear"), ((4, 3), (9, 7), "bilinear"), ((2, 4, 3), (5, 9, 7), "trilinear")],
)
def test_logits_of_lower_resolution_are_interpolated_linearly(small, size, mode):
    logits = torch.randn(2, 3, *small)
    expected = F.interpolate(logits, size=size, mode=mode, align_corners=False)
    torch.testing.assert_close(logits_at_size({"out": logits}, size), expected)


def test_interpolation_treats_pixels_as_areas():
    # Pixel centers of a doubled row lie at quarters: 0, 1/4, 3/4, 1.
    logits = torch.tensor([[[[0.0, 1.0]]]])
    torch.testing.assert_close(logits_at_size(logits, (1, 4)), torch.tensor([[[[0.0, 0.25, 0.75, 1.0]]]]))


def test_a_mapping_without_logits_is_refused_with_its_keys():
    with pytest.raises(TypeError, match=r"the keys \['features'\].*'out' or 'logits'"):
        logits_at_size({"features": torch.zeros(1, 1, 2, 2)}, (2, 2))


@pytest.mark.parametrize(
    ("output", "name"),
    [(None, "NoneType"), ([], "list of nothing"), ([torch.zeros(1, 1, 2, 2), None], "list of Tensor, NoneType")],
)
def test_an_output_of_another_type_is_refused_by_name(output, name):
    with pytest.raises(TypeError, match=f"returned a {name}"):
        logits_at_size(output, (2, 2))


FINE, MIDDLE, COARSE = (torch.randn(2, 3, side, side) for side in (8, 4, 2))


@pytest.mark.parametrize(
    "output",
    [
        (FINE, MIDDLE, COARSE),
        [FINE, MIDDLE, COARSE],
        {"out": FINE, "aux": (MIDDLE, COARSE)},
        SimpleNamespace(logits=FINE, auxiliary_logits=[MIDDLE, COARSE]),
    ],
    ids=["tuple", "list", "mapping", "object"],
)
def test_auxiliary_logits_follow_those_that_are_scored(output):
    found = network_output(output, 2)
    assert found.logits is FINE
    assert len(found.auxiliary) == 2
    assert found.auxiliary[0] is MIDDLE
    assert found.auxiliary[1] is COARSE
    assert logits_at_size(output, (8, 8)) is FINE


def test_one_auxiliary_head_is_taken_under_the_name_that_torchvision_gives_it():
    found = network_output({"out": FINE, "aux": MIDDLE}, 2)
    assert found.logits is FINE
    assert found.auxiliary == (MIDDLE,)


def test_a_stacked_tensor_holds_logits_from_fine_to_coarse():
    found = network_output(torch.stack([FINE, FINE + 1, FINE + 2], 1), 2)
    assert torch.equal(found.logits, FINE)
    assert [torch.equal(part, FINE + k) for k, part in enumerate(found.auxiliary, start=1)] == [True, True]


def test_a_head_that_classifies_whole_images_is_refused():
    with pytest.raises(ValueError, match=r"shape \(2, 10\).*leave out heads that classify whole images"):
        network_output((FINE, torch.zeros(2, 10)), 2)


def test_scores_of_whole_images_are_refused():
    with pytest.raises(ValueError, match=r"logits of shape \(2, 10\).*one score per class and pixel"):
        logits_at_size(torch.zeros(2, 10), (4, 4))
