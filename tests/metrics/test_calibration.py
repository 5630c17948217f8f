import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import (
    binary_average_precision,
    binary_calibration_error,
    binary_f1_score,
    multiclass_calibration_error,
)

from lightning_seg.metrics.bootstrap import bootstrap_intervals
from lightning_seg.metrics.calibration import (
    BINS,
    average_precision,
    best_threshold,
    confidence_counts,
    expected_calibration_error,
    level_counts,
    precision_recall,
)


@pytest.fixture
def scores():
    torch.manual_seed(0)
    return torch.rand(2, 1, 20, 30), torch.rand(2, 20, 30) > 0.6, torch.rand(2, 20, 30) > 0.1


def test_the_calibration_error_is_that_of_torchmetrics(scores):
    probabilities, target, valid = scores
    found = expected_calibration_error(confidence_counts(probabilities, target.long(), valid, "binary"))
    confidence = torch.maximum(probabilities, 1 - probabilities)[:, 0][valid]
    right = ((probabilities[:, 0] > 0.5) == target)[valid]
    edges = (confidence * BINS).long()
    by_hand = sum(
        abs(right[edges == index].double().sum() - confidence[edges == index].double().sum()) for index in range(BINS)
    )
    assert found == pytest.approx(float(by_hand) / int(valid.sum()))
    assert binary_calibration_error(confidence, right.long(), n_bins=BINS) == pytest.approx(found, abs=1e-5)

    logits = torch.randn(2, 4, 20, 30)
    labels = torch.randint(0, 4, (2, 20, 30))
    found = expected_calibration_error(confidence_counts(logits.softmax(1), labels, valid, "multiclass"))
    flat = logits.softmax(1).movedim(1, -1)[valid]
    expected = multiclass_calibration_error(flat, labels[valid], 4, n_bins=BINS)
    assert expected == pytest.approx(found, abs=1e-5)


def test_the_best_threshold_has_the_highest_dice_and_the_curve_is_that_of_torchmetrics(scores):
    probabilities, target, valid = scores
    probabilities = (probabilities[:, 0] + target * 0.3) / 1.3
    counts = level_counts(probabilities, target.long(), valid) + 0
    threshold = best_threshold(counts)
    all_dice = [
        float(binary_f1_score((probabilities[valid] >= level).long(), target[valid].long()))
        for level in np.arange(0.001, 1, 0.001)
    ]
    at_best = float(binary_f1_score((probabilities[valid] >= threshold).long(), target[valid].long()))
    assert at_best == pytest.approx(max(all_dice), abs=1e-6)
    expected = binary_average_precision(probabilities[valid], target[valid].long(), thresholds=1000)
    assert average_precision(counts) == pytest.approx(float(expected), abs=2e-3)
    curve = precision_recall(counts)
    assert curve.recall[0] == 1
    assert curve.dice.nan_to_num(0).max() == pytest.approx(at_best)


def test_without_an_object_the_threshold_is_a_half():
    assert best_threshold(level_counts(torch.rand(5, 5), torch.zeros(5, 5).long(), torch.ones(5, 5).bool())) == 0.5


def test_intervals_are_those_of_the_mean_of_images_that_are_alike():
    random = np.random.default_rng(0)
    right = random.binomial(100, 0.8, size=400)
    counts = np.stack([right, np.full(400, 100)], 1)
    found = bootstrap_intervals(counts, lambda sums: {"accuracy": sums[:, 0] / sums[:, 1]})["accuracy"]
    assert found.value == right.sum() / 40000
    error = 1.96 * (right / 100).std() / 20
    assert found.high - found.value == pytest.approx(error, rel=0.15)
    assert found.value - found.low == pytest.approx(error, rel=0.15)


def test_a_confidence_of_one_is_in_the_last_bin_beside_those_just_below():
    probabilities = torch.tensor([[[1.0, 0.999, 0.5]], [[0.0, 0.001, 0.5]]]).movedim(0, 1)
    target = torch.zeros(1, 3, dtype=torch.long)
    counts = confidence_counts(probabilities, target, torch.ones_like(target, dtype=torch.bool), "multiclass")
    assert counts[-1, 0] == 2
    assert counts[BINS // 2, 0] == 1
