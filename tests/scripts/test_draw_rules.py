"""The picture of the rules draws what the library computes."""

import torch
from draw_rules import FUNCTIONS, main, published, ratios

import gcp


def test_the_ratios_of_the_rules():
    """Against gradients of the root of a matrix with that gap, the eigenvectors at 45 degrees."""
    gaps = torch.tensor([1e-6, 1e-2, 0.5], dtype=torch.float64)
    found = ratios(gaps)
    assert torch.equal(found["svd_pade, svd_exact"], torch.ones(3, dtype=torch.float64))
    exact = [_off_diagonal(gap, "exact") for gap in gaps]
    for label, rule, options in (
        ("svd_taylor", "taylor", {"degree": 100}),
        ("svd_pi", "power_iteration", {"iterations": 19}),
    ):
        measured = [_off_diagonal(gap, rule, **options) / one for gap, one in zip(gaps, exact, strict=True)]
        torch.testing.assert_close(found[label], torch.stack(measured), rtol=1e-7, atol=1e-9)


def _off_diagonal(gap, rule, **options):
    """dL/dP in the eigenbasis, off the diagonal, for the upstream gradient [[0, 1], [1, 0]] there."""
    V = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64) / 2**0.5
    P = (V * torch.stack([torch.ones_like(gap), 1 - gap]) @ V.mT)[None].requires_grad_()
    G = V @ torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64) @ V.mT
    (gradient,) = torch.autograd.grad(gcp.matrix_sqrt(P, rule=rule, **options), P, G[None])
    return (V.mT @ gradient[0] @ V)[0, 1]


def test_the_published_factor_loses_close_pairs():
    assert published(torch.tensor([1e-9], dtype=torch.float64)).isnan().all()
    torch.testing.assert_close(
        published(torch.tensor([0.3], dtype=torch.float64)), torch.ones(1, dtype=torch.float64), rtol=1e-6, atol=0
    )


def test_the_spectrum_of_five_steps():
    values = torch.logspace(0, -4, 6, dtype=torch.float64)
    root = gcp.matrix_sqrt(torch.diag(values)[None], solver="newton_schulz", iterations=5)[0]
    torch.testing.assert_close(
        FUNCTIONS["newton_schulz, 5 steps"](values), root.diagonal().double(), rtol=1e-4, atol=1e-6
    )


def test_the_file(tmp_path, call):
    code, out, _ = call(main, [tmp_path / "rules.png"])
    assert code == 0 and (tmp_path / "rules.png").stat().st_size > 10_000 and "rules.png" in out
