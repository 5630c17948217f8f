"""Means over seeds, and differences between two configurations of the same seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Summary:
    """`n` values: `mean`, smallest (`low`) and largest (`high`), and `deviation`, the sample's; None of one value."""

    n: int
    mean: float
    deviation: float | None
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """The mean of `n` paired differences and its confidence interval, `low` to `high`; None of one pair."""

    n: int
    mean: float
    low: float | None
    high: float | None


def summary(values: Sequence[float]) -> Summary | None:
    """Mean and spread of some values; None of no value."""
    if not values:
        return None
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Summary(len(values), float(np.mean(values)), deviation, min(values), max(values))


def paired_difference(
    values: Mapping[int | str | None, float],
    reference: Mapping[int | str | None, float],
    confidence: float = CONFIDENCE,
) -> Difference | None:
    """How much higher `values` are than those of `reference` of the same seeds, by Student's t.

    The differences d of the n common seeds are taken as a sample of a normal distribution; the interval is
    mean(d) ± t · s / √n, with s their sample deviation and t the quantile of n - 1 degrees of freedom.

    Args:
        values: by seed.
        reference: by seed.
        confidence: of the interval, in (0, 1).

    Returns:
        None if no seed is common.
    """
    differences = [values[seed] - reference[seed] for seed in values.keys() & reference.keys()]
    drawn = summary(differences)
    if drawn is None:
        return None
    if drawn.deviation is None:
        return Difference(drawn.n, drawn.mean, None, None)
    half = float(stats.t.ppf((1 + confidence) / 2, drawn.n - 1)) * drawn.deviation / drawn.n**0.5
    return Difference(drawn.n, drawn.mean, drawn.mean - half, drawn.mean + half)
