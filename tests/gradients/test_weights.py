"""The folded weight of every rule against its published factor in high precision."""

import mpmath
import pytest
import torch

import gcp
from gcp.errors import OptionError, ShapeError, UnknownNameError
from gcp.gradients import RULES, create_rule

SPECTRA = {
    "separated": [5.0, 2.3, 0.7, 0.11, 1e-3],
    "unsorted": [0.11, 5.0, 1e-3, 0.7, 2.3],
    "wide": [1e4, 1.0, 1e-4, 1e-8, 1e-11],
    "gap 1e-3": [2.0, 2.0 * (1 - 1e-3), 0.5, 0.5 * (1 + 1e-3), 0.1],
    "gap 1e-6": [2.0, 2.0 * (1 - 1e-6), 0.5, 0.5 * (1 + 1e-6), 0.1],
    "gap 1e-10": [2.0, 2.0 * (1 - 1e-10), 0.5, 0.5 * (1 + 1e-10), 0.1],
    "one ulp": [2.0, 2.0 * (1 - 2**-53), 0.5, 0.5 * (1 + 2**-52), 0.1],
    "repeated": [1.5, 0.4, 1.5, 0.4, 1.5],
    "zeros": [0.0, 3.0, 0.0, 0.2, 0.2],
    "single": [0.7],
}
OPTIONS = [
    ("taylor", {"degree": 0}),
    ("taylor", {"degree": 1}),
    ("taylor", {"degree": 7}),
    ("power_iteration", {"iterations": 1}),
    ("power_iteration", {"iterations": 5}),
    ("truncate", {"threshold": 0.3}),
    ("truncate", {"threshold": 100.0}),
    ("truncate", {"threshold": 1e7}),
    ("top_n", {"keep": 0.5}),
    ("top_n", {"keep": 1.0}),
    ("top_n", {"keep": 1}),
    ("top_n", {"keep": 3}),
    ("top_n", {"keep": 99}),
    ("newton", {"iterations": 1}),
    ("newton", {"iterations": 5}),
]
CASES = [(str(rule), {}) for rule in RULES] + OPTIONS


def relative_error(W, expected):
    worst = 0.0
    with mpmath.workdps(60):
        for i, row in enumerate(expected):
            for j, value in enumerate(row):
                got = mpmath.mpf(float(W[i, j]))
                worst = max(worst, float(abs(got - value) / abs(value)) if value else float(abs(got)))
    return worst


@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize(("rule", "options"), CASES, ids=lambda v: v if isinstance(v, str) else str(v or "default"))
def test_weight(oracle, rule, options, spectrum):
    values = SPECTRA[spectrum]
    W = gcp.spectral_weight(torch.tensor([values], dtype=torch.float64), rule=rule, **options)
    assert W.shape == (1, len(values), len(values)) and W.dtype == torch.float64
    assert torch.equal(W, W.mT) or rule == "newton"
    assert relative_error(W[0], oracle(rule, values, **options)) < 1e-12


@pytest.mark.parametrize("rule", list(RULES))
def test_weight_in_float32(oracle, rule):
    """No cancellation: float32 is good to a few units in the last place, near-degenerate or not."""
    values = [2.0, 2.0 * (1 - 2**-20), 0.5, 0.5, 0.125, 0.0]
    W = gcp.spectral_weight(torch.tensor([values], dtype=torch.float32), rule=rule)
    assert W.dtype == torch.float32
    assert relative_error(W[0], oracle(rule, values)) < 5e-6


@pytest.mark.parametrize(("rule", "options"), CASES, ids=lambda v: v if isinstance(v, str) else str(v or "default"))
def test_null_weight_is_the_limit(oracle, rule, options):
    """w0(l) = W(l, b) for b -> 0; a b of 1e-60 is the limit to 30 digits."""
    values = [3.0, 0.8, 0.8, 0.02]
    if rule == "top_n":
        options = {"keep": 4} | options
        if options["keep"] != 4:
            return  # the null eigenvalue would change what is kept
    chosen = create_rule(rule, **options)
    kept = torch.tensor([values], dtype=torch.float64)
    w0 = chosen.null_weight(kept)[0]
    limit = oracle("exact" if rule == "top_n" else rule, [*values, 1e-60], **({} if rule == "top_n" else options))
    for i in range(4):
        assert float(w0[i]) == pytest.approx(float(limit[i][4]), rel=1e-12)


def test_a_number_that_is_dropped():
    """`drop` is `keep` counted from the other end; 50 of 256 channels, as published, is the default share."""
    eigenvalues = torch.rand(2, 256, dtype=torch.float64)
    default, published = (gcp.spectral_weight(eigenvalues, rule="top_n", **given) for given in ({}, {"drop": 50}))
    assert torch.equal(default, published) and int((default[0].diagonal() == 0).sum()) == 50
    few = eigenvalues[:, :64]
    by_share, by_number = (create_rule("top_n", **given).count(64) for given in ({}, {"drop": 50}))
    assert (by_share, by_number) == (52, 14)
    assert torch.equal(*(gcp.spectral_weight(few, rule="top_n", **given) for given in ({"drop": 50}, {"keep": 14})))
    with pytest.raises(OptionError, match=r"drop.*50.*32 channels"):
        gcp.spectral_weight(eigenvalues[:, :32], rule="top_n", drop=50)
    with pytest.raises(OptionError, match=r"keep=3.*drop=50"):
        create_rule("top_n", keep=3, drop=50)


def test_null_weight_of_dropped_eigenvalues():
    chosen = create_rule("top_n", keep=2)
    kept = chosen.spectrum(torch.tensor([[3.0, 0.8, 0.5]], dtype=torch.float64), 3)
    assert kept.tolist() == [[3.0, 0.8, 0.0]]
    assert chosen.null_weight(kept)[0].tolist() == pytest.approx([3.0**-0.5, 0.8**-0.5, 0.0])


@pytest.mark.parametrize("rule", list(RULES))
def test_zero_matrix(rule):
    eigenvalues = torch.zeros(2, 3, dtype=torch.float64)
    assert not gcp.spectral_weight(eigenvalues, rule=rule).any()
    assert not create_rule(rule).null_weight(eigenvalues).any()


def test_truncation_is_active(oracle):
    """At t = 0.3 every gap of the separated spectrum below 3.3 is clipped."""
    eigenvalues = torch.tensor([SPECTRA["separated"]], dtype=torch.float64)
    W = gcp.spectral_weight(eigenvalues, rule="truncate", threshold=0.3)[0]
    exact = gcp.spectral_weight(eigenvalues)[0]
    assert float(W[1, 2] / exact[1, 2]) == pytest.approx(0.3 * 1.6)
    assert float(W[0, 3]) == pytest.approx(float(exact[0, 3]))


@pytest.mark.parametrize(("rule", "values"), [("exact", [1.0, -1e-9]), ("taylor", [1.0, float("nan")])])
def test_bad_eigenvalues(rule, values):
    with pytest.raises(ShapeError, match="eigenvalues must be finite and >= 0"):
        gcp.spectral_weight(torch.tensor([values]), rule=rule)


@pytest.mark.parametrize("eigenvalues", [torch.ones(3), torch.ones(1, 2, 3), torch.ones(2, 3, dtype=torch.int64)])
def test_bad_shape(eigenvalues):
    with pytest.raises(ShapeError, match=r"eigenvalues \(B, d\) are needed"):
        gcp.spectral_weight(eigenvalues)


def test_names_and_options():
    with pytest.raises(UnknownNameError, match=r"'tailor'.*Did you mean 'taylor'\?.*exact, "):
        gcp.spectral_weight(torch.ones(1, 2), rule="tailor")
    with pytest.raises(OptionError, match=r"'taylor' .*'degre'.*Did you mean 'degree'\?"):
        gcp.spectral_weight(torch.ones(1, 2), rule="taylor", degre=3)
    with pytest.raises(OptionError, match=r"'exact' .*'degree'.*no options"):
        gcp.spectral_weight(torch.ones(1, 2), degree=3)


INFINITE = float("inf")
BAD = [
    ("taylor", "degree", -1, "a whole number >= 0"),
    ("taylor", "degree", 2.5, "a whole number >= 0"),
    ("taylor", "degree", True, "a whole number >= 0"),
    ("power_iteration", "iterations", 0, "a whole number >= 1"),
    ("newton", "iterations", "ten", "a whole number >= 1"),
    ("truncate", "threshold", -1.0, "a number"),
    ("truncate", "threshold", float("nan"), "a number"),
    ("truncate", "threshold", INFINITE, "a number"),
    ("top_n", "keep", 0, "a fraction"),
    ("top_n", "keep", 2.5, "a fraction"),
    ("top_n", "keep", "most", "a number"),
    ("top_n", "drop", 0.5, "a whole number"),
    ("top_n", "drop", -1, "a whole number"),
    ("top_n", "keep", INFINITE, ""),
]


@pytest.mark.parametrize(("rule", "key", "value", "allowed"), BAD)
def test_bad_values(rule, key, value, allowed):
    with pytest.raises(OptionError, match=rf"{key} .*'{rule}' .*{value!r}; allowed: .*{allowed}"):
        create_rule(rule, **{key: value})


def test_a_fraction_keeps_at_least_one():
    """10 % of 3 rounds to nothing, and the head would be zero for ever."""
    kept = create_rule("top_n", keep=0.1).spectrum(torch.tensor([[3.0, 2.0, 1.0]]), 3)
    assert kept.tolist() == [[3.0, 0.0, 0.0]]
