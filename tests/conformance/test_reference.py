"""Outputs and gradients of the published code (tests/reference/README.md)."""

import warnings
from pathlib import Path

import numpy
import pytest
import torch

from gcp import create_head

FILES = {path.stem: numpy.load(path) for path in sorted((Path(__file__).parents[1] / "reference").glob("*.npz"))}
RENAMED = {
    "bcnn": ("bilinear", {}),
    "svd_newton_5": ("svd_newton", {"iterations": 5}),
    "newton_schulz_3": ("newton_schulz", {"iterations": 3}),
}
VECTORS = [
    (name, key.removesuffix(".out")) for name, file in FILES.items() for key in file.files if key.endswith(".out")
]
EIGEN = [vector for vector in VECTORS if vector[1].startswith("svd")]
SIDED = [vector for vector in VECTORS if vector[1] != "bcnn"]


def tolerances(name, vector):
    """Of output and gradient: what the published code is good for."""
    if name != "rank_deficient" or vector == "bcnn":
        return 1e-11, 1e-11
    return (1e-6, 1e-6) if vector.startswith("newton_schulz") else (1e-4, 1e-3)


def check(name, vector, **arguments):
    file = FILES[name]
    head, options = RENAMED.get(vector, (vector, {}))
    x = torch.from_numpy(file["x"]).requires_grad_()
    out = create_head(head, x.shape[1], **options, **arguments)(x)
    g = torch.from_numpy(file["grad_out_square" if vector == "bcnn" else "grad_out"])
    (gradient,) = torch.autograd.grad(out, x, g)
    for got, kind, tolerance in zip((out.detach(), gradient), ("out", "grad"), tolerances(name, vector), strict=True):
        expected = torch.from_numpy(file[f"{vector}.{kind}"])
        error = float((got - expected).norm() / expected.norm())
        assert error < tolerance, f"{kind} differs by {error:.1e}"


def test_every_vector_is_here():
    assert set(FILES) == {"decaying", "rank_deficient", "well_conditioned"}
    assert len(VECTORS) == 31 and len(SIDED) == 28


@pytest.mark.parametrize(("name", "vector"), VECTORS)
def test_default(name, vector):
    check(name, vector)


@pytest.mark.parametrize("side", ["channel", "sample"])
@pytest.mark.parametrize(("name", "vector"), SIDED)
def test_sides(name, vector, side):
    check(name, vector, side=side)


@pytest.mark.parametrize(("name", "vector"), [vector for vector in EIGEN if vector[1] != "svd_pi"])
def test_published_form(name, vector):
    check(name, vector, form="published")


def test_published_power_iteration_passes_no_gradient_and_says_so_once():
    from gcp.gradients import power_iteration

    power_iteration._warn_once.cache_clear()
    x = torch.from_numpy(FILES["well_conditioned"]["x"])
    head = create_head("svd_pi", 16, form="published")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for _ in range(3):
            leaf = x.clone().requires_grad_()
            out = head(leaf)
            out.sum().backward()
            assert not leaf.grad.any()
    assert [str(w.message) for w in seen if "passes no gradient" in str(w.message)] == [str(seen[0].message)]
    assert torch.allclose(out, torch.from_numpy(FILES["well_conditioned"]["svd_pi.out"]), rtol=1e-11, atol=1e-12)
