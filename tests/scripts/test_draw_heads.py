"""Every head has its page in docs/heads, as the script writes it, and the numbers there are those of the formulas."""

import re
from pathlib import Path

import pytest
import torch
from draw_heads import ROWS, function, main, page, table, texts, weights

import gcp

PAGES = Path(__file__).parents[2] / "docs" / "heads"
NAMES = [str(entry) for entry in gcp.list_heads()]
X = torch.tensor(ROWS, dtype=torch.float64)
# The weight over the exact one, from the formulas of the pages, for the pair (1, x).
FORMULAS = {
    "svd_exact": lambda x: torch.ones_like(x),
    "svd_original": lambda x: torch.ones_like(x),
    "svd_pade": lambda x: torch.ones_like(x),
    "svd_taylor": lambda x: 1 - x**101,
    "svd_pi": lambda x: 1 + x**18.5,
    "svd_trunc": lambda x: (1 / (1 - x)).clamp(max=1e10) * (1 - x.sqrt()) * (1 + x.sqrt()),
}


def test_every_head_has_its_page():
    assert set(NAMES) == set(texts()) == set(table())
    assert {path.stem for path in PAGES.glob("*.md")} == set(NAMES)
    assert sum(path.stat().st_size for path in PAGES.iterdir()) < 1e6
    for told in texts().values():
        assert {"formula", "use", "like"} <= told.keys() and set(told["like"]) <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_page_is_what_the_script_writes(name):
    """To mend it: python scripts/draw_heads.py."""
    picture = (PAGES / f"{name}.svg").is_file()
    assert (PAGES / f"{name}.md").read_text(encoding="utf-8") == page(name, picture)
    assert picture == (function(name, torch.tensor([1.0, 0.5], dtype=torch.float64)) is not None)


@pytest.mark.parametrize("name", FORMULAS)
def test_the_numbers_are_those_of_the_formula(name):
    torch.testing.assert_close(weights(name, X), FORMULAS[name](X), rtol=1e-6, atol=1e-9)
    line = re.search(r"^\| gradient over the exact one \|(.*)\|$", (PAGES / f"{name}.md").read_text(), re.M)[1]
    shown = torch.tensor([float(cell) for cell in line.split("|")], dtype=torch.float64)
    torch.testing.assert_close(shown, FORMULAS[name](X), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", ["svd_newton", "svd_topn"])
def test_rules_that_depend_on_the_spectrum(name):
    """By the gradient of the root itself, in the eigenbasis."""
    x, rule = torch.tensor([0.3, 0.9], dtype=torch.float64), {"svd_newton": "newton", "svd_topn": "top_n"}[name]
    spectra = torch.logspace(0, -4, 64, dtype=torch.float64).repeat(2, 1)
    spectra[:, 1] = x
    P = torch.diag_embed(spectra).requires_grad_()
    G = torch.zeros_like(P)
    G[:, 0, 1] = G[:, 1, 0] = 1
    (gradient,) = torch.autograd.grad(gcp.matrix_sqrt(P, rule=rule), P, G)
    torch.testing.assert_close(weights(name, x), gradient[:, 0, 1] * (1 + x.sqrt()), rtol=1e-6, atol=0)


def test_iterations_that_reach_the_root():
    x = torch.tensor([0.01, 0.9], dtype=torch.float64)
    for name in ("polar_express", "halley"):
        torch.testing.assert_close(weights(name, x), torch.ones_like(x), rtol=1e-4, atol=0)
    assert weights("newton_schulz", x, 3e-4).max() < 0.2


def test_functions_of_the_spectrum():
    values = torch.tensor([1.0, 0.25, 0.01], dtype=torch.float64)
    for name in ("svd_pade", "gaussian", "power", "seb"):
        torch.testing.assert_close(function(name, values), values.sqrt(), rtol=1e-6, atol=0)
    logarithm = (1 + values / 1e-3).log() / torch.tensor(1001.0, dtype=torch.float64).log()
    torch.testing.assert_close(function("log_euclidean", values), logarithm, rtol=1e-6, atol=0)
    assert torch.equal(function("covariance", values), values) and function("isice", values) is None


def test_the_files(tmp_path, call):
    code, out, _ = call(main, [tmp_path, "--heads", "svd_pade", "average"])
    assert code == 0 and out.count("\n") == 2
    assert {path.name for path in tmp_path.iterdir()} == {"svd_pade.md", "svd_pade.svg", "average.md"}
    assert "over the exact one" in (tmp_path / "svd_pade.svg").read_text()
