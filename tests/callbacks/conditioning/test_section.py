"""`optim.nog` and `optim.olr` where there is nothing to act on."""

import pytest


@pytest.mark.parametrize(("key", "shown"), [("nog: true", "nog: got true (switch); allowed: false"),
                                            ("olr: exact", "olr: got 'exact' (text); allowed: null")])  # fmt: skip
@pytest.mark.parametrize(
    ("rest", "why"),
    [
        ("head: {dim: null}", "with head.dim: null, which leaves no reduction to act on; or set head.dim"),
        (
            "head: {reduction: orthogonal}",
            "with head.reduction: orthogonal, whose parameters are reflectors and keep W W^T = I; did you mean "
            "head.reduction=conv?",
        ),
        ("model: {freeze: [head]}", "with model.freeze: head, which holds the reduction"),
        ("model: {freeze: [head.reduction.0]}", "with model.freeze: head.reduction.0, which holds the reduction"),
    ],
)
def test_faults(faults, key, shown, rest, why):
    assert faults(f"optim: {{{key}}}\n{rest}\n") == [f"optim.{shown} {why}"]


def test_both_at_once(faults):
    assert len(faults("optim: {nog: true, olr: paper}\nhead: {dim: null}\n")) == 2


def test_no_fault(faults):
    assert faults("optim: {nog: true, olr: exact}\nmodel: {freeze: [features]}\n") == []
    assert faults("head: {reduction: orthogonal, dim: null}\nmodel: {freeze: [head]}\n") == []


def test_a_wrong_word(faults):
    (fault,) = faults("optim: {olr: exakt}")
    assert "exact" in fault and "paper" in fault
    (fault,) = faults("head: {reduction: orthogonl}")
    assert "Did you mean 'orthogonal'?" in fault


def test_with_a_spectral_norm(faults):
    assert faults("head: {spectral_norm: power}\noptim: {nog: true}") == [
        "optim.nog: got true (switch); allowed: false with head.spectral_norm: power, which divides the weight "
        "that is trained; did you mean head.spectral_norm=null?"
    ]
