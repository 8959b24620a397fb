"""Durations: what may be written, and how many optimizer steps it is."""

import pytest
from config_fixtures import saying

from gcp.config import Duration
from gcp.config.values import nearest_duration
from gcp.errors import OptionError


@pytest.mark.parametrize(
    ("written", "amount", "unit"),
    [
        (10, 10, "epochs"),
        (0, 0, "epochs"),
        (0.5, 0.5, "epochs"),
        ("10", 10, "epochs"),
        ("2 epochs", 2, "epochs"),
        ("1 epoch", 1, "epochs"),
        (".5 Epochs", 0.5, "epochs"),
        ("500 steps", 500, "steps"),
        ("1 step", 1, "steps"),
        ("30 %", 30, "percent"),
        ("30%", 30, "percent"),
        (" 12.5 % ", 12.5, "percent"),
        ("5percent", 5, "percent"),
    ],
)
def test_parse(written, amount, unit):
    assert Duration.parse(written) == Duration(amount, unit)


@pytest.mark.parametrize(
    "written",
    [
        -1,
        "-1 epochs",
        True,
        None,
        [1],
        "",
        "fast",
        "5 epocs",
        "1.5 steps",
        "101 %",
        "1e3 steps",
        "epochs",
        "2 epochs 3 steps",
        float("nan"),
        float("inf"),
        "10 minutes",
    ],
)
def test_refused(written):
    with pytest.raises(OptionError, match=saying("10 epochs 500 steps")):
        Duration.parse(written)


def test_minutes_only_where_allowed():
    duration = Duration.parse("10 minutes", minutes=True)
    assert duration == Duration(10, "minutes") and duration.seconds == 600
    with pytest.raises(OptionError, match=saying("10 minutes steps")):
        duration.to_steps(10, 100)
    with pytest.raises(OptionError, match=saying("2 epochs seconds")):
        _ = Duration(2).seconds


@pytest.mark.parametrize(
    ("written", "steps"),
    [
        (0, 0),
        ("0 %", 0),
        (2, 46),
        ("0.5 epochs", 12),
        ("500 steps", 500),
        ("30 %", 69),
        ("100 %", 230),
        ("0.1 %", 1),
        (0.001, 1),
    ],
)
def test_steps(written, steps):
    assert Duration.parse(written).to_steps(steps_per_epoch=23, total_steps=230) == steps


@pytest.mark.parametrize("written", [10, 0.1, "1234567 steps", "33.3 %", "0.123456789 epochs", "7 minutes"])
def test_text_reads_back_exactly(written):
    duration = Duration.parse(written, minutes=True)
    assert Duration.parse(str(duration), minutes=True) == duration
    assert Duration.parse(duration, minutes=True) == duration


def test_nearest_spelling():
    assert nearest_duration("5 epocs") == "5 epochs"
    assert nearest_duration("5 stpes") == "5 steps"
    assert nearest_duration("5 minuts") != "5 minutes"
    assert nearest_duration("5 minuts", minutes=True) == "5 minutes"
    assert nearest_duration("fast") is None and nearest_duration(None) is None


@pytest.mark.parametrize("value", [1e-5, 0.00002, 1e-300, 0.1 + 0.2, 1e22])
def test_what_is_printed_is_read_again(value):
    duration = Duration.parse(value)
    assert "e-" not in str(duration).partition(" ")[0] and Duration.parse(str(duration)) == duration
