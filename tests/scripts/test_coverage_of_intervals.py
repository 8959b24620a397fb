"""Intervals over seeds and images hold the truth as often as they say, where those over one of the two do not."""

import pytest
from coverage_of_intervals import CASES, coverage, main


@pytest.mark.parametrize("case", CASES)
def test_both(case):
    assert 91 <= coverage(case, 5, 360, 300)["both"] <= 99


def test_one_source_alone_holds_it_less_often():
    assert coverage("equal heads, images alone", 10, 360, 300)["seeds alone"] < 85
    assert coverage("equal heads, seeds alone", 10, 2000, 200)["images alone"] < 85


def test_command(call):
    code, out, _ = call(main, ["--seeds", 3, "--images", 50, "--studies", 5])
    assert code == 0 and len(out.splitlines()) == 1 + len(CASES)
