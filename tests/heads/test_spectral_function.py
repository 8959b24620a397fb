"""Power and logarithm of the covariance as heads."""

import pytest
import torch

import gcp
from gcp.errors import OptionError
from gcp.heads import check_options, create_head


def normal(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "function", "options"),
    [
        ("log_euclidean", "log", {"ridge": 1e-3}),
        ("log_euclidean", "log", {"ridge": 0.1, "rule": "taylor", "degree": 7}),
        ("power", "power", {"exponent": 0.3, "ridge": 0.0}),
        ("power", "power", {"exponent": -0.5, "ridge": 0.2}),
    ],
)
@pytest.mark.parametrize("shape", [(2, 4, 3, 3), (2, 6, 2, 2)])
def test_is_the_triangle_of_the_function(name, function, options, shape):
    x, rows = normal(*shape), torch.triu_indices(shape[1], shape[1])
    F = gcp.covariance_function(x, function, **options)
    assert torch.equal(create_head(name, shape[1], **options)(x), F[:, rows[0], rows[1]])


@pytest.mark.parametrize("name", ["power", "log_euclidean"])
@pytest.mark.parametrize("kind", ["twins", "dead", "constant"])
@pytest.mark.parametrize("side", ["channel", "sample"])
def test_gradcheck_where_the_rank_drops(name, kind, side):
    x = normal(2, 4, 3, 2)
    if kind == "twins":
        x[:, 3] = x[:, 0]
    elif kind == "dead":
        x[:, 1] = 0
    else:
        x = x[..., :1, :1].expand(-1, -1, 3, 2).clone()
    head = create_head(name, 4, side=side, **({"ridge": 0.1} if name == "log_euclidean" else {}))
    assert torch.autograd.gradcheck(head, x.requires_grad_(), eps=1e-4, atol=2e-5, rtol=1e-4)


def test_power_of_a_half_is_the_root():
    x = normal(2, 4, 3, 3)
    torch.testing.assert_close(create_head("power", 4)(x), create_head("svd_exact", 4)(x), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("log_euclidean", {"ridge": 0}, "option ridge of 'log_euclidean' is 0"),
        ("power", {"exponent": -1}, r"'power' .*eigenvalue 0\b.*ridge above 0\b"),
        ("power", {"exponent": 0}, "option exponent of 'power' is 0"),
        ("power", {"rule": "newton"}, r"'newton' .*iteration.*sqrt.*'power'"),
        ("power", {"form": "published"}, "head 'power' has no 'form'"),
    ],
)
def test_faults(name, options, message):
    with pytest.raises(OptionError, match=message):
        check_options(name, **options)
