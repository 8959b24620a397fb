"""The layers that read a dimension, fitted anew to what they gave before some of its channels went.

Of one layer: X (n, c) what it reads now, W (m, c) its weight as it is now, Y (n, m) what it gave before. Ridge
regression of the residual finds the smallest change that helps:

    min_D |X D^T - R|^2 + t |D|^2,    R = Y - X W^T - b

where nothing is lost D = 0. t is chosen by generalised cross-validation (Golub, Heath, Wahba 1979), which punishes
fits to fewer positions than there are weights. A constant is fitted too where a bias takes it up, or the running mean
of the batch norm behind. Layers are fitted in the order of their calls, each to what the ones before it give by then.
"""

from collections.abc import Callable

from torch import Tensor, nn

from gcp.compress.basis import eigh
from gcp.evolve.calls import LayerCall, watch
from gcp.evolve.channel_graph.dimension import Dimension
from gcp.evolve.parametrized import is_bounded, settle_norm

RIDGES = tuple(10.0**power for power in range(-12, 5, 2))  # of the largest eigenvalue of X^T X
NULL = 1e-14


def ridge(X: Tensor, R: Tensor, centred: bool = False) -> Tensor:
    """D (m, c) for X (n, c), R (n, m), float64. `centred`: their means were taken off, which leaves n - 1 free rows."""
    tall = len(X) >= X.shape[1]
    values, vectors = eigh(X.mT @ X if tall else X @ X.mT)
    values = values.clamp(min=0)
    some = values > NULL * values[-1]
    values, vectors = values[some], vectors[:, some]
    if not len(values):
        return X.new_zeros(R.shape[1], X.shape[1])
    U = X @ vectors / values.sqrt() if tall else vectors
    z = U.mT @ R
    rest = (R.square().sum() - z.square().sum()).clamp(min=0)
    energy = z.square().sum(1)

    def score(t: float) -> float:
        damped = t * values[-1] / (values + t * values[-1])
        free = max(0, len(X) - centred - len(values)) + damped.sum()
        return float((rest + (damped.square() * energy).sum()) / free.square())

    t = min(RIDGES, key=score) * values[-1]
    if tall:
        return ((vectors * (values.sqrt() / (values + t))) @ z).mT
    return (X.mT @ (vectors / (values + t)) @ z).mT


def targets(model: nn.Module, images: Tensor, weights: list[str]) -> dict[str, Tensor]:
    """What the layers with these weights give, (n, m) each; without those that are called more than once."""
    found: dict[str, list[Tensor]] = {}

    def visit(call: LayerCall, compute: Callable[[], Tensor]) -> Tensor:
        out = compute()
        found.setdefault(call.name, []).append(call.outputs(out))
        return out

    watch(model, images, weights, visit)
    return {name: rows[0] for name, rows in found.items() if len(rows) == 1}


def refit(model: nn.Module, images: Tensor, dimension: Dimension, wanted: dict[str, Tensor]) -> None:
    """Fit the layers that read `dimension` so that they give what they gave before, in place."""
    norms = dimension.graph.norms

    def visit(call: LayerCall, compute: Callable[[], Tensor]) -> Tensor:
        Y, X = wanted[call.name], call.inputs()
        mean = model.get_buffer(norms[call.name]) if call.name in norms else None
        R = Y - call.outputs(compute())
        free = call.bias is not None or mean is not None
        centre = X.mean(0) if free else X.new_zeros(X.shape[1])
        D = ridge(X - centre, R - R.mean(0) if free else R, free)
        before = call.weight.clone()
        call.weight += D.reshape(call.weight.shape).to(call.weight)
        if is_bounded(call.weight):
            settle_norm(call.weight)
            D = (call.weight - before).to(D).reshape(D.shape)
        constant = R.mean(0) - D @ centre
        if call.bias is not None:
            call.bias += constant.to(call.bias)
        elif mean is not None:
            mean -= constant.to(mean)  # what the layer no longer gives, the norm no longer takes off
        return compute()

    watch(model, images, list(wanted), visit)
