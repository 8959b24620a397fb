"""The eigensolver's backends on a card: each decomposes, all give the same head."""

import pytest
import torch

from gcp.errors import DeviceError
from gcp.heads import create_head
from gcp.kernels import check_failures, cusolver, eigh, failures, use_eigensolver
from gcp.kernels.backend import BACKENDS, has_backend

TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-13}


@pytest.fixture(params=BACKENDS)
def solver(request):
    if not has_backend(request.param):
        pytest.skip(f"{BACKENDS[request.param]} cannot be loaded here")
    return request.param


def matrices(spectrum, n, batch, dtype, device):
    generator = torch.Generator().manual_seed(n)
    U = torch.linalg.qr(torch.randn(batch, n, n, generator=generator, dtype=torch.float64)).Q
    values = {
        "decaying": torch.logspace(0, -6, n, dtype=torch.float64),
        "close": 1 + 1e-7 * torch.arange(n, dtype=torch.float64),
        "singular": torch.linspace(0, 1, n, dtype=torch.float64).clamp(min=0.5) - 0.5,
    }[spectrum]
    P = U * values @ U.mT
    return ((P + P.mT) / 2).to(device, dtype)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(
    ("n", "batch"), [(1, 3), (8, 16), (32, 64), (33, 5), (49, 128), (196, 10), (256, 64), (256, 1)]
)
@pytest.mark.parametrize("spectrum", ["decaying", "close", "singular"])
def test_residual_and_orthogonality(device, solver, spectrum, n, batch, dtype):
    P = matrices(spectrum, n, batch, dtype, device)
    kept = P.clone()
    eigenvalues, V = eigh(P, solver)
    check_failures()
    scale = float(torch.linalg.matrix_norm(P).amax())
    assert float((V * eigenvalues[:, None, :] @ V.mT - P).abs().max()) < TOLERANCE[dtype] * max(scale, 1) * 10
    eye = torch.eye(n, dtype=dtype, device=device)
    assert float((V.mT @ V - eye).abs().max()) < TOLERANCE[dtype] * 10
    assert bool((eigenvalues.diff(dim=1) >= 0).all()) and torch.equal(P, kept)
    expected = torch.linalg.eigvalsh(P.double().cpu())
    assert float((eigenvalues.double().cpu() - expected).abs().max()) < TOLERANCE[dtype] * max(scale, 1) * 10


def test_parts_of_a_batch(device, monkeypatch):
    if not has_backend("cusolver"):
        pytest.skip("no cuSOLVER that is new enough")
    P = matrices("decaying", 64, 10, torch.float64, device)
    whole = eigh(P, "cusolver")[0]
    monkeypatch.setattr(cusolver, "MOST_ENTRIES", 3 * 64 * 64)
    torch.testing.assert_close(eigh(P, "cusolver")[0], whole, rtol=0, atol=1e-13)


@pytest.mark.parametrize("shape", [(4, 64, 14, 14), (4, 256, 7, 7)])
def test_every_backend_gives_the_same_root_and_gradient(device, solver, shape):
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def evaluate(x):
        x = x.clone().requires_grad_()
        out = create_head("svd_pade", shape[1]).to(x.device)(x)
        return out.detach().cpu(), torch.autograd.grad(out.square().sum(), x)[0].cpu()

    expected = evaluate(x)
    with use_eigensolver(solver):
        for got, wanted in zip(evaluate(x.to(device)), expected, strict=True):
            assert float((got - wanted).norm()) < 1e-10 * float(wanted.norm())


@pytest.mark.parametrize("solver", ["cusolver"])
def test_no_wait_on_the_hot_path(device, no_waiting, solver):
    if not has_backend(solver):
        pytest.skip("no cuSOLVER that is new enough")
    P = matrices("decaying", 64, 10, torch.float64, "cpu").to(device, non_blocking=True)
    for _ in range(3):
        eigh(P, solver)


@pytest.mark.parametrize("solver", ["cusolver", "cupy"])
def test_a_matrix_that_cannot_be_decomposed(device, solver):
    """Never a number that looks right; named by its index, at the latest by check_failures."""
    if not has_backend(solver):
        pytest.skip(f"{BACKENDS[solver]} cannot be loaded here")
    P = matrices("decaying", 64, 6, torch.float64, device)
    P[4] = torch.nan
    eigenvalues, _ = eigh(P, solver)
    assert eigenvalues[4].isnan().any() and eigenvalues[[0, 1, 2, 3, 5]].isfinite().all()
    try:
        check_failures()
    except torch.linalg.LinAlgError as error:
        assert "matrix 4 of a batch of 6" in str(error)
    failures._pending.clear()


def test_capture_is_refused(device):
    P = matrices("decaying", 64, 6, torch.float64, device)
    eigh(P)
    graph = torch.cuda.CUDAGraph()
    with pytest.raises(DeviceError, match="cannot be captured in a CUDA graph"), torch.cuda.graph(graph):
        torch.ones(1, device=device)
        eigh(P)
