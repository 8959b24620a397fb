"""`model.norm`: every key of it is checked before anything is built."""

import pytest
from config_fixtures import says

from gcp.config import dump, from_dict


@pytest.mark.parametrize(
    "norm",
    [
        "whitening",
        "{layers: all}",
        "{name: whitening, layers: [features.layer1.0.bn1], group_size: 16, solver: newton_schulz, iterations: 7}",
        "{solver: polar_express, steps: 5, groups: 2, eps: 1e-3, precision: float64}",
        "{rule: taylor, degree: 9}",
        "null",
    ],
)
def test_what_is_allowed(faults, norm):
    assert faults(f"model: {{norm: {norm}}}") == []


@pytest.mark.parametrize(
    ("norm", "words"),
    [
        ("whitning", "model.norm.name whitning whitening"),
        ("3", "model.norm 3 whitening"),
        ("{layers: frist}", "model.norm.layers frist first all"),
        ("{layers: []}", "model.norm.layers first all"),
        ("{grup_size: 16}", "model.norm.grup_size group_size"),
        ("{group_size: 0}", "model.norm.group_size 0 1"),
        ("{eps: small}", "model.norm.eps small 1e-5"),
        ("{solver: newton}", "model.norm.solver newton newton_schulz"),
        ("{rule: tailor}", "model.norm.rule tailor taylor"),
        ("{rule: taylor, solver: polar_express}", "model.norm.rule taylor eig"),
        ("{rule: taylor, degree: -1}", "model.norm.degree -1 0"),
        ("{iterations: 5}", "model.norm.iterations solver rule"),
        ("{solver: newton_schulz, iterations: many}", "model.norm.iterations many whole"),
    ],
)
def test_faults(faults, norm, words):
    (fault,) = faults(f"model: {{norm: {norm}}}")
    assert says(fault, words), fault


def test_a_name_alone_and_a_mapping_without_one_are_written_in_full():
    for norm in ("whitening", {"name": "whitening"}):
        assert from_dict({"model": {"norm": norm}}).model.norm == {"name": "whitening"}
    config = from_dict({"model": {"norm": {"layers": "all"}}}, ["model.norm.group_size=16"])
    assert config.model.norm == {"name": "whitening", "layers": "all", "group_size": 16}
    assert "group_size: 16" in dump(config)
    assert from_dict(config.plain(), ["model.norm=null"]).model.norm is None
