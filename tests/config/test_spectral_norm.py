"""`head.spectral_norm` and `model.classifier_norm` where there is nothing to act on."""

import pytest
from config_fixtures import says


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("head: {spectral_norm: bound, dim: null}", "head.spectral_norm bound null head.dim null head.dim"),
        (
            "head: {spectral_norm: exact, reduction: orthogonal}",
            "head.spectral_norm exact null head.reduction orthogonal head.reduction=conv",
        ),
        (
            "stages: [{train: {epochs: 1}}, {head: {spectral_norm: power}}]",
            "stages.2.head.spectral_norm power name side form precision",
        ),
    ],
)
def test_spectral_norm(faults, text, words):
    (fault,) = faults(text)
    assert says(fault, words), fault


def test_spectral_norm_of_the_classifier_needs_nothing_else(faults):
    assert faults("model: {classifier_norm: exact}\nhead: {dim: null}\noptim: {clip: 1.0}") == []
    (fault,) = faults("model: {classifier_norm: bond}")
    assert says(fault, "model.classifier_norm bond power exact bound bound")
