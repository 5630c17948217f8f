"""Losses that are functions of the sums over a region: of each class's true positives, predictions and target."""
