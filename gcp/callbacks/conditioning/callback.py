r"""The step of the layer before the covariance: nearest-orthogonal gradient and optimal learning rate.

Both act inside `optimizer.step()`, as hooks around it ("Improving Covariance Conditioning of the SVD Meta-layer by
Orthogonality", ECCV 2022):

    G <- U V^T of G = U diag(s) V^T                        nog, before the update, on the flattened gradient
    W <- W + (eta / lr) (W' - W)                           olr, after the update that made W' of W

What they see is therefore the gradient of the whole window, averaged over the processes, without the loss scale and
clipped; a step that the loss scale leaves out is left out here too. The norm that is clipped is that of the raw
gradient: U V^T has the norm sqrt(rank) whatever G is, and would use up the bound of all other parts. Momentum and
adaptive moments collect U V^T; weight decay is the optimizer's.

`paper` takes the gradient for its direction, as published: in SGD, with or without momentum, it is a learning rate of
this layer. `exact` takes the direction in which the optimizer went, momentum and weight decay included, so that what
it promises holds for the weights themselves.

Nothing is kept from step to step, so there is nothing to save.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from gcp.callbacks.base import RunCallback, RunContext
from gcp.config import Config
from gcp.engine.distributed import ALONE, Group
from gcp.engine.state import TrainingState
from gcp.errors import OptionError
from gcp.heads.reduction import trained_weight
from gcp.layers.learning_rate import exact_rate, paper_rate, unorthogonality
from gcp.layers.orthonormal import polar_factor


class ConditionedStep:
    """Hooks of an optimizer for one weight.

    Args:
        optimizer: whose steps are changed after `attach`.
        weight: () -> the weight, asked at every step.
        nog: take the nearest orthogonal matrix for its gradient.
        olr: `paper`, `exact` or None for the optimizer's own learning rate.
        group: the processes of the run; all take the result of rank 0.

    Raises:
        OptionError: an optimizer that calls no hooks.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        weight: Callable[[], nn.Parameter],
        nog: bool = False,
        olr: str | None = None,
        group: Group = ALONE,
    ):
        if not getattr(type(optimizer).step, "hooked", False):
            name = type(optimizer).__name__
            raise OptionError(f"optimizer {name} wraps another one and calls no hooks, which nog and olr need")
        weight()  # a fault now rather than at the first step
        self.optimizer, self.weight, self.nog, self.olr, self.group = optimizer, weight, nog, olr, group
        self._before: Tensor | None = None
        self._share: float | None = None

    def attach(self) -> None:
        """Change every step of the optimizer from now on."""
        self.optimizer.register_step_pre_hook(self._prepare)
        self.optimizer.register_step_post_hook(self._correct)

    @torch.no_grad()
    def _prepare(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """Before the update."""
        weight = self.weight()
        gradient = weight.grad
        if gradient is None:
            return
        if self.nog:
            gradient.copy_(polar_factor(gradient.flatten(1)).view_as(gradient))
            self.group.broadcast_tensors([gradient])
        if self.olr:
            self._before = weight.detach().clone()
        if self.olr == "paper":
            lr = _rate_of(optimizer, weight)
            self._share = paper_rate(weight, gradient, lr) / lr if lr > 0 else 1.0

    @torch.no_grad()
    def _correct(self, *_: Any) -> None:
        """After the update."""
        before, share = self._before, self._share
        self._before = self._share = None
        if before is None:
            return
        weight = self.weight().detach()
        if share is None:
            share = exact_rate(before, before.double() - weight.double(), 1.0)
        if share < 1:
            weight.copy_(torch.lerp(before, weight, share))
            if self.olr == "exact" and share > 0 and unorthogonality(weight) > unorthogonality(before):
                weight.copy_(before)  # the gain was less than rounding
        self.group.broadcast_tensors([weight])


def _rate_of(optimizer: torch.optim.Optimizer, weight: nn.Parameter) -> float:
    """The present learning rate of the parameter."""
    return next(float(group["lr"]) for group in optimizer.param_groups if any(p is weight for p in group["params"]))


class ConditionReduction(RunCallback):
    """The step of the reduction's convolution."""

    name = "conditioning"

    def __init__(self, config: Config):
        super().__init__(config)
        optim: Any = config.optim
        self.nog, self.olr = optim.nog, optim.olr

    def setup(self, run: RunContext) -> None:
        self.group = run.group
        self._conditioned(run.state)  # a fault now rather than at the first step

    def describe(self) -> list[str]:
        parts = ["nearest-orthogonal gradient"] if self.nog else []
        parts += [f"optimal learning rate ({self.olr})"] if self.olr else []
        return [f"reduction  {', '.join(parts)}"]

    def start(self, state: TrainingState) -> None:
        self._conditioned(state).attach()

    def _conditioned(self, state: TrainingState) -> ConditionedStep:
        return ConditionedStep(state.optimizer, lambda: _weight(state), self.nog, self.olr, self.group)


def _weight(state: TrainingState) -> nn.Parameter:
    model: Any = state.model
    return trained_weight(model.head.reduction)
