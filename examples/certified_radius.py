"""How far may an image move before its class can change? A proof for each image, from the spectral norms of the layers.

    python examples/certified_radius.py [--steps 600] [--plot FILE]

Layers whose spectral norm is at most 1, with ReLU between them, make logits that move no farther than the image does:
|f(x + e) - f(x)| <= L |e| with L = 1. Two logits differ by a margin m; their difference moves by sqrt(2) L |e| at most,
so the class of x is certain within the radius m / (sqrt(2) L) (Tsuzuku, Sato and Sugiyama, NeurIPS 2018).

That is a proof only if the norm is at most 1. Power iteration estimates it from below: torch's
`parametrizations.spectral_norm` divides by less than the norm while the weight changes. The same network is trained
with both on the digits of scikit-learn; after each step the true norms are found by a singular value decomposition in
float64, and what is proved at the end uses the product of these.
"""

import argparse
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm as torch_spectral_norm

from gcp.layers import spectral_norm

METHODS: dict[str, Callable[[nn.Linear], nn.Module]] = {
    "exact": lambda layer: spectral_norm(layer, "exact"),
    "power iteration (torch)": torch_spectral_norm,
}
SIZES = (64, 128, 128, 10)
TRAIN = 1297  # of 1797 digits; the others are the test
ALLOWED = 1 + 1e-5  # of a norm of 1 in float32
RADII = torch.linspace(0, 1, 41)
SCALE = 10.0  # of the logits in the loss, not in the margins: norms of 1 make small logits


def digits() -> tuple[Tensor, Tensor]:
    """Images (N, 64) with pixels in [0, 1], and classes (N,), in a random order."""
    found = load_digits()
    order = torch.randperm(len(found.data), generator=torch.Generator().manual_seed(0))
    return torch.tensor(found.data / 16, dtype=torch.float32)[order], torch.tensor(found.target)[order]


def network(normed: Callable[[nn.Linear], nn.Module]) -> nn.Sequential:
    """A perceptron of layers whose norm is to be 1."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(SIZES):
        layers += [normed(nn.Linear(inputs, outputs)), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


@torch.no_grad()
def true_bound(model: nn.Sequential) -> tuple[float, float]:
    """The product of the true norms of the layers, which bounds the network, and the greatest of them.

    The weights are those of evaluation, in which power iteration makes no step.
    """
    mode = model.training
    model.eval()
    norms = [torch.linalg.matrix_norm(layer.weight.double(), 2) for layer in model if isinstance(layer, nn.Linear)]
    model.train(mode)
    return float(torch.stack(norms).prod()), float(max(norms))


def train(normed: Callable[[nn.Linear], nn.Module], steps: int, lr: float = 0.1, seed: int = 0) -> dict[str, Any]:
    """Train, watch the true norms, certify the test images.

    Returns:
        `above`, the share of steps after which a layer's true norm was above 1, `greatest` norm of a layer over the
        steps, the `model`, its `bound` L, `accuracy`, and the certified accuracy at RADII: `claimed` with L = 1
        and `true` with the bound.
    """
    torch.manual_seed(seed)
    images, classes = digits()
    model = network(normed)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    greatest = []
    for _ in range(steps):
        batch = torch.randint(TRAIN, (64,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(SCALE * model(images[batch]), classes[batch]).backward()
        optimizer.step()
        greatest.append(true_bound(model)[1])
    model.eval()
    with torch.no_grad():
        margins = margins_of(model(images[TRAIN:]), classes[TRAIN:])
    bound = true_bound(model)[0]
    return {
        "above": sum(norm > ALLOWED for norm in greatest) / steps,
        "greatest": max(greatest),
        "model": model,
        "bound": bound,
        "accuracy": float((margins > 0).double().mean()),
        "claimed": certified(margins, 1.0),
        "true": certified(margins, bound),
    }


def margins_of(logits: Tensor, classes: Tensor) -> Tensor:
    """The logit of the right class minus the largest of the others (N,): negative where the image is wrong."""
    right = logits.gather(1, classes[:, None])[:, 0]
    return right - logits.scatter(1, classes[:, None], -torch.inf).amax(1)


def certified(margins: Tensor, bound: float) -> Tensor:
    """The share of images that are right and stay so within each of RADII."""
    return (margins[:, None] / (2**0.5 * bound) > RADII).double().mean(0)


def draw(found: dict[str, dict[str, Any]], path: str) -> None:
    """Certified accuracy over the radius; dashed what would be claimed with L = 1."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 3.2), layout="constrained")
    axes = figure.add_subplot()
    for number, (name, result) in enumerate(found.items()):
        axes.plot(RADII, 100 * result["true"], color=f"C{number}", label=f"{name}: proved, L = {result['bound']:.3g}")
        if result["bound"] > ALLOWED:
            axes.plot(RADII, 100 * result["claimed"], color=f"C{number}", ls="--", label=f"{name}: claimed with L = 1")
    axes.set(xlabel="radius (Euclidean, pixels in [0, 1])", ylabel="certified test accuracy, %", ylim=(0, 100))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=150)


def main(words: list[str] | None = None) -> None:
    """Train with each method and print what holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=600, help="of training (600)")
    parser.add_argument("--lr", type=float, default=0.1, help="learning rate (0.1)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and batches (0)")
    parser.add_argument("--plot", help="file for the curves")
    given = parser.parse_args(words)
    found = {}
    for name, normed in METHODS.items():
        found[name] = result = train(normed, given.steps, given.lr, given.seed)
        places = {radius: int((RADII - radius).abs().argmin()) for radius in (0.25, 0.5)}
        shares = ", ".join(f"{100 * result['true'][place]:.1f} % at {radius}" for radius, place in places.items())
        above, greatest, bound = 100 * result["above"], result["greatest"], result["bound"]
        print(
            f"{name}: a norm above 1 after {above:.0f} % of the steps, greatest {greatest:.4f}; at the end "
            f"L <= {bound:.4f}, accuracy {100 * result['accuracy']:.1f} %, certified {shares}"
        )
    if given.plot:
        draw(found, given.plot)


if __name__ == "__main__":
    main()
