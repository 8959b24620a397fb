"""Matrices per thread on the CPU: the same numbers, and no trace left behind."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from unittest import mock

import pytest
import torch

from gcp.kernels import cpu, eigensolver


@pytest.fixture
def threads():
    """threads(n) sets torch's number for this test; MKL keeps its own, for the processes that later tests fork."""
    before = torch.get_num_threads()
    yield cpu.set_threads
    cpu.set_threads(before)


def batch(count=7, n=50, dtype=torch.float64):
    A = torch.randn(count, n, n, generator=torch.Generator().manual_seed(0), dtype=dtype)
    return A @ A.mT


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("count", [2, 3, 7, 64])
def test_decomposition(threads, count, dtype):
    threads(2)
    P = batch(count, 64, dtype)
    kept = P.clone()
    eigenvalues, V = eigensolver.eigh(P)
    expected = torch.linalg.eigh(P)
    close = {"rtol": 0, "atol": 1e-4 if dtype == torch.float32 else 1e-11}
    torch.testing.assert_close(eigenvalues, expected.eigenvalues, **close)
    torch.testing.assert_close(
        V * eigenvalues[:, None, :] @ V.mT, P, rtol=1e-4, atol=1e-3 if close["atol"] > 1e-6 else 1e-11
    )
    assert torch.equal(P, kept) and V.stride() == expected.eigenvectors.stride()
    assert not eigenvalues.requires_grad and not V.requires_grad


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Small matrices go to the pool too."""
    monkeypatch.setattr(eigensolver, "LEAST_WORK", 500_000)


def test_two_runs_have_the_same_bits(threads):
    threads(2)
    P = batch(9, 64)
    first, second = eigensolver.eigh(P), eigensolver.eigh(P)
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])


def test_each_thread_takes_a_part(threads):
    threads(3)
    seen, original = [], torch.linalg.eigh

    def record(A, **kwargs):
        seen.append((len(A), torch.get_num_threads(), threading.current_thread().name.rpartition("_")[0]))
        return original(A, **kwargs)

    with mock.patch("torch.linalg.eigh", side_effect=record):
        eigensolver.eigh(batch(7))
    assert sorted(seen) == [(2, 1, "gcp-eigh"), (2, 1, "gcp-eigh"), (3, 1, "gcp-eigh")]


@pytest.mark.parametrize(("count", "n", "number"), [(1, 200, 2), (7, 50, 1), (2, 50, 3), (4, 8, 2), (0, 50, 2)])
def test_what_is_not_shared_out(threads, monkeypatch, count, n, number):
    threads(number)
    monkeypatch.setattr(cpu, "_pool", None)
    assert eigensolver.eigh(batch(count, n))[0].shape == (count, n)


def test_gradients_go_the_plain_way(threads, monkeypatch):
    threads(2)
    monkeypatch.setattr(cpu, "_pool", None)
    P = batch().requires_grad_()
    (gradient,) = torch.autograd.grad(eigensolver.eigh(P)[0].sum(), P)
    torch.testing.assert_close(gradient, torch.eye(50, dtype=torch.float64).expand(7, 50, 50))


@pytest.mark.parametrize("inside", [True, False])
def test_in_inference_mode(threads, inside):
    """Also of a matrix that was made in that mode and is decomposed outside."""
    threads(2)
    with torch.inference_mode():
        P = batch(64)
        found = eigensolver.eigh(P) if inside else None
    found = found or eigensolver.eigh(P.clone())
    torch.testing.assert_close(found[0], torch.linalg.eigh(batch(64))[0])


def test_a_bad_matrix_is_named_by_its_place_in_the_batch(threads, monkeypatch):
    threads(2)
    monkeypatch.setattr(eigensolver, "LEAST_WORK", 0)  # LAPACK gives NaN for large ones, an error for small ones
    P = batch(8, 4)
    P[6] = torch.inf
    with pytest.raises(torch.linalg.LinAlgError, match=r"Batch element 6"):
        eigensolver.eigh(P)


def test_other_threads_keep_their_number(threads):
    """What the pool sets for itself must not become the number of every thread to come."""

    def found():
        numbers = []
        thread = threading.Thread(target=lambda: numbers.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        return numbers

    threads(2)
    before = found()
    cpu._pool.cache_clear()
    eigensolver.eigh(batch())
    assert found() == before and torch.get_num_threads() == 2


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_after_a_fork(threads):
    """The child has no threads of the parent's pool to wait for."""
    threads(2)
    P = batch()
    eigensolver.eigh(P)
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)  # as a data worker does; LAPACK's own team does not survive a fork either
        ok = cpu._pool.cache_info().currsize == 0 and eigensolver.eigh(P)[0].isfinite().all()
        os._exit(0 if ok else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_compiled_code_has_one_decomposition(threads):
    threads(2)
    torch._dynamo.reset()
    compiled = torch.compile(lambda P: eigensolver.eigh(P)[0], fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(batch()), torch.linalg.eigh(batch()).eigenvalues)


SETTINGS = """
import ctypes, os, sys
import torch
import gcp
from gcp.kernels.cpu import set_threads

library = ctypes.CDLL(os.path.join(os.path.dirname(torch.__file__), "lib", "libtorch_cpu.so"))
mkl = [getattr(library, name, lambda: None) for name in ("mkl_serv_get_dynamic", "mkl_serv_get_max_threads")]

def settings():
    return torch.get_num_threads(), torch.get_num_interop_threads(), *(get() for get in mkl)

threads, before = torch.get_num_threads(), settings()
if sys.argv[1] == "threads":
    set_threads(1)
    assert torch.get_num_threads() == 1
    set_threads(threads)
else:
    x = torch.rand(16, 64, 9, 9, requires_grad=True)
    gcp.create_head(sys.argv[1], 64)(x).sum().backward()
assert settings() == before, (before, settings())
A = torch.eye(192, dtype=torch.float64).repeat(8, 1, 1) + 0.01 * torch.rand(8, 192, 192, dtype=torch.float64)
torch.linalg.solve(A, A)
"""


@pytest.mark.parametrize("what", ["svd_pade", "mpa_lyapunov", "threads"])
def test_the_process_keeps_its_threads(what):
    """In a new process with default threads; with MKL's dynamic threads off, the factorisation would never return."""
    environment = {key: value for key, value in os.environ.items() if not key.endswith("_NUM_THREADS")}
    command = [sys.executable, "-c", SETTINGS, what]
    root = Path(__file__).parents[2]
    ended = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
