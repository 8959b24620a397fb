"""Failed matrices: NaN at once, an error with the index as soon as the number is there, never a wait in between."""

import pytest
import torch

from gcp import kernels
from gcp.errors import DeviceError
from gcp.kernels import check_failures, cusolver, eigensolver, failures
from gcp.kernels.failures import Pending, add


@pytest.fixture(autouse=True)
def empty():
    yield
    failures._pending.clear()


def pending(info, arrived=True):
    waited = []
    info = torch.tensor(info, dtype=torch.int32)
    add(Pending(info, lambda: arrived or bool(waited), lambda: waited.append(True), "cusolver, 4x4 float64"))
    return waited


def test_nothing_is_wrong():
    pending([0, 0])
    check_failures()
    assert not failures._pending


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ([0, 0, 3, 0], r"cusolver, 4x4 float64: matrix 2 .*\b4 "),
        ([0, 1, 0, 2, 5], r"matrix 1 .*\b5 .*\b2 more "),
    ],
)
def test_index(info, message):
    pending(info)
    with pytest.raises(torch.linalg.LinAlgError, match=message):
        check_failures()
    check_failures()  # said once


def test_the_hot_path_does_not_wait():
    waited = pending([1], arrived=False)
    check_failures(wait=False)
    assert not waited and len(failures._pending) == 1
    with pytest.raises(torch.linalg.LinAlgError, match="matrix 0 of a batch of 1"):
        check_failures()
    assert waited


def test_eigh_by_cusolver_marks_and_reports(as_on_gpu, monkeypatch):
    """The failed matrix is NaN in the call itself; the next call names it."""
    as_on_gpu()

    def decompose(P):
        eigenvalues, V = torch.linalg.eigh(P)
        return eigenvalues, V.mT.contiguous(), torch.tensor([0, 4, 0], dtype=torch.int32)

    def watch(info, eigenvalues, what):
        eigenvalues.masked_fill_((info != 0)[:, None], torch.nan)
        add(Pending(info, lambda: True, lambda: None, what))

    monkeypatch.setattr(cusolver, "decompose", decompose)
    monkeypatch.setattr(cusolver, "library", object)
    monkeypatch.setattr(eigensolver, "watch", watch)
    P = torch.eye(40, dtype=torch.float64).expand(3, 40, 40).contiguous()
    eigenvalues, V = kernels.eigh(P, solver="cusolver")
    assert eigenvalues.isnan().all(1).tolist() == [False, True, False] and V.shape == (3, 40, 40)
    with pytest.raises(torch.linalg.LinAlgError, match="cusolver, 40x40 float64: matrix 1 of a batch of 3"):
        kernels.eigh(P, solver="cusolver")


def test_capture(as_on_gpu, monkeypatch):
    class Capturing:
        device = torch.device("cuda")

    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with pytest.raises(DeviceError, match=r"CUDA graph.*head\.name=polar_express"):
        eigensolver.refuse_capture(Capturing())
    eigensolver.refuse_capture(torch.ones(1))
    assert torch.Tag.cudagraph_unsafe in torch.ops.gcp.eigh.default.tags


def test_a_wrong_decomposition_is_seen():
    A = torch.randn(4, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    P = A @ A.mT
    P[3] = 0
    eigenvalues, V = torch.linalg.eigh(P)
    assert eigensolver.unlike(P, eigenvalues, V).tolist() == [0, 0, 0, 0]
    eigenvalues[1, 2], V[2, 0, 0] = torch.nan, V[2, 0, 0] + 1e-3
    assert eigensolver.unlike(P, eigenvalues, V).tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize("n", [33, 200])
def test_a_decomposition_checked_by_rounded_products_is_not_a_failure(n, monkeypatch):
    """Whoever allows TF32 for every product has the check rounded too, by cutting digits off."""

    def cut(A):
        return (A.contiguous().view(torch.int32) & -0x2000).view(torch.float32)

    X = torch.rand(4, n, 3 * n, generator=torch.Generator().manual_seed(0))
    P = X @ X.mT / X.shape[2]
    eigenvalues, V = torch.linalg.eigh(P)
    exact = torch.Tensor.__matmul__
    monkeypatch.setattr(torch.Tensor, "__matmul__", lambda A, B: exact(cut(A), cut(B)))
    assert not eigensolver.unlike(P, eigenvalues, V).any()
    assert eigensolver.unlike(P, eigenvalues, V.roll(1, 2)).all()
