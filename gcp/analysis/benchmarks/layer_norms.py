"""Ways to keep the spectral norm of a layer, and how far it gets away in hard training."""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm as torch_spectral_norm

from gcp.layers import SVDLinear, spectral_norm

STEPS = 200
FAR = 100.0  # of the targets, in standard deviations: the gradient is large and learning rate 1 too much
BATCH = 32
WIDTH = 0.9  # of the box: singular values within 0.1 and 1.9


def _linear(d: int) -> nn.Linear:
    return nn.Linear(d, d, bias=False)


OURS = "gcp"
# name -> layer (d, d) and the norm that it promises
NORMED: dict[str, Callable[[int], tuple[nn.Module, float]]] = {
    OURS: lambda d: (spectral_norm(_linear(d), "bound"), 1.0),
    "exact": lambda d: (spectral_norm(_linear(d), "exact"), 1.0),
    "power_1": lambda d: (spectral_norm(_linear(d), "power", 1), 1.0),
    "power_5": lambda d: (spectral_norm(_linear(d), "power", 5), 1.0),
    "torch_power_1": lambda d: (torch_spectral_norm(_linear(d)), 1.0),
    "svd_box": lambda d: (SVDLinear(d, d, bias=False, spectrum="box", width=WIDTH), 1 + WIDTH),
    "dense": lambda d: (_linear(d), 1.0),
}


def hardest(name: str, d: int, seed: int = 0) -> dict[str, float]:
    """True norms of the weight in evaluation over what was promised, in float64, of SGD at learning rate 1.

    Returns:
        `greatest` over the steps (the first twenty, then every tenth) and `last`; NaN where the weight is not finite.
    """
    torch.manual_seed(seed)
    layer, promised = NORMED[name](d)
    x, target = torch.randn(BATCH, d), FAR * torch.randn(BATCH, d)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    norms = []
    for step in range(STEPS):
        optimizer.zero_grad()
        functional.mse_loss(layer(x), target).backward()
        optimizer.step()
        if step < 20 or step % 10 == 9:
            norms.append(_norm(layer.eval()) / promised)
            layer.train()
    return {"greatest": max(norms), "last": norms[-1]}


@torch.no_grad()
def _norm(layer: nn.Module) -> float:
    W: torch.Tensor = layer.weight.double()  # type: ignore[operator,union-attr,assignment]
    return float(torch.linalg.svdvals(W)[0]) if W.isfinite().all() else float("nan")
