"""The section `hybrid`: the three ways to say when, and what is refused."""

import re

import pytest
from config_fixtures import says

from gcp.config import Duration, dump, from_dict, load
from gcp.heads import list_heads

MULTISTEP = "schedule: {name: multistep, milestones: [3, 6]}\n"
SWITCH = "hybrid: {to: svd_exact, at: 5}\n"


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("hybrid: {to: svd_exact, at: 5}", Duration(5)),
        ("hybrid: {to: svd_exact, at: 30 %}", Duration(30, "percent")),
        ("hybrid: {to: svd_exact, at: 500 steps}", Duration(500, "steps")),
        (MULTISTEP + "hybrid: {to: svd_exact, at: last_decay}", "last_decay"),
        ("schedule: {name: step}\nhybrid: {to: svd_exact, at: last_decay}", "last_decay"),
        ("hybrid: {to: svd_taylor, condition_below: 1e6, degree: 7, side: channel, precision: float32}", None),
    ],
)
def test_moments(write, text, at):
    config = load(write(text))
    assert config.hybrid.at == at and (config.hybrid.condition_below is None) == (at is not None)
    assert load(write(dump(config), "again.yaml")) == config == from_dict(config.plain())


def test_off_by_default_and_by_null(write):
    assert load(write("")).hybrid.to is None and load(write("")).plain()["hybrid"] == {"to": None}
    config = load(write(SWITCH), ["hybrid.to=null", "hybrid.at=null"])
    assert config == load(write(""))


def test_own_options(write):
    config = load(write("hybrid: {to: svd_taylor, at: 5, degree: 7}"))
    assert config.hybrid.options == {"degree": 7} and config.head.options == {}
    assert load(write("hybrid: {to: svd_taylor, at: 5, degree: 7}"), ["hybrid.degree=null"]).hybrid.options == {}


@pytest.mark.parametrize("form", ["folded", "published"])
def test_the_same_head_with_other_options_is_another_head(faults, form):
    found = faults(f"head: {{name: svd_taylor}}\nhybrid: {{to: svd_taylor, at: 5, form: {form}}}")
    if form == "published":
        assert found == []
    else:
        assert len(found) == 1 and says(found[0], "hybrid.to svd_taylor another head.name options")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hybrid: {at: 5}", "hybrid.at 5 epochs default hybrid.to null hybrid.to=HEAD"),
        ("hybrid: {degree: 5}", "hybrid.degree hybrid.to null hybrid.degree=null"),
        ("hybrid: {to: svd_exct, at: 5}", "hybrid.to svd_exct null svd_exact"),
        ("hybrid: {to: svd_exact}", "hybrid.at null null one hybrid.at hybrid.condition_below null"),
        (
            "hybrid: {to: svd_exact, at: 5, condition_below: 2}",
            "hybrid.at 5 epochs one hybrid.at hybrid.condition_below null",
        ),
        ("hybrid: {to: svd_exact, at: 0}", "hybrid.at 0 10 epochs 500 steps last_decay null"),
        ("hybrid: {to: svd_exact, at: last_decy}", "hybrid.at last_decy last_decay last_decay"),
        ("hybrid: {to: svd_exact, at: 5 epocs}", "hybrid.at 5 epocs 10 epochs 500 steps 5 epochs"),
        ("hybrid: {to: svd_exact, at: 10}", "hybrid.at 10 epochs shorter 10 epochs"),
        ("hybrid: {to: svd_exact, at: 100 %}", "hybrid.at 100 % shorter 10 epochs"),
        ("hybrid: {to: svd_exact, condition_below: 0}", "hybrid.condition_below 0 number number > 0 null"),
        (
            "hybrid: {to: svd_exact, at: last_decay}",
            "hybrid.at last_decay schedule.name cosine schedule.name=multistep",
        ),
        (
            MULTISTEP + "train: {epochs: 6}\nhybrid: {to: svd_exact, at: last_decay}",
            "hybrid.at last_decay 6 epochs 6 epochs",
        ),
        ("hybrid: {to: average, at: 5}", "hybrid.to average outputs svd_pade covariance"),
        ("head: {name: compact_bilinear}\nhybrid: {to: svd_pade, at: 5}", "hybrid.to svd_pade compact_bilinear"),
        ("hybrid: {to: svd_pade, at: 5}", "hybrid.to svd_pade another head.name"),
        # the checks of a head, said of this one
        ("hybrid: {to: svd_exact, at: 5, degree: 3}", "hybrid.degree svd_taylor hybrid.degree=null"),
        ("hybrid: {to: svd_taylor, at: 5, dgree: 3}", "hybrid.dgree 3 to at"),
        ("hybrid: {to: svd_taylor, at: 5, dgree: 3}", "hybrid.dgree hybrid.degree"),
        ("hybrid: {to: svd_taylor, at: 5, degree: -1}", "hybrid.degree -1 whole >= 0"),
        (
            "hybrid: {to: newton_schulz, at: 5, form: published}",
            "hybrid.form newton_schulz form published side precision",
        ),
        (
            "hybrid: {to: svd_taylor, at: 5, form: published, side: sample}",
            "hybrid.side sample channel auto hybrid.form published",
        ),
        ("hybrid: {to: svd_exact, at: 5, dim: 3}", "hybrid.dim 3 to at"),
        ("hybrid: svd_exact", "hybrid svd_exact section to at condition_below"),
    ],
)
def test_one_fault(faults, text, words):
    found = faults(text)
    assert len(found) == 1 and says(found[0], words), found


def test_heads_that_fit(faults):
    (fault,) = faults("head: {name: newton_schulz}\nhybrid: {to: bilinear, at: 5}")
    fitting = set(re.findall(r"\w+", fault.partition("newton_schulz")[2])) & set(list_heads("*"))
    assert {"svd_pade", "covariance", "polar_express", "seb"} <= fitting
    assert not {"average", "bilinear", "compact_bilinear"} & fitting
    for head in fitting:
        if head != "svd_pade":
            assert faults(f"hybrid: {{to: {head}, at: 5}}") == []


def test_a_faulty_head_hides_what_follows_from_it(faults):
    assert len(faults("head: {name: svd_pad}\nhybrid: {to: svd_exact, at: 5}")) == 1
    assert len(faults("hybrid: {to: 5, at: 5, degree: 3}")) == 1
    assert len(faults("train: {epochs: many}\nhybrid: {to: svd_exact, at: 50}")) == 1


def test_the_moment_is_checked_in_each_stage(faults):
    """The base is never run."""
    stages = "stages: [{train: {epochs: 30}}, {train: {epochs: 40}}]"
    assert faults(f"schedule: {{name: multistep, milestones: [20]}}\nhybrid: {{to: seb, at: 20}}\n{stages}") == []
    (fault,) = faults("stages: [{train: {epochs: 3}}]", "stages.1.hybrid.to=seb", "stages.1.hybrid.at=4")
    assert says(fault, "stages.1.hybrid.at 4 epochs shorter 3 epochs")
