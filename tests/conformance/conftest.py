"""Cases drawn from the registry of heads: a head that registers is tested by every file of this folder."""

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

import gcp
from gcp.heads import HEADS, Head, create_head

# few buckets, factors and projections, for speed; the default is in test_gradcheck.py
SMALL = {
    "compact_bilinear": {"sketch": 3},
    "low_rank_bilinear": {"factors": 3},
    "cross_covariance": {"heads": 2, "width": 2},
}
VARIANTS = [
    ("mpa_lyapunov", {"backward": "iterations"}),
    ("mtp_lyapunov", {"backward": "iterations"}),
    ("second_moment", {"solver": "newton_schulz"}),
    ("second_moment", {"solver": "polar_express"}),
    ("second_moment", {"solver": "halley"}),
    ("halley", {"iterations": 5}),
    ("max_singular", {"values": 2, "iterations": 2}),
    ("second_moment", {"solver": "mpa", "backward": "iterations"}),
    ("gaussian", {"rule": "pade", "mean_scale": 0.5}),
    ("gaussian", {"solver": "polar_express"}),
]
# gradients that are approximations on purpose; every other head must pass gradcheck
APPROXIMATE = {"svd_taylor", "svd_pi", "svd_newton", "svd_topn", "mpa_lyapunov", "mtp_lyapunov"}

FUNCTIONS = {"power", "log_euclidean"}  # of the covariance, other than its root
UNCENTRED = {"second_moment", "gaussian"}  # roots that keep the mean, exact unless a rule is given

OWN_SCALE = {"seb", "svd_trunc", *FUNCTIONS}  # output or gradient depend on the scale of the features


RANDOM = {"drop_cov"}  # while it trains; that is tested in tests/heads


@dataclass(frozen=True)
class Case:
    """A head with its options; call it to build."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)

    def __call__(self, in_channels: int, **arguments: Any) -> Head:
        head = create_head(self.name, in_channels, **(self.options | arguments))
        return head.eval() if self.name in RANDOM else head

    def takes(self, argument: str) -> bool:
        return argument in HEADS[self.name].obj.takes

    @property
    def decomposes(self) -> bool:
        """Whether it takes its root by an eigendecomposition."""
        return self.name in ("seb", *FUNCTIONS) or (self.takes("form") and self.options.get("solver", "eig") == "eig")

    @property
    def has_published_form(self) -> bool:
        """Whether its rule has one; the rule of a head with a choice is exact unless given."""
        rule = "exact" if self.name in ("svd_exact", *UNCENTRED) else self.name
        return self.takes("form") and self.options.get("rule", rule) != "exact"

    def __str__(self) -> str:
        return "-".join([self.name, *(f"{value}" for value in self.options.values())])


ALL = [Case(str(name), SMALL.get(str(name), {})) for name in gcp.list_heads()]
VARIED = [*ALL, *(Case(name, options) for name, options in VARIANTS if name in HEADS)]
CASES = {
    "any_head": ALL,
    "root_head": [case for case in VARIED if case.takes("side")],
    "covariance_root": [
        case for case in VARIED if case.takes("side") and case.name not in (*UNCENTRED, "log_euclidean")
    ],
    "homogeneous_root": [case for case in VARIED if case.takes("side") and case.name not in OWN_SCALE],
    "own_scale_root": [case for case in VARIED if case.name in OWN_SCALE],
    "centred_head": [case for case in VARIED if case.takes("side") or case.name == "covariance"],
    "eigen_head": [case for case in ALL if case.takes("form")],
    "published_head": [case for case in ALL if case.has_published_form],
    "exact_head": [case for case in VARIED if case.name not in APPROXIMATE or case.options.get("backward")],
}


def pytest_generate_tests(metafunc):
    for argument, cases in CASES.items():
        if argument in metafunc.fixturenames:
            metafunc.parametrize(argument, cases, ids=str)


def _features(*shape, seed=0, dtype=torch.float64, mean=0.0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(*shape, generator=generator, dtype=torch.float64) + mean).to(dtype)


def _output_and_gradient(head, x, seed=1):
    """The output, and the gradient of <out, g> for a fixed random g."""
    x = x.detach().clone().requires_grad_()
    out = head(x)
    g = torch.randn(out.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return out.detach(), torch.autograd.grad(out, x, g.to(out.dtype))[0]


def _relative(got, expected):
    got, expected = got.double(), expected.double()
    return float((got - expected).norm() / expected.norm())


@pytest.fixture
def features():
    """features(B, C, H, W, seed=, dtype=, mean=): normal samples."""
    return _features


@pytest.fixture
def output_and_gradient():
    """Output of a head and the gradient of a fixed linear function of it."""
    return _output_and_gradient


@pytest.fixture
def relative():
    """Relative difference in the Frobenius norm."""
    return _relative
