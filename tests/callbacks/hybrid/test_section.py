"""The section `hybrid`: the three ways to say when, and what is refused."""

import re

import pytest

from gcp.config import Duration, dump, from_dict, load

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
    assert found == (
        []
        if form == "published"
        else [
            "hybrid.to: got 'svd_taylor' (text); allowed: another head than head.name, or other options of it",
        ]
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "hybrid: {at: 5}",
            "hybrid.at: got '5 epochs' (text); allowed: the default with hybrid.to: null; did you mean",
        ),
        ("hybrid: {degree: 5}", "hybrid.to is null; remove it with hybrid.degree=null"),
        ("hybrid: {to: svd_exct, at: 5}", "or null; did you mean svd_exact?"),
        ("hybrid: {to: svd_exact}", "hybrid.at: got null (null); allowed: one of hybrid.at and hybrid.condition_below"),
        (
            "hybrid: {to: svd_exact, at: 5, condition_below: 2}",
            "hybrid.at: got '5 epochs' (text); allowed: one of hybrid.at and hybrid.condition_below, the other null",
        ),
        ("hybrid: {to: svd_exact, at: 0}", "hybrid.at: got 0 (whole number); allowed: 10 (epochs)"),
        ("hybrid: {to: svd_exact, at: last_decy}", "did you mean last_decay?"),
        ("hybrid: {to: svd_exact, at: 5 epocs}", "did you mean '5 epochs'?"),
        ("hybrid: {to: svd_exact, at: 10}", "hybrid.at: got '10 epochs' (text); allowed: shorter than the run of 10"),
        ("hybrid: {to: svd_exact, at: 100 %}", "allowed: shorter than the run of 10 epochs"),
        (
            "hybrid: {to: svd_exact, condition_below: 0}",
            "hybrid.condition_below: got 0 (whole number); allowed: a number",
        ),
        (
            "hybrid: {to: svd_exact, at: last_decay}",
            "allowed: a duration with schedule.name: cosine, which has no last decay",
        ),
        (
            MULTISTEP + "train: {epochs: 6}\nhybrid: {to: svd_exact, at: last_decay}",
            "allowed: a moment of the run of 6 epochs, but the last decay is at 6 epochs",
        ),
        (
            "hybrid: {to: average, at: 5}",
            "hybrid.to: got 'average' (text); allowed: a head with the outputs and tensors of",
        ),
        ("head: {name: compact_bilinear}\nhybrid: {to: svd_pade, at: 5}", "tensors of compact_bilinear: "),
        ("hybrid: {to: svd_pade, at: 5}", "allowed: another head than head.name"),
        # the checks of a head, said of this one
        (
            "hybrid: {to: svd_exact, at: 5, degree: 3}",
            "hybrid.degree: an option of svd_taylor, ",
        ),
        (
            "hybrid: {to: svd_taylor, at: 5, dgree: 3}",
            "hybrid.dgree: unknown key, got 3 (whole number); allowed: to, at",
        ),
        ("hybrid: {to: svd_taylor, at: 5, dgree: 3}", "did you mean hybrid.degree?"),
        ("hybrid: {to: svd_taylor, at: 5, degree: -1}", "hybrid.degree: "),
        ("hybrid: {to: newton_schulz, at: 5, form: published}", "hybrid.form: head 'newton_schulz' has no 'form'"),
        ("hybrid: {to: svd_taylor, at: 5, form: published, side: sample}", "hybrid.side: got 'sample' (text); allowed"),
        ("hybrid: {to: svd_exact, at: 5, dim: 3}", "hybrid.dim: unknown key"),
        ("hybrid: svd_exact", "hybrid: got 'svd_exact' (text); allowed: a section with the keys to, at"),
    ],
)
def test_one_fault(faults, text, message):
    found = faults(text)
    assert len(found) == 1 and message in found[0], found


def test_heads_that_fit(faults):
    (fault,) = faults("head: {name: newton_schulz}\nhybrid: {to: bilinear, at: 5}")
    fitting = re.search(r"of newton_schulz: (.*)$", fault)[1].split(", ")
    assert {"svd_pade", "covariance", "polar_express", "seb"} <= set(fitting)
    assert not {"average", "bilinear", "compact_bilinear"} & set(fitting)
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
    assert "stages.1.hybrid.at: got '4 epochs' (text); allowed: shorter" in fault
