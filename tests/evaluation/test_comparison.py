import re

import numpy as np
import pytest
from scipy.stats import binomtest

from gcp.evaluation.comparison import compare, sign_test


def outcomes(both, first, second, neither):
    pairs = [(1, 1)] * both + [(1, 0)] * first + [(0, 1)] * second + [(0, 0)] * neither
    a, b = np.array(pairs, dtype=bool).T
    order = np.random.default_rng(0).permutation(len(a))
    return a[order], b[order]


@pytest.mark.parametrize(
    ("b", "c"), [(0, 0), (0, 1), (1, 1), (3, 9), (9, 3), (20, 20), (0, 30), (700, 900), (3000, 3001), (20000, 20600)]
)
def test_exact_test_against_scipy(b, c):
    expected = binomtest(b, b + c, 0.5).pvalue if b + c else 1.0
    assert sign_test(b, c) == pytest.approx(expected, rel=1e-9)


def test_counts_and_difference():
    found = compare(*outcomes(50, 4, 16, 30))
    assert (found.count, found.both, found.only_first, found.only_second, found.neither) == (100, 50, 4, 16, 30)
    assert found.difference == pytest.approx(12.0)
    assert found.p == pytest.approx(binomtest(4, 20, 0.5).pvalue)
    # Bonett and Price by hand: p1 = 5/102, p2 = 17/102
    p1, p2 = 5 / 102, 17 / 102
    spread = 1.96 * ((p1 + p2 - (p2 - p1) ** 2) / 102) ** 0.5
    assert (found.low, found.high) == pytest.approx((100 * (p2 - p1 - spread), 100 * (p2 - p1 + spread)), rel=1e-3)


def test_the_other_way_round():
    a, b = outcomes(50, 4, 16, 30)
    there, back = compare(a, b), compare(b, a)
    assert back.difference == -there.difference and back.p == there.p
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low))


def test_interval_covers():
    """Of 400 pairs of models with a true difference of 5 points, about 95 % of the intervals hold it."""
    generator = np.random.default_rng(1)
    hits = 0
    for _ in range(400):
        kind = generator.choice(4, 300, p=[0.6, 0.1, 0.15, 0.15])  # both, first, second, neither
        found = compare(np.isin(kind, (0, 1)), np.isin(kind, (0, 2)))
        hits += found.low <= 5.0 <= found.high
    assert 0.92 <= hits / 400 <= 0.985


@pytest.mark.parametrize(
    ("counts", "sentence"),
    [
        (
            (50, 4, 16, 30),
            r"second.*better.*\+12\.00.*\+3\.05.*\+20\.48.* 20 ",
        ),
        ((50, 16, 4, 30), r"first.*better.*-12\.00 .* 4 .*p = 0\.012\b"),
        ((50, 4, 5, 30), r"No difference.*\+1\.12 .*p = 1\b"),
        ((50, 0, 0, 30), r"same images.*\+0\.00 "),
        ((50, 0, 100, 3), r"\(p < 0\.0001\)\.$"),
    ],
)
def test_sentence(counts, sentence):
    assert re.search(sentence, compare(*outcomes(*counts)).sentence), compare(*outcomes(*counts)).sentence
