"""The signatures that ctypes is told, against NVIDIA's header; and the parts of a batch."""

import ctypes
import re
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from gcp.kernels import cusolver
from gcp.kernels.backend import version

C_TYPES = {
    "cusolverDnHandle_t": ctypes.c_void_p,
    "cusolverDnParams_t": ctypes.c_void_p,
    "cudaStream_t": ctypes.c_void_p,
    "cusolverDnHandle_t *": ctypes.POINTER(ctypes.c_void_p),
    "cusolverDnParams_t *": ctypes.POINTER(ctypes.c_void_p),
    "cusolverEigMode_t": ctypes.c_int,
    "cublasFillMode_t": ctypes.c_int,
    "cudaDataType": ctypes.c_int,
    "int64_t": ctypes.c_int64,
    "size_t": ctypes.c_size_t,
    "size_t *": ctypes.POINTER(ctypes.c_size_t),
    "void *": ctypes.c_void_p,
    "const void *": ctypes.c_void_p,
    "int *": ctypes.c_void_p,  # info, an address on the GPU
}


def header(name):
    spec = find_spec("nvidia")
    roots = spec.submodule_search_locations if spec else ()
    found = [path for root in roots for path in Path(root).glob(f"*/include/{name}")]
    if not found:
        pytest.skip("no CUDA headers among the installed wheels")
    return re.sub(r"\s+", " ", found[0].read_text(errors="replace"))


def parameters(function):
    """Types of a function's parameters, as the header writes them."""
    (text,) = set(re.findall(rf"CUSOLVERAPI {function}\(([^)]*)\)", header("cusolverDn.h")))
    return [
        re.sub(r"\s*\w+$", "", parameter.strip().replace("*", "* ")).replace("* ", "*").strip()
        for parameter in text.split(",")
    ]


@pytest.mark.parametrize("function", cusolver.PROTOTYPES)
def test_prototypes(function):
    written = [re.sub(r"\s*\*", " *", kind) for kind in parameters(function)]
    assert [C_TYPES[kind] for kind in written] == cusolver.PROTOTYPES[function]


def test_constants():
    common, blas, kinds = header("cusolver_common.h"), header("cublas_api.h"), header("library_types.h")
    assert f"CUSOLVER_EIG_MODE_VECTOR = {cusolver.VECTORS}" in common
    assert f"CUBLAS_FILL_MODE_UPPER = {cusolver.UPPER}" in blas
    assert re.search(rf"CUDA_R_32F = {cusolver.CUDA_TYPE[torch.float32]}", kinds)
    assert re.search(rf"CUDA_R_64F = {cusolver.CUDA_TYPE[torch.float64]}", kinds)


def test_library_has_the_functions():
    """Looked up without a driver, where torch brought the library."""
    if torch.version.cuda is None or version(torch.version.cuda) < (12, 6):
        pytest.skip("this torch brings no CUDA libraries that are new enough")
    library = cusolver.library()
    assert library is not None
    for function in cusolver.PROTOTYPES:
        assert getattr(library, function).argtypes == cusolver.PROTOTYPES[function]


@pytest.mark.parametrize(
    ("n", "batch", "expected"),
    [(256, 128, [128]), (256, 32767, [32767]), (256, 32768, [32767, 1]), (2048, 1100, [511, 511, 78]), (1, 5, [5])],
)
def test_chunks(n, batch, expected):
    parts = cusolver.chunks(n, batch)
    sizes = [part.stop - part.start for part in parts]
    assert sizes == expected and parts[0].start == 0 and parts[-1].stop == batch
    assert max(sizes) * n * n < 2**31


def test_a_matrix_too_large_for_one_call_is_its_own_chunk():
    assert len(cusolver.chunks(50_000, 2)) == 2


class Fake:
    """A cuSOLVER that decomposes on the CPU, and writes down what it was told."""

    def __init__(self, failed=()):
        self.calls, self.hosts, self.failed = [], [], failed

    def __call__(self, function, *arguments):
        self.calls.append(function)
        if function == "cusolverDnXsyevBatched_bufferSize":
            arguments[-3]._obj.value, arguments[-2]._obj.value = 64, 8
        if function == "cusolverDnXsyevBatched":
            _, _, jobz, uplo, n, kind, A, lda, _, W, _, device, _, host, size, info, batch = arguments
            self.hosts.append((host, size))
            assert (jobz, uplo, lda) == (1, 1, n) and bytes((ctypes.c_char * 64).from_address(device)) == bytes(64)
            real = {0: ctypes.c_float, 1: ctypes.c_double}[kind]
            matrices = torch.frombuffer((real * (batch * n * n)).from_address(A), dtype=self.dtype(kind))
            values = torch.frombuffer((real * (batch * n)).from_address(W), dtype=self.dtype(kind))
            numbers = torch.frombuffer((ctypes.c_int32 * batch).from_address(info), dtype=torch.int32)
            lower = matrices.view(batch, n, n)
            w, V = torch.linalg.eigh(lower)
            lower.copy_(V.mT)
            values.view(batch, n).copy_(w)
            numbers.zero_()

    @staticmethod
    def dtype(kind):
        return {0: torch.float32, 1: torch.float64}[kind]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_passed(monkeypatch, dtype):
    """Row-major rows are the eigenvectors, parts of a batch do not overlap, the workspace is zero."""
    fake = Fake()
    monkeypatch.setattr(cusolver, "_call", fake)
    monkeypatch.setattr(cusolver, "MOST_ENTRIES", 5 * 16)
    monkeypatch.setattr(cusolver, "_handle", lambda device: (1, 2))
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    A = torch.randn(12, 4, 4, generator=torch.Generator().manual_seed(0), dtype=dtype)
    P = A @ A.mT
    kept = P.clone()
    eigenvalues, rows, info = cusolver.decompose(P)
    torch.testing.assert_close(rows.mT * eigenvalues[:, None, :] @ rows, P)
    assert torch.equal(P, kept) and not info.any()
    assert fake.calls.count("cusolverDnXsyevBatched") == 3
    workspace = cusolver._local.workspaces[P.device.index][-1]
    assert {host for host, _ in fake.hosts} == {ctypes.addressof(workspace)}, "of the handle, and not of a call"
    assert all(size <= len(workspace) for _, size in fake.hosts)


def test_a_matrix_with_nan_or_inf_has_failed_whatever_the_solver_says(monkeypatch):
    monkeypatch.setattr(cusolver, "_decompose", lambda A, eigenvalues, info: eigenvalues.fill_(1))
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    P = torch.eye(3).repeat(5, 1, 1)
    P[1, 2, 2], P[2, 0, 1], P[3, 0, 0], P[3, 1, 1] = torch.nan, torch.inf, torch.inf, -torch.inf
    assert cusolver.decompose(P)[2].tolist() == [0, 1, 1, 1, 0]


def test_the_library_of_torch_comes_first(monkeypatch, tmp_path):
    """One of the system, loaded by its name before torch loads its own, would become torch's too."""
    asked = []

    def load(place):
        asked.append(place)
        raise OSError(place)

    monkeypatch.setattr(ctypes, "CDLL", load)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(cusolver, "_beside_torch", lambda name: [str(tmp_path / name)])
    assert cusolver.library.__wrapped__() is None
    assert asked == [str(tmp_path / "libcusolver.so.12"), "libcusolver.so.12"]


def test_a_status_is_an_error(monkeypatch):
    class Library:
        @staticmethod
        def cusolverDnCreate(*arguments):
            return 7

    monkeypatch.setattr(cusolver, "library", Library)
    with pytest.raises(RuntimeError, match="cusolverDnCreate failed with status 7"):
        cusolver._call("cusolverDnCreate", None)
