"""The same matrices as parametrisations: for the weight of a layer that stays what it is.

    gcp.layers.orthogonal(nn.Conv2d(256, 64, 1), "weight")     # rows of the (64, 256) matrix orthonormal
    gcp.layers.svd(nn.Linear(64, 64), "weight", spectrum="box", width=0.1)

A weight of more than two dimensions is a matrix (out, in * height * width) here, which is what a convolution does to
each patch. `torch.nn.utils.parametrize.remove_parametrizations` leaves the plain layer behind.
"""

from copy import deepcopy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gcp.errors import OptionError
from gcp.layers.cache import MatrixCache
from gcp.layers.frame import exempt, frame_matrix
from gcp.layers.householder import check_block
from gcp.layers.reflectors import nearest_orthonormal, reflectors_of
from gcp.layers.spectrum import create_map
from gcp.ops.numerics import outside_autocast

M = TypeVar("M", bound=nn.Module)


def orthogonal(module: M, name: str = "weight", block: int | None = None) -> M:
    """Keep the columns of a weight orthonormal, or its rows where there are fewer; the module itself is returned.

    It starts at the nearest such matrix. Assigning `module.weight = W` takes a W that is orthonormal.

    Raises:
        OptionError: the module has no such parameter, or one that is not a matrix.

    Examples:
        >>> import torch
        >>> from gcp import layers
        >>> conv = layers.orthogonal(torch.nn.Conv2d(16, 4, 3))
        >>> W = conv.weight.flatten(1)  # (4, 144)
        >>> torch.allclose(W @ W.T, torch.eye(4), atol=1e-5)
        True
    """
    weight = find_parameter(module, name)
    with torch.no_grad():
        weight.copy_(nearest_orthonormal(weight.flatten(1)).view_as(weight))
    return _register(module, name, OrthogonalWeight(weight.shape, block))


def svd(module: M, name: str = "weight", spectrum: str = "exp", block: int | None = None, **options: Any) -> M:
    """Give a weight its singular value decomposition as parameters; the function of the module does not change.

    Args:
        module: the layer.
        name: of its weight, of two dimensions or more.
        spectrum: of `gcp.layers.spectrum`.
        block: reflectors in a block, see `householder_apply`.
        **options: of the spectrum.

    Raises:
        OptionError: no such parameter, or singular values that the spectrum cannot have.

    Examples:
        >>> import torch
        >>> from gcp import layers
        >>> layer = torch.nn.Linear(6, 4)
        >>> before = layer.weight.clone()
        >>> torch.allclose(layers.svd(layer, spectrum="softplus").weight, before, atol=1e-5)
        True
    """
    return _register(module, name, SVDWeight(find_parameter(module, name).shape, spectrum, block, **options))


def settled(module: M) -> M:
    """A copy in which every parametrised weight is a plain one of the same values, for programs that only run it."""
    copy = deepcopy(module)
    for layer in [layer for layer in copy.modules() if parametrize.is_parametrized(layer)]:
        weights = {name: getattr(layer, name).detach() for name in layer.parametrizations}  # type: ignore[union-attr]
        # remove_parametrizations would edit the class, which is that of the module too
        layer.__class__ = parametrize.type_before_parametrizations(layer)
        del layer.parametrizations
        for name, weight in weights.items():
            layer.register_parameter(name, nn.Parameter(weight, requires_grad=False))
    return copy


class Weight(nn.Module):
    """A parametrisation whose result is kept in eval mode without gradients, until a parameter changes."""

    def __init__(self, shape: torch.Size, block: int | None):
        super().__init__()
        if block is not None:
            check_block(block)
        self.shape, self.block = shape, block
        self.rows, self.columns = shape[0], shape[1:].numel()
        self._cache = MatrixCache()

    def forward(self, *originals: Tensor) -> Tensor:
        """The weight, in the shape that it has in the module."""
        differentiable = torch.is_grad_enabled() and any(original.requires_grad for original in originals)
        if self.training or differentiable or torch.compiler.is_compiling():
            return self._weight(originals)
        return self._cache.get(self.sources(originals), lambda: self._weight(originals))

    def sources(self, originals: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """What the weight is computed from."""
        return originals

    def _weight(self, originals: tuple[Tensor, ...]) -> Tensor:
        with outside_autocast(originals[0]):
            return self.build(*originals).reshape(self.shape)

    def build(self, *originals: Tensor) -> Tensor:
        """The matrix (rows, columns)."""
        raise NotImplementedError


class OrthogonalWeight(Weight):
    """From reflectors (k, d), k the smaller and d the larger of rows and columns."""

    def build(self, *originals: Tensor) -> Tensor:
        F = frame_matrix(originals[0], min(self.rows, self.columns), self.block)
        return F if self.rows >= self.columns else F.mT

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Reflectors of a weight. Raises ShapeError where it is not orthonormal."""
        matrix = weight.flatten(1)
        return reflectors_of(matrix if self.rows >= self.columns else matrix.mT).to(weight.dtype)


class SVDWeight(Weight):
    """From reflectors of U, the parameter of the singular values, and reflectors of V."""

    def __init__(self, shape: torch.Size, spectrum: str, block: int | None, **options: Any):
        super().__init__(shape, block)
        self.map = create_map(spectrum, **options)
        if not self.map.trained:
            raise OptionError(f"spectrum {spectrum!r} leaves nothing to train but U and V; use gcp.layers.orthogonal.")

    def build(self, *originals: Tensor) -> Tensor:
        U, raw, V = originals
        return (frame_matrix(U, len(raw), self.block) * self.map.values(raw)) @ frame_matrix(V, len(raw), self.block).mT

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """U, s and V of a weight. Raises OptionError for singular values out of bounds."""
        U, s, Vh = torch.linalg.svd(weight.flatten(1).double(), full_matrices=False)
        parts = reflectors_of(U), self.map.parameter(s), reflectors_of(Vh.mT)
        return tuple(part.to(weight.dtype) for part in parts)  # type: ignore[return-value]


def find_parameter(module: nn.Module, name: str) -> nn.Parameter:
    """The parameter of a module. Raises OptionError where there is none, or one that is not a matrix."""
    if not isinstance(module, nn.Module):
        raise OptionError(f"a module such as nn.Linear is needed, got {type(module).__name__}.")
    names = [key for key, parameter in module.named_parameters(recurse=False) if parameter.ndim >= 2]
    if name not in names:
        kind = type(module).__name__
        known = f"it has {', '.join(names)}" if names else "it has none"
        why = " (it is parametrised already)" if parametrize.is_parametrized(module, name) else ""
        raise OptionError(f"{kind} has no parameter {name!r} of two dimensions or more{why}: {known}.")
    return getattr(module, name)


def _register(module: M, name: str, weight: Weight) -> M:
    parametrize.register_parametrization(module, name, weight)
    exempt(module.parametrizations[name])  # type: ignore[union-attr,index,operator,arg-type]
    return module
