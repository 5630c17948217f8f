import math

import numpy as np
import pytest
from scipy import stats

from lightning_seg.report.statistics import paired_difference, summary


def test_a_summary_has_the_deviation_of_a_sample() -> None:
    found = summary([0.2, 0.4, 0.9])
    assert found is not None
    assert (found.n, found.low, found.high) == (3, 0.2, 0.9)
    assert found.mean == pytest.approx(0.5)
    assert found.deviation == pytest.approx(math.sqrt((0.09 + 0.01 + 0.16) / 2))


def test_one_value_has_no_spread_and_no_value_no_summary() -> None:
    found = summary([0.2])
    assert found is not None
    assert (found.n, found.mean, found.deviation) == (1, 0.2, None)
    assert summary([]) is None


def test_the_interval_of_two_pairs_is_that_of_cauchy() -> None:
    # With one degree of freedom t is Cauchy's distribution, whose quantile p is tan(pi (p - 1/2)); and of two
    # differences 0.1 and 0.3 the standard error is half their distance.
    found = paired_difference({0: 0.5, 1: 0.9}, {0: 0.4, 1: 0.6})
    assert found is not None
    half = math.tan(math.pi * 0.475) * 0.1
    assert found.n == 2
    assert found.mean == pytest.approx(0.2)
    assert (found.low, found.high) == (pytest.approx(0.2 - half), pytest.approx(0.2 + half))


@pytest.mark.parametrize("count", [3, 5, 20])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_intervals_agree_with_scipys_paired_test(count: int, confidence: float) -> None:
    generator = np.random.default_rng(count)
    first, second = generator.normal(0.6, 0.1, count), generator.normal(0.5, 0.1, count)
    found = paired_difference(dict(enumerate(first)), dict(enumerate(second)), confidence)
    expected = stats.ttest_rel(first, second).confidence_interval(confidence)
    assert found is not None
    assert (found.low, found.high) == (pytest.approx(expected.low), pytest.approx(expected.high))


def test_only_seeds_that_both_have_are_paired() -> None:
    found = paired_difference({0: 0.5, 1: 0.7, 5: 0.0}, {1: 0.6, 0: 0.5, 9: 1.0})
    assert found is not None
    assert found.n == 2
    assert found.mean == pytest.approx(0.05)


def test_one_pair_has_no_interval_and_none_no_difference() -> None:
    found = paired_difference({0: 0.5, 1: 0.7}, {0: 0.25, 2: 0.1})
    assert found is not None
    assert (found.n, found.mean, found.low, found.high) == (1, 0.25, None, None)
    assert paired_difference({0: 0.5}, {1: 0.5}) is None


def test_a_constant_difference_is_certain() -> None:
    found = paired_difference({0: 0.5, 1: 0.75}, {0: 0.25, 1: 0.5})
    assert found is not None
    assert (found.mean, found.low, found.high) == (0.25, 0.25, 0.25)
