r"""Reflectors that begin one entry later each, and their product with a matrix: half of the arithmetic, every frame.

    F = H_1 ... H_p E (d, p),      v_i = (0, ..., 0, v_ii, ..., v_id),      E the first p columns of the identity

p such reflectors reach every frame of p columns and, for p = d, every orthogonal matrix of one determinant, as full
ones do (Mhammedi et al., "Efficient orthogonal parametrisation of recurrent neural networks using Householder
reflections", ICML 2017; LAPACK's QR decomposition has this form). A block of them from row j on acts on the entries
from j on alone, and of E on the columns from j on. Operations for a (d, d) matrix in forward and backward, with b
reflectors in a block:

| | these | full reflectors | a dense layer |
|---|---|---|---|
| W X with m columns | 6 d^2 m + 2 d^2 b | 12 d^2 m + 4 d^2 b | 6 d^2 m |
| W, then W X | 4 d^3 + 6 d^2 m | 12 d^3 + 6 d^2 m | 6 d^2 m |

The formulas are those of `gcp.layers.householder`; X and G are kept transposed, their long rows as those of Y.
"""

from typing import Any

import torch
from torch import Tensor

from gcp.layers.frame import Frame
from gcp.layers.householder import into_blocks, invert_factors, product, scaled
from gcp.layers.reflectors import initial, reflectors_of
from gcp.ops.numerics import outside_autocast

BLOCK = 64


class TriangularProduct(torch.autograd.Function):
    """H_1 ... H_k X, or with `transpose` H_k ... H_1 X, of the upper triangle of V (k, d), and X (d, m).

    `square`: X is E, m <= d, of which a block from row j on needs the columns from j on. Not with `transpose`.
    """

    @staticmethod
    def forward(ctx: Any, V: Tensor, X: Tensor, transpose: bool, square: bool) -> Tensor:
        (k, d), m = V.shape, X.shape[1]
        C, S = [], V.new_zeros(-(-k // BLOCK), BLOCK, BLOCK)
        for number, j in enumerate(range(0, k, BLOCK)):
            b = min(BLOCK, k - j)
            c = V.new_empty(b + (m - j if square else m), d - j)
            y = c[:b]
            y.copy_(V[j : j + b, j:])
            y[:, :b].triu_()
            torch.mm(y, y.mT, out=S[number, :b, :b])
            C.append(c)
        ctx.C, ctx.T, ctx.Z = C, invert_factors(S), [V] * len(C)
        out = X.mT.clone(memory_format=torch.contiguous_format)
        for number in _order(len(C), transpose):
            y, x, t = _parts(ctx, number, out, k, square)
            C[number][len(y) : len(y) + len(x)] = x
            ctx.Z[number] = z = (x @ y.mT) @ (t if transpose else t.mT)
            x.addmm_(z, y, alpha=-1)
        ctx.transpose, ctx.square = transpose, square
        ctx.save_for_backward(V, X)
        return out.mT

    @staticmethod
    def backward(ctx: Any, G: Tensor) -> tuple[Tensor | None, ...]:
        V, X = ctx.saved_tensors
        with outside_autocast(G):
            if torch.is_grad_enabled():  # the gradient will be differentiated
                out = product(into_blocks(V.triu()[None], BLOCK), X[None], ctx.transpose)[0]
                wanted = [tensor for tensor in (V, X) if tensor.requires_grad]
                found = iter(torch.autograd.grad(out, wanted, G, create_graph=True))
                return *(next(found) if tensor.requires_grad else None for tensor in (V, X)), None, None
            gradient, dV = G.mT.clone(memory_format=torch.contiguous_format), torch.empty_like(V)
            for number in _order(len(ctx.C), not ctx.transpose):
                y, g, t = _parts(ctx, number, gradient, len(V), ctx.square)
                b, c, z = len(y), ctx.C[number], ctx.Z[number]
                u = (g @ y.mT) @ (t.mT if ctx.transpose else t)
                M = (z.mT @ u if ctx.transpose else u.mT @ z).triu_()
                M.diagonal().mul_(0.5)
                j = number * BLOCK
                rows = dV[j : j + b]
                rows[:, :j] = 0
                torch.mm(M + M.mT, y, out=rows[:, j:])
                rows[:, j:].addmm_(u.mT, c[b:], alpha=-1).addmm_(z.mT, g, alpha=-1)
                rows[:, j : j + b].triu_()
                g.addmm_(u, y, alpha=-1)
            return dV, gradient.mT, None, None


def _order(count: int, transpose: bool) -> range:
    """The blocks as they are applied: the last one first, but for the transpose."""
    return range(count) if transpose else range(count - 1, -1, -1)


def _parts(ctx: Any, number: int, rows: Tensor, k: int, square: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Of a block its reflectors (b, d - j), what it acts on of `rows` (m, d), and T (b, b)."""
    j = number * BLOCK
    b = min(BLOCK, k - j)
    return ctx.C[number][:b], rows[j if square else 0 :, j:], ctx.T[number, :b, :b]


class TriangularFrame(Frame):
    """A `Frame` of p reflectors in the upper triangle of `vectors` (p, d); what is below it is zero and stays so.

    A state dict of a `Frame` of the same size is taken too: its reflectors are replaced by those of this form that make
    the same frame.
    """

    def __init__(self, d: int, p: int, init: str = "haar"):
        super().__init__(d, p, init=init)
        if init == "identity":
            self.reset_parameters()

    def multiply(self, X: Tensor) -> Tensor:
        if self.d > self.p:
            X = torch.cat([X, X.new_zeros(self.d - self.p, X.shape[-1])])
        return self._product(X, False)

    def adjoint(self, X: Tensor) -> Tensor:
        return self._product(X, True)[: self.p]

    def matrix(self) -> Tensor:
        identity = torch.eye(self.d, self.p, dtype=self.vectors.dtype, device=self.vectors.device)
        return self._product(identity, False, square=True)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        V = initial(self.init, *self.vectors.shape)
        if self.init == "identity":  # equal pairs; the tails of normal vectors are those of normal vectors
            for row in range(0, self.p - 1, 2):
                V[row : row + 2, : row + 1] = 0
                V[row : row + 2] /= torch.linalg.vector_norm(V[row])
        self.vectors.copy_(V)

    def _product(self, X: Tensor, transpose: bool, square: bool = False) -> Tensor:
        dtype = torch.promote_types(self.vectors.dtype, X.dtype)
        with outside_autocast(X):
            V, X = (tensor.to(torch.promote_types(dtype, torch.float32)) for tensor in (self.vectors, X))
            V = scaled(V)
            if torch.compiler.is_compiling():
                return product(into_blocks(V.triu()[None], BLOCK), X[None], transpose)[0].to(dtype)
            out: Tensor = TriangularProduct.apply(V, X, transpose, square)
            return out.to(dtype)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        given = state_dict.get(f"{prefix}vectors")
        if given is not None and given.shape == self.vectors.shape and bool(given.tril(-1).any()):
            full = Frame(self.d, self.p).to(given)
            full.vectors.data.copy_(given)
            with torch.no_grad():
                state_dict[f"{prefix}vectors"] = reflectors_of(full.double().matrix()).to(given)
        super()._load_from_state_dict(state_dict, prefix, *args)
