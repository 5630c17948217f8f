"""Scores by the definitions, with sets of pixel positions, for comparison."""

import math

from torch import Tensor


def pixel_sets(labels: Tensor, target: Tensor, task: str, num_classes: int, ignore_index: int | None):
    """For each class the set of positions predicted and the set of positions true, void left out."""
    pairs = []
    for index in range(num_classes):
        predicted, actual = set(), set()
        if task == "multilabel":
            channel_labels, channel_target, value = labels[:, index], target[:, index], 1
        else:
            channel_labels, channel_target, value = labels, target, 1 if task == "binary" else index
        for position, (label, actual_label) in enumerate(
            zip(channel_labels.flatten().tolist(), channel_target.flatten().tolist(), strict=True)
        ):
            if actual_label == ignore_index or (task == "multiclass" and index == ignore_index):
                continue
            if label == value:
                predicted.add(position)
            if actual_label == value:
                actual.add(position)
        pairs.append((predicted, actual))
    return pairs


def iou_by_hand(predicted: set[int], actual: set[int]) -> float:
    union = predicted | actual
    return len(predicted & actual) / len(union) if union else math.nan


def dice_by_hand(predicted: set[int], actual: set[int]) -> float:
    size = len(predicted) + len(actual)
    return 2 * len(predicted & actual) / size if size else math.nan


def mean_by_hand(scores: list[float]) -> float:
    defined = [score for score in scores if not math.isnan(score)]
    return sum(defined) / len(defined) if defined else math.nan


def accuracy_by_hand(labels: Tensor, target: Tensor, ignore_index: int | None) -> float:
    decisions = [
        label == actual_label
        for label, actual_label in zip(labels.flatten().tolist(), target.flatten().tolist(), strict=True)
        if actual_label != ignore_index
    ]
    return sum(decisions) / len(decisions) if decisions else math.nan
