"""A network of a moment, for runs."""

from torch import nn


def small_network() -> nn.Module:
    """Logits of six classes, by layers that have a state besides weights, and that draw random numbers."""
    first, last = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 6, 3, padding=1)
    return nn.Sequential(first, nn.BatchNorm2d(4), nn.Dropout(0.3), last)
