"""Symmetric eigendecomposition of a batch, by the fastest library at hand (`gcp.kernels.backend`)."""

import torch
from torch import Tensor

from gcp.errors import DeviceError
from gcp.kernels import cpu, cusolver
from gcp.kernels.backend import choose_backend
from gcp.kernels.failures import check_failures, watch
from gcp.kernels.launch import never_differentiated, on_stream_of, register

LEAST_WORK = 4_000_000  # n^3 summed over the batch; a head of a 7x7 map gains from a batch of 64 and loses 6 % at 16


def eigh(P: Tensor, solver: str | None = None) -> tuple[Tensor, Tensor]:
    """Ascending eigenvalues (B, n) and eigenvectors (B, n, n), columns, of symmetric matrices (B, n, n).

    Args:
        P: float32 or float64.
        solver: one of `gcp.kernels.backend.BACKENDS` on CUDA; None is the choice of `use_eigensolver(...)`, of the
            environment variable GCP_EIGENSOLVER, or the best one here. The CPU has one.

    Raises:
        LinAlgError: a matrix that was not decomposed, by its index; by cusolver and cupy at a later call (or by
            `check_failures`), until when its eigenvalues are NaN.
        DeviceError: while a CUDA graph is captured.
        OptionError: a backend that cannot be taken.
    """
    if P.device.type != "cuda":
        batch, n = P.shape[:2]
        # a traced program must have no condition on the size of its batch
        traced = torch.compiler.is_compiling() or torch.jit.is_tracing() or type(P) is not Tensor
        if traced or batch * n**3 < LEAST_WORK or not 1 < (workers := torch.get_num_threads()) <= batch:
            return torch.linalg.eigh(P)
        return cpu.shared_eigh(P, workers) if cpu.can_share(P) else torch.linalg.eigh(P)
    eigenvalues, rows = torch.ops.gcp.eigh(P, solver)
    return eigenvalues, rows.mT


@register("eigh", tags=[torch.Tag.cudagraph_unsafe])
def _eigh(P: Tensor, solver: str | None) -> tuple[Tensor, Tensor]:
    """Eigenvectors as rows."""
    refuse_capture(P)
    check_failures(wait=False)
    batch, n = P.shape[:2]
    chosen = choose_backend(solver, n, batch) if P.numel() else "torch"
    if chosen == "torch":  # reads its info itself, and waits for it
        eigenvalues, V = torch.linalg.eigh(P)
        return eigenvalues, V.mT.contiguous()
    eigenvalues, rows, info = cusolver.decompose(P) if chosen == "cusolver" else by_cupy(P)
    watch(info, eigenvalues, f"{chosen}, {n}x{n} {P.dtype}".replace("torch.", ""))
    return eigenvalues, rows


@_eigh.register_fake
def _(P: Tensor, solver: str | None) -> tuple[Tensor, Tensor]:
    return P.new_empty(P.shape[:2]), P.new_empty(P.shape)


never_differentiated(_eigh)


def refuse_capture(P: Tensor) -> None:
    """Raise DeviceError while a CUDA graph is captured: no eigensolver can be."""
    if P.device.type == "cuda" and torch.cuda.is_current_stream_capturing():
        raise DeviceError(
            "an eigendecomposition cannot be captured in a CUDA graph: leave the head out of the graph (torch.compile "
            "without mode='reduce-overhead'), or take head.name=polar_express or newton_schulz, which can."
        )


def by_cupy(P: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As `cusolver.decompose`."""
    import cupy

    with on_stream_of(P):
        found = cupy.linalg.eigh(cupy.from_dlpack(P.detach().contiguous()))
        eigenvalues, V = (torch.from_dlpack(array).clone() for array in found)  # into torch's own memory
    return eigenvalues, V.mT.contiguous(), unlike(P, eigenvalues, V)


def unlike(P: Tensor, eigenvalues: Tensor, V: Tensor) -> Tensor:
    """1 (B,) int32 for matrices far from V diag(l) V^T, else 0: in the place of the info that CuPy keeps to itself."""
    residual = torch.linalg.matrix_norm(P @ V - V * eigenvalues[:, None, :])
    bound = torch.finfo(P.dtype).eps ** (1 / 3) * torch.linalg.matrix_norm(P)  # P V may have been rounded to TF32
    return (~(residual <= bound)).int()  # NaN is not below anything
