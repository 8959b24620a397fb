"""`head.spectral_norm` and `model.classifier_norm` where there is nothing to act on."""

import pytest


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            "head: {spectral_norm: bound, dim: null}",
            "head.spectral_norm: got 'bound' (text); allowed: null with head.dim: null, which leaves no reduction to "
            "act on; or set head.dim",
        ),
        (
            "head: {spectral_norm: exact, reduction: orthogonal}",
            "head.spectral_norm: got 'exact' (text); allowed: null with head.reduction: orthogonal, whose singular "
            "values are 1; did you mean head.reduction=conv?",
        ),
        (
            "stages: [{train: {epochs: 1}}, {head: {spectral_norm: power}}]",
            "stages.2.head.spectral_norm: got 'power' (text), but the weights of the stage before have to fit; allowed "
            "in a stage: name, side, form, precision",
        ),
    ],
)
def test_spectral_norm(faults, text, fault):
    assert faults(text) == [fault]


def test_spectral_norm_of_the_classifier_needs_nothing_else(faults):
    assert faults("model: {classifier_norm: exact}\nhead: {dim: null}\noptim: {clip: 1.0}") == []
    (fault,) = faults("model: {classifier_norm: bond}")
    assert "power, exact, bound" in fault and "did you mean bound?" in fault
