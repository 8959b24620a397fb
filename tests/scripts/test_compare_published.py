"""Where the published code differs from the formulas: the size of each difference."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from compare_published import TOPICS, main

from gcp.errors import UnknownNameError

SCRIPT = Path(__file__).parents[2] / "scripts" / "compare_published.py"

# Least and greatest value of each finding, in the order of the topic.
EXPECTED = {
    "power_iteration": [(0, 1e-13), (1e-2, 1e2)],  # the published gradient is noise, ours is of order one
    "pade": [(0, 1e-14), (0, 1e-9)],
    "centring": [(1e-6, 1e-3), (1e-6, 1e-2), (0, 1e-6)],
    "clamping": [(1e-10, 1e-6), (1e-8, 1e-4)],
    "top_n": [(1e4, 1e10), (1e-2, 1e2)],
    # eig and polar_express in turn, at condition numbers 1e2, 1e3, 1e4, 1e5, 1e6
    "precision": [
        *[(1e-8, 1e-5), (1e-8, 1e-5)],
        *[(1e-7, 5e-5), (1e-7, 5e-5)],
        *[(1e-6, 5e-4), (1e-6, 1e-4)],
        *[(1e-5, 1e-2), (1e-5, 5e-3)],
        *[(1e-4, 5e-1), (1e-4, 2e-1)],
    ],
    # output and gradient of newton_schulz tf32, bf16, polar_express tf32, bf16, at condition numbers 1e2, 1e3, 1e4
    "products": [
        *[
            (1e-5, 1e-4),
            (1e-5, 1e-4),
            (1e-4, 1e-3),
            (1e-4, 1e-3),
            (3e-4, 2e-3),
            (3e-4, 3e-3),
            (2e-3, 1e-2),
            (2e-3, 2e-2),
        ],
        *[
            (1e-5, 1e-4),
            (2e-5, 2e-4),
            (1e-4, 1e-3),
            (2e-4, 2e-3),
            (5e-4, 3e-3),
            (1e-3, 6e-3),
            (3e-3, 2e-2),
            (8e-3, 4e-2),
        ],
        *[
            (1e-5, 1e-4),
            (3e-5, 2e-4),
            (1e-4, 1e-3),
            (2e-4, 2e-3),
            (1e-3, 6e-3),
            (5e-3, 3e-2),
            (8e-3, 4e-2),
            (1e-1, 1e0),
        ],
    ],
}


@pytest.mark.parametrize("topic", TOPICS)
def test_orders_of_magnitude(topic):
    findings = TOPICS[topic]()
    assert len({finding.topic for finding in findings}) == 1
    for finding, (least, greatest) in zip(findings, EXPECTED[topic], strict=True):
        assert least <= finding.value <= greatest, finding


def test_centring_in_float32_is_what_costs_the_accuracy():
    lossy, _, exact = (finding.value for finding in TOPICS["centring"]())
    assert lossy > 100 * exact


def test_script(tmp_path):
    done = subprocess.run([sys.executable, str(SCRIPT), "pade", "top_n"], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == [
        "svd_pade is the exact gradient",
        "svd_topn explodes",
    ]
    assert all(re.fullmatch(r" +\d\.\de[+-]\d\d  \S.*", line) for line in lines if line.startswith(" "))


def test_unknown_topic():
    with pytest.raises(UnknownNameError, match=r"topic 'padé'.*'pade'.*centring"):
        main(["pade", "padé"])
