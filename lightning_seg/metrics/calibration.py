"""Whether probabilities are shares: expected calibration error, and thresholds of the binary task."""

from typing import NamedTuple

import torch
from torch import Tensor

BINS = 15  # of confidence
LEVELS = 1000  # of thresholds


def confidence_counts(probabilities: Tensor, target: Tensor, valid: Tensor, task: str) -> Tensor:
    """Decisions by confidence, float64 `(BINS, 3)`: how many, how many right, and the sum of their confidence.

    The confidence is the probability of the label that is predicted: the largest of all classes, and of a channel p or
    1 - p, whichever is larger.

    Args:
        probabilities: `(N, C, *spatial)`.
        target: labels `(N, *spatial)`, or 0 and 1 in the shape of the probabilities.
        valid: bool, of the target's shape.
        task: `multiclass`, `multilabel` or `binary`.
    """
    if task == "multiclass":
        confidence, labels = probabilities.max(1)
    else:
        probabilities = probabilities.reshape(target.shape)
        labels = (probabilities > 0.5).long()
        confidence = torch.maximum(probabilities, 1 - probabilities)
    confidence, right = confidence[valid].double(), (labels == target)[valid].double()
    index = (confidence * BINS).long().clamp(0, BINS - 1)
    parts = [torch.ones_like(confidence), right, confidence]
    zero = torch.zeros(BINS, dtype=torch.float64, device=confidence.device)
    return torch.stack([zero.scatter_add(0, index, part) for part in parts], 1).cpu()


def expected_calibration_error(counts: Tensor) -> float:
    """Σ_b n_b / n · |accuracy_b - confidence_b| of `confidence_counts`; NaN of nothing.

    Guo et al., On Calibration of Modern Neural Networks, ICML 2017, https://arxiv.org/abs/1706.04599.
    """
    n, right, confidence = counts.unbind(1)
    return float((right - confidence).abs().sum() / n.sum())


def level_counts(probabilities: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Pixels by probability, int64 `(2, LEVELS)`: those of the background and those of the object.

    Args:
        probabilities: of the object, of the target's shape.
        target: 0 and 1.
        valid: bool, of the target's shape.
    """
    level = (probabilities.reshape(target.shape)[valid] * LEVELS).long().clamp(0, LEVELS - 1)
    cell = target[valid].long() * LEVELS + level
    return torch.bincount(cell.cpu(), minlength=2 * LEVELS).view(2, LEVELS)


class PrecisionRecall(NamedTuple):
    """Scores of the object at each threshold, float64 `(LEVELS,)`; NaN where nothing is predicted or there."""

    threshold: Tensor
    precision: Tensor
    recall: Tensor
    dice: Tensor


def precision_recall(counts: Tensor) -> PrecisionRecall:
    """The curve of `level_counts`: an object is where the probability is at least a threshold."""
    negative, positive = counts.double().flip(1).cumsum(1).flip(1).unbind(0)
    predicted, actual = positive + negative, positive[0]
    threshold = torch.arange(counts.shape[1], dtype=torch.float64) / counts.shape[1]
    return PrecisionRecall(threshold, positive / predicted, positive / actual, 2 * positive / (predicted + actual))


def best_threshold(counts: Tensor) -> float:
    """The threshold of the highest Dice, the one nearest to 0.5 of several; 0.5 where there is no object."""
    curve = precision_recall(counts)
    dice = curve.dice.nan_to_num(0)
    if not float(dice.max()) > 0:
        return 0.5
    best = curve.threshold[dice == dice.max()]
    return float(best[(best - 0.5).abs().argmin()])


def average_precision(counts: Tensor) -> float:
    """The area below the curve, Σ (R_n - R_{n-1}) P_n; NaN where there is no object."""
    curve = precision_recall(counts)
    recall, precision = curve.recall.flip(0), curve.precision.flip(0).nan_to_num(0)
    return float((torch.diff(recall, prepend=torch.zeros(1, dtype=torch.float64)) * precision).sum())
