"""How sure scores are, by drawing the images of a data set anew."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]
Scores = Mapping[str, npt.NDArray[np.float64]]


class Interval(NamedTuple):
    """A score with the bounds of its interval."""

    value: float
    low: float
    high: float


def bootstrap_intervals(
    counts: Counts,
    scores: Callable[[npt.NDArray[Any]], Scores],
    *,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """Percentile intervals of scores over images that are drawn with replacement.

    Efron, Bootstrap Methods, 1979. Images are taken as independent; those of one video or patient are not.

    Args:
        counts: of each image, `(images, ...)`, which add up.
        scores: by name, `(draws,)` of summed counts `(draws, ...)`.
        draws: how often as many images are drawn.
        level: of the interval.
        seed: of the draws.
    """
    random = np.random.default_rng(seed)
    images = len(counts)
    flat = counts.reshape(images, -1).astype(np.float64)
    drawn: dict[str, list[npt.NDArray[np.float64]]] = {}
    for start in range(0, draws, 100):
        weights = random.multinomial(images, np.full(images, 1 / images), size=min(100, draws - start))
        for name, values in scores((weights @ flat).reshape(-1, *counts.shape[1:])).items():
            drawn.setdefault(name, []).append(values)
    whole = scores(counts.sum(0, keepdims=True))
    found = {}
    for name, parts in drawn.items():
        values = np.concatenate(parts)
        values = values[np.isfinite(values)]
        tail = 50 * (1 - level)
        low, high = np.percentile(values, [tail, 100 - tail]) if len(values) else (np.nan, np.nan)
        found[name] = Interval(float(whole[name][0]), float(low), float(high))
    return found
