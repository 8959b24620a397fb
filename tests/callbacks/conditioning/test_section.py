"""`optim.nog` and `optim.olr` where there is nothing to act on."""

import pytest
from config_fixtures import says


@pytest.mark.parametrize(("key", "shown"), [("nog: true", "nog true false"), ("olr: exact", "olr exact null")])
@pytest.mark.parametrize(
    ("rest", "why"),
    [
        ("head: {dim: null}", "head.dim null head.dim"),
        (
            "head: {reduction: orthogonal}",
            "head.reduction orthogonal head.reduction=conv",
        ),
        ("model: {freeze: [head]}", "model.freeze head"),
        ("model: {freeze: [head.reduction.0]}", "model.freeze head.reduction.0"),
    ],
)
def test_faults(faults, key, shown, rest, why):
    (fault,) = faults(f"optim: {{{key}}}\n{rest}\n")
    assert says(fault, f"optim.{shown} {why}"), fault


def test_both_at_once(faults):
    assert len(faults("optim: {nog: true, olr: paper}\nhead: {dim: null}\n")) == 2


def test_no_fault(faults):
    assert faults("optim: {nog: true, olr: exact}\nmodel: {freeze: [features]}\n") == []
    assert faults("head: {reduction: orthogonal, dim: null}\nmodel: {freeze: [head]}\n") == []


def test_a_wrong_word(faults):
    (fault,) = faults("optim: {olr: exakt}")
    assert says(fault, "optim.olr exakt paper exact null exact")
    (fault,) = faults("head: {reduction: orthogonl}")
    assert says(fault, "head.reduction orthogonl conv orthogonal orthogonal")


def test_with_a_spectral_norm(faults):
    (fault,) = faults("head: {spectral_norm: power}\noptim: {nog: true}")
    assert says(fault, "optim.nog true false head.spectral_norm power head.spectral_norm=null")
