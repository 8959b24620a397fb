"""Measured errors of gradients against the same numbers computed from scratch, and the published failures."""

import csv
import io
import math

import mpmath
import pytest
import torch
from matplotlib.figure import Figure

from gcp.errors import OptionError, UnknownNameError
from gcp.studies.fidelity import figures, tables
from gcp.studies.fidelity.measure import measure, read, shown
from gcp.studies.fidelity.methods import ComparedHead, eligible, heads_of_rules, methods
from gcp.studies.fidelity.oracle import ExactGradient, symmetric, upstream
from gcp.studies.fidelity.spectra import (
    SWEEPS,
    FeatureMaps,
    given,
    log_uniform,
    maps_with,
    pairs,
    quartiles,
    settings,
    spectrum_of,
)

DIM, SIDE = 6, 3


def setting(eigenvalues, draws=1, channels=DIM, side=SIDE, seed=5, zero=0, source="condition", condition=1.0):
    maps = maps_with(eigenvalues, channels, side, draws, seed, zero)
    return FeatureMaps(source, maps, condition, 0.5, channels - len(eigenvalues))


def row_of(point, method, precision="float64", side="channel"):
    (row,) = measure(point, [method], [side], [precision], seed=0)
    return row


def from_scratch(x, weight):
    """Feature gradient for weights W(a, b) between eigenvalues, in 40 digits."""
    X = mpmath.matrix(x.flatten(1).tolist())
    ones = mpmath.ones(X.cols, X.cols) / X.cols
    Xc = X - X * ones
    values, V = mpmath.eigsy(Xc * Xc.T / X.cols)
    S = V.T * mpmath.matrix(symmetric(upstream(X.rows, 1), X.rows).tolist()) * V
    core = mpmath.matrix(X.rows, X.rows)
    for i in range(X.rows):
        for j in range(X.rows):
            high, low = max(values[i], values[j]), min(values[i], values[j])
            core[i, j] = S[i, j] * (1 / (2 * mpmath.sqrt(high)) if i == j else weight(high, low))
    gradient = V * core * V.T * Xc * 2 / X.cols
    return torch.tensor([[float(value) for value in gradient[i, :]] for i in range(X.rows)], dtype=torch.float64)


def exact(a, b):
    return (mpmath.sqrt(a) - mpmath.sqrt(b)) / (a - b)


def taylor(a, b):
    return sum((b / a) ** i for i in range(101)) / a * (mpmath.sqrt(a) - mpmath.sqrt(b))


def power_iteration(a, b):
    return exact(a, b) * (1 + (b / a) ** mpmath.mpf("18.5"))


def truncate(a, b):
    return min(1 / (a - b), mpmath.mpf(10) ** 10) * (mpmath.sqrt(a) - mpmath.sqrt(b))


@pytest.mark.parametrize(
    ("head", "weight", "gap"),
    [("svd_taylor", taylor, 1e-2), ("svd_pi", power_iteration, 1e-2), ("svd_trunc", truncate, 1e-11)],
)
def test_errors_of_rules_from_scratch(head, weight, gap):
    point = setting(pairs(DIM, 100.0, gap))
    with mpmath.workdps(40):
        right, theirs = (from_scratch(point.maps[0], rule) for rule in (exact, weight))
    row = row_of(point, ComparedHead(head, "folded"))
    loose = 1e-3 if head == "svd_trunc" else 1e-7  # a gap of 1e-11 keeps five digits in float64
    assert row["error"] == pytest.approx(float((theirs - right).norm() / right.norm()), rel=loose)
    assert row["norm_ratio"] == pytest.approx(float(theirs.norm() / right.norm()), rel=loose)
    assert row["cosine"] == pytest.approx(float((theirs * right).sum() / theirs.norm() / right.norm()), rel=loose)
    assert 0.01 < row["error"] < 1 and row["forward_error"] < 1e-12


def test_error_of_newton_schulz_by_autograd():
    """Five steps, unrolled, against the autograd of an eigendecomposition in float64."""
    point = setting(log_uniform(DIM, 1e3))
    g, results = upstream(DIM, 1), []
    for root in (_steps, _eigh):
        x = point.maps[0].flatten(1).clone().requires_grad_()
        Xc = x - x.mean(1, keepdim=True)
        Q = root(Xc @ Xc.T / x.shape[1])
        (Q * symmetric(g, DIM)).sum().backward()
        results.append((Q.detach(), x.grad))
    (Q, ours), (exact_Q, right) = results
    row = row_of(point, ComparedHead("newton_schulz"))
    assert row["error"] == pytest.approx(float((ours - right).norm() / right.norm()), rel=1e-8)
    rows, columns = torch.triu_indices(DIM, DIM)
    output, expected = Q[rows, columns], exact_Q[rows, columns]
    assert row["forward_error"] == pytest.approx(float((output - expected).norm() / expected.norm()), rel=1e-8)


def _steps(P):
    tau = P.trace()
    Y, Z, identity = P / tau, torch.eye(DIM).double(), torch.eye(DIM).double()
    for _ in range(5):
        T = (3 * identity - Z @ Y) / 2
        Y, Z = Y @ T, T @ Z
    return Y * tau.sqrt()


def _eigh(P):
    values, V = torch.linalg.eigh(P)
    return (V * values.sqrt()) @ V.T


@pytest.mark.parametrize("head", ["svd_exact", "svd_original", "svd_pade", "seb"])
@pytest.mark.parametrize(("side", "channels", "map_side"), [("channel", 5, 3), ("sample", 6, 2)])
def test_exact_methods_are_exact(head, side, channels, map_side):
    rank = min(channels, map_side**2 - 1)
    point = setting(log_uniform(rank, 50.0), channels=channels, side=map_side, draws=3)
    form = "" if head == "seb" else "folded"
    row = row_of(point, ComparedHead(head, form), side=side)
    assert row["error"] < 1e-13 and row["cosine"] == pytest.approx(1, abs=1e-13)
    assert row["norm_ratio"] == pytest.approx(1, abs=1e-13) and row["forward_error"] < 1e-14
    rounded = row_of(point, ComparedHead(head, form), "float32", side)
    assert 1e-9 < rounded["error"] < 1e-4 and rounded["rounding"] == pytest.approx(rounded["error"], rel=0.1)
    assert math.isnan(row["rounding"]) and (row["draws"], row["overflow"]) == (3, 0)


@pytest.mark.filterwarnings("ignore:the published form of 'power_iteration'")
def test_published_power_iteration_passes_no_gradient():
    row = row_of(setting(log_uniform(DIM, 10.0), draws=2), ComparedHead("svd_pi", "published"))
    assert (row["error"], row["norm_ratio"]) == (1.0, 0.0) and math.isnan(row["cosine"])
    assert "none" in tables.tables([row | {"source": "photographs"}])


def test_published_top_n_explodes():
    point = setting(log_uniform(12, 100.0), channels=12, side=5)
    published, folded = (row_of(point, ComparedHead("svd_topn", form)) for form in ("published", "folded"))
    assert published["norm_ratio"] > 1e4 and 0.5 < folded["norm_ratio"] < 2


def test_published_original_loses_a_digit_for_each_of_the_gap():
    errors = [
        row_of(setting(pairs(DIM, 100.0, gap)), ComparedHead("svd_original", "published"))["error"]
        for gap in (1e-4, 1e-8)
    ]
    assert 1e2 < errors[1] / errors[0] < 1e6
    assert row_of(setting(pairs(DIM, 100.0, 1e-8)), ComparedHead("svd_original", "folded"))["error"] < 1e-13


def test_what_is_not_finite_is_said():
    right = ExactGradient(torch.ones(3).double(), torch.ones(1, 2, 2).double())
    broken = ExactGradient(torch.ones(3).double(), torch.tensor([[[1.0, math.inf], [0, 0]]]).double())
    reading = read(broken, right, None)
    assert (reading.error, reading.norm_ratio, reading.forward_error) == (math.inf, math.inf, 0)
    assert math.isnan(reading.cosine) and math.isnan(reading.rounding)
    nothing = ExactGradient(right.output * 0, right.gradient * 0)
    assert math.isnan(read(nothing, nothing, nothing).error)
    assert read(right, nothing, None).error == math.inf


def test_quartiles():
    assert quartiles([5.0, 1.0, math.nan, 3.0, 2.0, math.inf]) == (2.0, 3.0, 5.0)
    assert all(math.isnan(value) for value in quartiles([math.nan]))


@pytest.mark.parametrize("dim", [2, 3, 12])
def test_sweeps_have_the_spectra_that_they_promise(dim):
    for point in settings(list(SWEEPS), [dim], 2, 0):
        found = spectrum_of(point.maps)
        assert point.maps.dtype == torch.float64 and point.maps.shape[0] == 2
        if not point.source.startswith("relu"):
            assert found.rank.tolist() == [point.channels - point.rank_deficit] * 2, point
            # eigenvalues of singular values: the rounding of the features, times the root of the condition number
            assert found.condition.tolist() == pytest.approx([point.condition] * 2, rel=1e-6)
            assert found.gap.tolist() == pytest.approx([point.gap] * 2, rel=1e-6, abs=1e-14)
            means = point.maps.mean((2, 3))
            assert float(means.abs().max()) < 1e-14


def test_settings_of_fixed_width_come_once():
    widths = [point.channels for point in settings(["samples"], [4, 3], 1, 0)]
    assert widths.count(256) == 1 and {3, 4} < set(widths)
    (wide,) = (point for point in settings(["samples"], [4], 1, 0) if point.channels == 256)
    assert (wide.samples, wide.rank_deficit) == (49, 208)


def test_effective_rank_and_medians_of_given_maps():
    maps = torch.cat([maps_with(torch.ones(4).double(), 6, 3, 1, 0), maps_with(log_uniform(3, 1e2), 6, 3, 2, 1)])
    found = spectrum_of(maps)
    p = [value / 1.11 for value in (1, 0.1, 0.01)]
    assert found.effective_rank[0].item() == pytest.approx(4)
    assert found.effective_rank[1].item() == pytest.approx(math.exp(-sum(x * math.log(x) for x in p)))
    point = given("mine", maps)
    assert point.condition == pytest.approx(100) and (point.rank_deficit, point.samples) == (3, 9)


def test_methods():
    every = methods()
    assert len(set(every)) == len(every) and {method.head for method in every} == set(eligible())
    assert [str(m) for m in methods(["svd_exact", "svd_taylor", "mpa_*", "seb"])] == [
        "svd_exact",
        "svd_taylor",
        "svd_taylor published",
        "mpa_lyapunov lyapunov",
        "mpa_lyapunov iterations",
        "seb",
    ]
    assert [str(m) for m in methods(["svd_*"], ["published"])][:2] == ["svd_newton published", "svd_original published"]
    assert heads_of_rules(["power_iteration", "t*"]) == ["svd_pi", "svd_taylor", "svd_topn", "svd_trunc"]
    with pytest.raises(OptionError, match="svd_exact has no form published"):
        methods(["svd_exact"], ["published"])
    with pytest.raises(OptionError, match="average: not the root of the covariance"):
        methods(["average"])
    with pytest.raises(UnknownNameError, match=r"'taylor'\?"):
        heads_of_rules(["tayler"])


@pytest.fixture(scope="module")
def rows():
    """Two methods over three condition numbers, on both sides."""
    points = [setting(log_uniform(DIM, c), 3, condition=c) for c in (1e0, 1e2, 1e7)]
    chosen = methods(["svd_exact", "newton_schulz", "svd_topn"])
    found = [row for p in points for row in measure(p, chosen, ("channel", "sample"), ("float32", "float64"))]
    return found


def test_natural_side_is_shown(rows):
    assert len(rows) == 3 * (3 * 2 + 1) * 2
    assert {row["side"] for row in shown(rows)} == {"channel"} and len(shown(rows)) == 3 * 4 * 2
    assert {row["side"] for row in shown([row for row in rows if row["side"] == "sample"])} == {"sample"}


def test_safe_ranges(rows):
    ranges = {(r.head, r.form, r.quantity, r.limit): str(r) for r in tables.safe_ranges(rows)}
    assert ranges["svd_exact", "folded", "error", 1e-3] == "up to 1e2"
    assert ranges["newton_schulz", "", "error", 1e-3] == "nowhere"
    assert ranges["newton_schulz", "", "rounding", 1e-2] == "up to 1e7"
    lines = tables.safe_table(tables.safe_ranges(rows), DIM).splitlines()
    assert max(map(len, lines)) <= 120 and sum("svd_exact" in line for line in lines) == 1


def test_longest_run_of_safe_points():
    base = {"source": "condition", "head": "h", "form": "", "precision": "float32", "side": "channel"}
    base |= {"gap": 1.0, "rank_deficit": 0, "samples": 9, "channels": 4, "error_high": math.nan}
    errors = {1.0: 1.0, 10.0: 1e-4, 100.0: 1e-4, 1e3: math.inf, 1e4: 1e-4}
    found = tables.safe_ranges([base | {"condition": c, "rounding_high": e} for c, e in errors.items()])
    assert {str(each) for each in found} == {"1e1 to 1e2"} and {each.quantity for each in found} == {"rounding"}


def test_tables_fit_and_name_every_method(rows):
    text = tables.tables(rows)
    assert max(map(len, text.splitlines())) <= 120
    assert text.count("svd_topn published") == 2 and "1e7" in text


def test_csv_keeps_what_is_not_finite(rows):
    broken = rows[0] | {"error": math.inf, "cosine": math.nan}
    first, second = list(csv.DictReader(io.StringIO(tables.to_csv([broken, rows[1]]))))
    assert (first["error"], first["cosine"]) == ("inf", "")
    assert float(second["error"]) == pytest.approx(rows[1]["error"], rel=1e-3)
    contract = (
        "source head form precision side condition gap rank_deficit samples channels error cosine norm_ratio oracle"
    )
    assert list(first)[:14] == contract.split()
    assert tables.to_csv([]).splitlines() == [",".join(tables.FIRST)]


def test_figures(rows, tmp_path):
    few = [row for row in rows if row["head"] == "newton_schulz" and row["precision"] == "float32"]
    paths = figures.draw([*few, few[0] | {"source": "mine", "error": math.inf}], tmp_path / "ä b")
    stems = {"fidelity_condition_6", "fidelity_condition_6_cosine", "fidelity_features"}
    assert {path.name for path in paths} == {f"{stem}.{ending}" for stem in stems for ending in ("svg", "png")}
    assert sorted(path.name for path in (tmp_path / "ä b").iterdir()) == sorted(path.name for path in paths)
    before = paths[-2].read_bytes()
    assert figures.draw([few[0] | {"source": "mine", "error": math.inf}], tmp_path / "ä b")[0].read_bytes() == before


def painted(rows, value="error"):
    """The panels of a sweep over condition numbers by the names of their heads, and the words of the legend."""
    figure = Figure()
    figures.sweep(rows, "condition", figures.VALUES[value])[1](figure)
    panels = {axes.get_title("left"): axes for axes in figure.axes if axes.get_visible()}
    return panels, [text.get_text() for text in figure.legends[0].get_texts()]


def test_a_sweep_is_drawn_as_measured(rows):
    panels, legend = painted(shown(rows))
    assert list(panels) == list(dict.fromkeys(row["head"] for row in rows)) and legend[:2] == ["float32", "float64"]
    own = [row for row in shown(rows) if (row["head"], row["precision"]) == ("newton_schulz", "float64")]
    expected = {row["condition"]: row["error"] for row in own}
    drawn = [dict(zip(*line.get_data(), strict=True)) for line in panels["newton_schulz"].get_lines()]
    assert expected in drawn


def test_what_is_not_finite_is_a_cross_above_every_value(rows):
    broken = [row | ({"error": math.inf} if row["condition"] == 1e7 else {}) for row in shown(rows)]
    panels, legend = painted(broken)
    assert legend[-1] == "above 1e3 or not finite"
    for axes in panels.values():
        values = [y for line in axes.get_lines() for y in line.get_ydata() if len(line.get_xdata()) == 3]
        marks = [y for line in axes.get_lines() for y in line.get_ydata() if list(line.get_xdata()) == [1e7]]
        assert marks and max(marks) < axes.get_ylim()[1]
        assert min(marks) >= max(y for y in values if math.isfinite(y))
    assert painted([row for row in shown(rows) if row["head"] == "newton_schulz"])[1] == ["float32", "float64"]


def test_a_gradient_of_zero_has_no_direction(rows):
    lost = [row | {"cosine": math.nan} for row in shown(rows) if row["head"] == "newton_schulz"]
    panels, legend = painted(lost, "cosine")
    assert legend[-1] == "no direction" and len(panels) == 1


def test_bands_are_quartiles_and_may_be_missing(rows):
    few = [row for row in shown(rows) if row["head"] == "newton_schulz" and row["precision"] == "float32"]
    wide = [row | {"error_low": 1e-3, "error_high": 1e-1} for row in few]
    (band,) = painted(wide)[0]["newton_schulz"].collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx((1e-3, 1e-1))
    bare = [{key: value for key, value in row.items() if not key.endswith(("_low", "_high"))} for row in few]
    assert not painted(bare)[0]["newton_schulz"].collections
