r"""Decorrelated batch norm: channels leave the layer with mean 0, variance 1 and no correlation.

    y = weight * (P + eps I)^(-1/2) (x - mu) + bias,      mu, P: mean and covariance of the batch

By ZCA, the whitening nearest to the identity; channels are whitened in groups, as a covariance needs many more samples
than channels. With one channel in each group it is batch norm, to the bit of its formulas and buffers.

In evaluation the running mean and the running covariance take the place of those of the batch. The published layers
average the inverse root instead. The covariance is averaged here as batch norm averages the variance: its average is
unbiased (that of the inverse root is too large, since it is convex, the more so the fewer samples a batch has), and
solver and eps may change afterwards.

Huang, Yang, Lang and Deng, Decorrelated batch normalization, CVPR 2018 (arXiv:1804.08450), by eigendecomposition with
groups of 16 to 64 channels; Huang, Zhou, Zhu, Liu and Shao, Iterative normalization (IterNorm), CVPR 2019
(arXiv:1904.03441), by five Newton-Schulz steps.
"""

from collections.abc import Collection
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional

from gcp.errors import OptionError, ShapeError, UnknownNameError
from gcp.gradients import create_rule
from gcp.layers.frame import check_size
from gcp.layers.zca import EigenInverseRoot, InverseRoot, IteratedInverseRoot, Whiten, by_row, shift_of
from gcp.ops.numerics import check_precision, compute_dtype, outside_autocast
from gcp.roots.iterations import Iteration
from gcp.solvers import create_solver

SOLVERS = ("eig", "newton_schulz", "polar_express")  # those with an inverse root
PLACES = ("first", "all")

M = TypeVar("M", bound=nn.Module)


class Processes:
    """The processes that share statistics. Copies share them too; a pickle holds none."""

    def __init__(self, group: dist.ProcessGroup | None = None):
        self.group = group

    def __deepcopy__(self, memo: dict) -> "Processes":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return Processes, ()


class Whitening2d(nn.Module):
    """(B, C, H, W) -> the same shape, dtype and memory format. Drop-in for `nn.BatchNorm2d(channels)`.

    Args:
        channels: C.
        groups: groups of equal size that are whitened by themselves; None: the fewest whose size is at most
            `group_size` and divides C.
        group_size: greatest number of channels in a group, where `groups` is None.
        eps: the ridge, added to the eigenvalues of the covariance. A direction without variance stays zero.
        momentum: share of the batch in the running statistics; None: the average of all batches.
        affine: trained weight and bias of each channel.
        track_running_stats: keep statistics for evaluation; False: those of the batch in evaluation too.
        solver: `eig`; `newton_schulz` with `iterations` (IterNorm); `polar_express` with `lower` and `steps`.
        rule: backward rule of `eig` (`gcp list rules`); `top_n` also leaves the directions out that it drops.
        precision: of the products with the features, `float32` or `float64`, by default that of x and at least
            float32. Sums over samples and the inverse root are always in float64.
        **options: of the rule or the solver.

    Raises:
        OptionError: a size or an option out of bounds; UnknownNameError: an unknown solver or rule.

    Statistics are those of one process; `gcp.engine.batch_norm.synchronise(model, device)` makes them those of the
    whole batch of all processes. A double backward raises RuntimeError.

    Examples:
        >>> import torch
        >>> from gcp import layers
        >>> norm = layers.Whitening2d(4)
        >>> y = norm(torch.randn(8, 4, 5, 5)).transpose(0, 1).flatten(1)
        >>> torch.allclose(torch.cov(y, correction=0), torch.eye(4), atol=1e-3)
        True
    """

    weight: nn.Parameter | None
    bias: nn.Parameter | None
    running_mean: Tensor | None
    running_covariance: Tensor | None
    num_batches_tracked: Tensor | None
    whitening: Tensor | None

    def __init__(
        self,
        channels: int,
        groups: int | None = None,
        group_size: int = 64,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        solver: str = "eig",
        rule: str = "exact",
        precision: str | None = None,
        **options: Any,
    ):
        super().__init__()
        check_size("channels", channels, 1)
        check_size("group_size", group_size, 1)
        self.groups = fewest_groups(channels, group_size) if groups is None else groups
        check_size("groups", self.groups, 1)
        if channels % self.groups:
            raise OptionError(f"groups is {groups}, which does not divide {channels} channels.")
        if not eps > 0:
            raise OptionError(f"eps is {eps!r}; allowed: a number above 0, 1e-5 by default.")
        check_precision(precision)
        self.channels, self.eps, self.momentum, self.precision = channels, eps, momentum, precision
        self.solver, self.rule, self.options = solver, rule, options
        self.root = inverse_root(solver, rule, options)
        self.processes = Processes()
        for name, start in (("weight", torch.ones), ("bias", torch.zeros)):
            self.register_parameter(name, nn.Parameter(start(channels)) if affine else None)
        size = channels // self.groups
        identities = torch.eye(size).repeat(self.groups, 1, 1) if track_running_stats else None
        self.register_buffer("running_mean", torch.zeros(channels) if track_running_stats else None)
        self.register_buffer("running_covariance", identities)
        self.register_buffer("num_batches_tracked", torch.tensor(0) if track_running_stats else None)
        # The inverse root of the running covariance: a buffer, so that compiled and exported programs have no solver.
        self.register_buffer("whitening", None if identities is None else identities.clone(), persistent=False)
        self._whitened: tuple[int, int] | None = None  # address and version of the covariance that it belongs to

    def forward(self, x: Tensor) -> Tensor:
        """The whitened maps.

        Raises:
            ShapeError: not (B, C, H, W), or a single sample for the statistics of a batch.
            NonFiniteError: inf or NaN in x, in eager mode on the CPU.
        """
        if x.ndim != 4 or x.shape[1] != self.channels:
            raise ShapeError(f"(B, {self.channels}, H, W) is needed, got shape {tuple(x.shape)}.")
        dtype = compute_dtype(x, self.precision, "float32")
        if not self.training and self.running_mean is not None:
            return self._evaluate(x, dtype)
        if self.processes.group is None and x.numel() <= self.channels:
            raise ShapeError(f"the statistics of a batch need two samples or more, got shape {tuple(x.shape)}.")
        with outside_autocast(x):
            out, mean, P, count = Whiten.apply(
                x, self.weight, self.bias, self.groups, self.eps, self.root, dtype, self.processes.group
            )
        if self.training:
            self._follow(mean, P, count)
        return out

    @torch.no_grad()
    def refresh(self) -> None:
        """Bring `whitening` up to date with the running covariance; `eval()` and loading a state do it too."""
        if self.running_covariance is not None and self.whitening is not None:
            S, _ = self.root.forward(self.running_covariance.double(), self.eps)
            self.whitening.copy_(S)
            self._whitened = _version(self.running_covariance)

    def train(self, mode: bool = True) -> "Whitening2d":
        """As of any module; evaluation takes the inverse root of the running covariance."""
        super().train(mode)
        if not mode:
            self.refresh()
        return self

    def extra_repr(self) -> str:
        backward = f", rule={self.rule}" if self.solver == "eig" else ""
        options = "".join(f", {name}={value}" for name, value in self.options.items())
        return (
            f"{self.channels}, groups={self.groups}, eps={self.eps}, momentum={self.momentum}, "
            f"affine={self.weight is not None}, track_running_stats={self.running_mean is not None}, "
            f"solver={self.solver}{backward}{options}"
        )

    def _evaluate(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        assert self.running_mean is not None and self.running_covariance is not None and self.whitening is not None
        if not torch.compiler.is_compiling():
            version = _version(self.running_covariance)
            if version is None or version != self._whitened:
                self.refresh()
        with outside_autocast(x):
            A = by_row(self.whitening.to(dtype), self.weight)
            shift = shift_of(A, self.running_mean, self.bias)
            return functional.conv2d(x.to(dtype), A.reshape(self.channels, -1, 1, 1), shift, groups=self.groups).to(x)

    @torch.no_grad()
    def _follow(self, mean: Tensor, P: Tensor, count: Tensor) -> None:
        """Move the running statistics, as batch norm does: the covariance without bias."""
        if self.running_mean is None or self.running_covariance is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        rate = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        unbiased = P * (count / (count - 1).clamp(min=1))
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), rate)
        self.running_covariance.lerp_(unbiased.to(self.running_covariance.dtype), rate)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        """Also takes the state of a batch norm, whose variances become a diagonal covariance."""
        variance = state_dict.pop(f"{prefix}running_var", None)
        if variance is not None and self.running_covariance is not None:
            state_dict[f"{prefix}running_covariance"] = self._diagonal(variance)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)  # type: ignore[misc]
        self.refresh()

    def _diagonal(self, variance: Tensor) -> Tensor:
        return torch.diag_embed(variance.view(self.groups, -1))


class WhiteningAct2d(Whitening2d):
    """With the dropout and the activation of timm's `BatchNormAct2d`."""

    drop: nn.Module
    act: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """The activation of the whitened maps."""
        return self.act(self.drop(super().forward(x)))


def inverse_root(solver: str, rule: str, options: dict[str, Any]) -> InverseRoot:
    """The inverse root of a solver, or of `eig` with a rule. Raises OptionError or UnknownNameError."""
    if solver not in SOLVERS:
        raise UnknownNameError("solver with an inverse root", solver, SOLVERS)
    if solver == "eig":
        return EigenInverseRoot(create_rule(rule, **options))
    if rule != "exact":
        raise OptionError(f"solver {solver!r} brings its own backward; rule={rule!r} needs solver='eig'.")
    iteration = create_solver(solver, **options)
    assert isinstance(iteration, Iteration)
    return IteratedInverseRoot(iteration)


def fewest_groups(channels: int, group_size: int) -> int:
    """The least number of equal groups with at most `group_size` channels each."""
    return next(
        groups for groups in range(1, channels + 1) if channels % groups == 0 and channels // groups <= group_size
    )


def replace_batch_norm(model: M, layers: str | Collection[str] = "first", **options: Any) -> M | Whitening2d:
    """Put a `Whitening2d` in the place of batch norms; the model itself is returned, changed.

    A layer keeps weight and bias (the same parameters), running mean, momentum, eps and mode. Its running variances
    become a diagonal covariance, so that the outputs in evaluation stay what they were until the next training step.

    Args:
        model: with `nn.BatchNorm2d` layers, those of timm with their activation included.
        layers: `first`, as the published comparisons do; `all`; or the names of modules.
        **options: of `Whitening2d`, above all group_size, solver and rule.

    Raises:
        OptionError: the model has no batch norm; UnknownNameError: a name that is none of its batch norms.

    Examples:
        >>> from gcp import layers
        >>> from torchvision.models import resnet18
        >>> model = layers.replace_batch_norm(resnet18(), "first")
        >>> type(model.bn1).__name__, type(model.layer1[0].bn1).__name__
        ('Whitening2d', 'BatchNorm2d')
    """
    found = {
        name: module
        for name, module in model.named_modules(remove_duplicate=False)
        if isinstance(module, nn.BatchNorm2d)
    }
    if not found:
        raise OptionError(f"{type(model).__name__} has no nn.BatchNorm2d that a Whitening2d could replace.")
    names = [layers] if isinstance(layers, str) else list(layers)
    if names == ["first"]:
        names = [next(iter(found))]
    elif names == ["all"]:
        names = list(found)
    for name in names:
        if name not in found:
            raise UnknownNameError("batch norm", name, [*PLACES, *found])
    chosen = {found[name] for name in names}
    made = {norm: _like(norm, **options) for norm in found.values() if norm in chosen}
    for name, norm in found.items():  # a layer that stands in two places is replaced in both
        if norm in chosen and not name:
            return made[norm]
        if norm in chosen:
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, made[norm])
    return model


def _like(norm: nn.BatchNorm2d, **options: Any) -> Whitening2d:
    """A whitening with the parameters, the statistics and the mode of a batch norm."""
    kept = {"eps": norm.eps, "momentum": norm.momentum, "affine": norm.affine}
    kept["track_running_stats"] = norm.track_running_stats
    extras = {name: getattr(norm, name) for name in ("drop", "act") if hasattr(norm, name)}
    made = (WhiteningAct2d if extras else Whitening2d)(norm.num_features, **(kept | options))
    tensors = [*norm.parameters(), *norm.buffers()]
    made = made.to(tensors[0].device) if tensors else made
    made = made.to(tensors[0].dtype) if tensors and tensors[0].is_floating_point() else made
    if made.weight is not None:
        made.weight, made.bias = norm.weight, norm.bias
    for name, module in extras.items():
        setattr(made, name, module)
    if made.running_mean is not None and norm.running_mean is not None and norm.running_var is not None:
        with torch.no_grad():
            made.running_mean.copy_(norm.running_mean)
            made.running_covariance.copy_(made._diagonal(norm.running_var))  # type: ignore[union-attr]
            made.num_batches_tracked.copy_(norm.num_batches_tracked)  # type: ignore[union-attr,arg-type]
    return made.train(norm.training)


def _version(source: Tensor) -> tuple[int, int] | None:
    """What changes when a tensor is written to; None where torch does not count that."""
    return None if source.is_inference() else (source.data_ptr(), source._version)
