"""Factors as plain text: models rebuilt from names and ranks."""

import pytest
import torch
from torch import nn

import gcp
from gcp.compress import decompose, dense_shapes, factorise, factors_of, merge, parse_factors
from gcp.errors import GCPError


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(6, 12, 3), nn.Flatten(), nn.Linear(48, 20, bias=False))


def test_rebuilt_from_text():
    small, again, factors = model(), model(), ["0=4x5", "2=4"]
    factorise(small, factors, keep=True)
    factorise(again, factors)
    assert factors_of(again) == factors_of(small) == factors
    again.load_state_dict(small.state_dict())
    x = torch.randn(2, 6, 4, 4)
    assert torch.equal(again(x), small(x))


def test_kept_values_are_those_of_svd():
    dense = model()
    expected, _ = decompose(dense, rank=3, include=["2"])
    factorise(dense, ["2=3"], keep=True)
    torch.testing.assert_close(dense[2].weight, expected[2].weight)


def test_merged_is_as_wide_as_before():
    dense, small = model(), model()
    factorise(small, ["0=4x5", "2=4"], keep=True)
    merged = merge(small)
    assert [type(module) for module in merged] == [type(module) for module in dense]
    x = torch.randn(2, 6, 4, 4)
    torch.testing.assert_close(merged(x), small(x))
    assert factors_of(small) and not factors_of(merged)


def test_shapes_before():
    dense, small = model(), model()
    factorise(small, ["0=4x5", "2=4"])
    shapes = dense_shapes(small.state_dict(), factors_of(small))
    assert {k: v.shape for k, v in shapes.items()} == {k: v.shape for k, v in dense.state_dict().items()}


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        (["2"], r"'2'; allowed: NAME=RANK .*classifier=200"),
        (["2=0"], "factor '2=0'; allowed"),
        ("2=3", "factors must be a list such as"),
        ([3], "factor 3; allowed"),
        (["2=3", "2=4"], "factors name '2' twice"),
        (["3=3"], r"unknown layer to factor '3'"),
        (["2=99"], r"factor 2: .*20x48 .*\b20, .*\b99\b"),
        (["2=3x3"], r"factor 2: .*20x48 .*\b20, .*\b3x3\b"),
        (["0=7x3"], r"factor 0: .*12x6x3x3 .*\b12 or 6x12, .*\b7x3\b"),
    ],
)
def test_mistakes(factors, message):
    with pytest.raises(GCPError, match=message):
        factorise(model(), factors)


def test_parsed():
    assert parse_factors(["a.b=3", "c=4x5"]) == {"a.b": (3,), "c": (4, 5)}


def test_a_classifier_with_factors():
    arguments = {"head": "svd_pade", "num_classes": 10, "dim": 8}
    factors = ["classifier=4", "features.body.layer1.0.conv1=5x6"]
    small = gcp.create_model("resnet8_cifar", factors=factors, **arguments)
    assert sorted(small.arguments["factors"]) == sorted(factors_of(small)) == sorted(factors)
    assert small(torch.randn(2, 3, 32, 32)).shape == (2, 10)
    assert gcp.create_model("resnet8_cifar", **arguments).arguments["factors"] == []
    with pytest.raises(GCPError, match="Did you mean 'classifier'"):
        gcp.create_model("resnet8_cifar", factors=["clasifier=4"], **arguments)
