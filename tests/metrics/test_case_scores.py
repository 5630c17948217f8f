"""Scores of single volumes: Dice, and distances in millimeters."""

import math

import pytest
import torch

from lightning_seg.metrics.case_scores import case_scores

pytest.importorskip("monai")


def box(first: int, last: int) -> torch.Tensor:
    labels = torch.zeros(16, 12, 12, dtype=torch.long)
    labels[first:last, 3:9, 3:9] = 1
    return labels


def test_distances_are_in_millimeters_and_void_voxels_are_of_no_class() -> None:
    target, prediction = box(3, 9), box(3, 11)
    valid = torch.ones_like(target, dtype=torch.bool)
    given = {"num_classes": 2, "spacing": (2.0, 1.0, 1.0), "distances": True}
    scores = case_scores(prediction, target, valid, **given, tolerance=1.0)
    assert scores.dice[1] == pytest.approx(2 * 6 / (6 + 8))
    assert scores.hausdorff95[1] == pytest.approx(4.0)  # two voxels of two millimeters
    assert 0 < scores.surface_dice[1] < 1
    assert case_scores(prediction, target, valid, **given, tolerance=4.0).surface_dice[1] == 1
    valid[9:11] = False
    same = case_scores(prediction, target, valid, **given, tolerance=1.0)
    assert (same.dice[1], same.hausdorff95[1], same.surface_dice[1]) == (1, 0, 1)


def test_a_class_that_one_lacks_is_infinitely_far_and_one_in_neither_has_no_score() -> None:
    target, valid = box(3, 9), torch.ones(16, 12, 12, dtype=torch.bool)
    scores = case_scores(torch.zeros_like(target), target, valid, 3, spacing=(1, 1, 1), tolerance=1.0, distances=True)
    assert (scores.dice[1], scores.hausdorff95[1], scores.surface_dice[1]) == (0, math.inf, 0)
    assert all(math.isnan(one[2]) for one in scores)
    plain = case_scores(target, target, valid, 1, spacing=(1, 1, 1), tolerance=1.0, distances=False)
    assert plain.dice.tolist() == [1]
    assert math.isnan(plain.hausdorff95[0])


def test_the_class_of_the_binary_task_is_that_of_the_ones() -> None:
    target, prediction = box(3, 9), box(3, 11)
    given = {"spacing": (1.0, 1.0, 1.0), "tolerance": 1.0, "distances": False}
    scores = case_scores(prediction, target, torch.ones_like(target, dtype=torch.bool), 1, **given)
    assert scores.dice.tolist() == [pytest.approx(2 * 6 / (6 + 8))]
