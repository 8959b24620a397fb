"""Intervals that cover, corrections by hand, and sentences that say no more than the runs do."""

import re

import numpy as np
import pytest
from scipy import stats

from gcp.studies.statistics import (
    FEW,
    Paired,
    bootstrap_interval,
    compare_all,
    compare_paired,
    holm,
    mean_and_deviation,
    student_interval,
    verdict,
)

REFERENCE = [99.0, 98.0, 99.5, 98.5, 99.2]


def simulated(experiments, n, gap, seed=0):
    """Accuracies of two variants whose seeds have much in common, as runs have."""
    generator = np.random.default_rng(seed)
    common = generator.normal(95.0, 2.0, (experiments, n))
    noise = generator.normal(0.0, 0.7, (2, experiments, n))
    return common + gap + noise[0], common + noise[1]


def coverage(found, gap):
    return 100 * np.mean([one.low <= gap <= one.high for one in found])


def test_five_seeds_cover_the_truth_in_95_percent():
    pairs = zip(*simulated(4000, 5, 0.3), strict=True)
    assert coverage([compare_paired(*pair) for pair in pairs], 0.3) == pytest.approx(95, abs=1)


def test_a_percentile_bootstrap_of_five_would_not():
    """The reason why Student's interval is taken below twenty."""
    ours, others = simulated(1000, 5, 0.3)
    means = np.random.default_rng(0).choice(ours - others, (1000, 5), axis=1).mean(2)
    low, high = np.quantile(means, [0.025, 0.975], axis=1)
    assert 100 * np.mean((low <= 0.3) & (high >= 0.3)) < 88


def test_twenty_seeds_cover_the_truth():
    """600 experiments: the standard error is 0.9 points."""
    pairs = zip(*simulated(600, FEW, 0.3), strict=True)
    assert coverage([compare_paired(*pair) for pair in pairs], 0.3) == pytest.approx(95, abs=2)


def test_the_bootstrap_by_hand():
    """Resampled one by one; skewed values, whose interval is not symmetric."""
    values = np.random.default_rng(1).exponential(2.0, 30)
    generator, found = np.random.default_rng(5), []
    for _ in range(2000):
        drawn = values[generator.integers(0, 30, 30)]
        found.append((drawn.mean() - values.mean()) / (drawn.std(ddof=1) / 30**0.5))
    low, high = np.quantile(found, [0.025, 0.975])
    expected = values.mean() - high * stats.sem(values), values.mean() - low * stats.sem(values)
    assert bootstrap_interval(values) == pytest.approx(expected, abs=0.15)
    assert expected[1] - values.mean() > 1.3 * (values.mean() - expected[0])


def test_the_bootstrap_of_almost_equal_differences():
    values = np.array([0.28] + [0.0] * 19)
    assert bootstrap_interval(values) == pytest.approx(student_interval(values))


def test_an_interval_by_hand():
    """Differences 1, 2, 3: mean 2, deviation 1, and t(0.975, 2) = 4.30265."""
    found = compare_paired([2.0, 4.0, 6.0], [1.0, 2.0, 3.0])
    assert (found.n, found.difference) == (3, 2.0)
    assert (found.low, found.high) == pytest.approx((2 - 4.30265 / 3**0.5, 2 + 4.30265 / 3**0.5), abs=1e-5)
    assert found.p == pytest.approx(stats.ttest_rel([2.0, 4.0, 6.0], [1.0, 2.0, 3.0]).pvalue)


def test_holm_by_hand():
    """0.01 x 4, 0.02 x 3, 0.03 x 2, and 0.04 x 1 which may not fall below the one before; without a test no place."""
    assert holm([0.04, None, 0.01, 0.03, 0.02]) == pytest.approx([0.06, None, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.6]) == [1.0, 1.0]
    assert holm([None]) == [None] and holm([]) == []


def test_mean_and_deviation():
    assert mean_and_deviation([1.0, 3.0]) == (2.0, pytest.approx(2**0.5))
    assert mean_and_deviation([4.0]) == (4.0, None)
    assert mean_and_deviation([]) == (None, None)


@pytest.mark.parametrize("more_is_better, word", [(True, "worse"), (False, "better")])
def test_worse_on_purpose_is_found(more_is_better, word):
    (found,) = compare_all([compare_paired([value - 3 + 0.1 * i for i, value in enumerate(REFERENCE)], REFERENCE)])
    text = verdict(found, "svd_pade", more_is_better=more_is_better)
    assert re.search(rf"^{word} .*svd_pade: -2\.80 .*-3\.00 to -2\.60, 5 seeds, p < 0\.0001", text)


def test_one_better_run_in_five_is_no_finding():
    (found,) = compare_all([compare_paired([99.0, 98.0, 99.5, 98.5, 99.9], REFERENCE)])
    assert re.search(r"cannot .*X: \+0\.14 .*-0\.25 to \+0\.53, 5 seeds$", verdict(found, "X"))


def test_a_finding_that_the_number_of_variants_takes_back():
    found = compare_all([Paired(5, 0.3, 0.02, 0.58, 0.04), Paired(5, 0.0, -1.0, 1.0, 1.0), Paired(0, None)])
    text = verdict(found[0], "X")
    assert re.search(r"cannot .*X: \+0\.30 .*\+0\.02 to \+0\.58, 5 seeds; p = 0\.04 alone, p = 0\.08 ", text)
    assert verdict(found[2], "X") == "no seed has both this and X"


@pytest.mark.parametrize(
    "values, text",
    [
        (REFERENCE, "equal to X .*5 seeds"),
        ([v * 3 / 3 for v in REFERENCE], "equal to X .*5 seeds"),
        ([v + 0.004 for v in REFERENCE], r"\+0\.00 .*X .*5 seeds: .*spread"),
        ([v + 0.28 for v in REFERENCE], r"\+0\.28 .*X .*5 seeds: .*spread"),
        ([99.3], r"\+0\.30 .*X .*one seed: nothing"),
    ],
)
def test_without_a_spread_there_is_no_interval(values, text):
    found = compare_paired(values, REFERENCE[: len(values)])
    assert (found.low, found.high, found.p) == (None, None, None)
    assert re.match(text, verdict(found, "X"))
