"""Names and options of heads: each fault is one message that says what to type."""

import pytest
import torch

import gcp
from gcp.errors import GCPError, OptionError, UnknownNameError
from gcp.gradients import RULES
from gcp.heads import check_options, create_head, head_options
from gcp.registry import Registry

HEADS = [str(name) for name in gcp.list_heads()]
ROOT = {"rule": "exact", "solver": "eig"} | dict.fromkeys(
    ["degree", "iterations", "threshold", "keep", "lower", "steps", "products", "backward"]
)
RULE = {"rule": "exact"} | dict.fromkeys(["degree", "iterations", "threshold", "keep"])
OPTIONS = {
    "power": RULE | {"exponent": 0.5, "ridge": 0.0},
    "log_euclidean": RULE | {"ridge": 1e-3},
    "gem": {"p": 3.0, "learn_p": True},
    "second_moment": ROOT,
    "gaussian": ROOT | {"mean_scale": 1.0},
    "svd_taylor": {"degree": 100},
    "svd_pi": {"iterations": 19},
    "svd_newton": {"iterations": 10},
    "svd_trunc": {"threshold": 1e10},
    "svd_topn": {"keep": 206 / 256},
    "newton_schulz": {"iterations": 5, "products": "full"},
    "polar_express": {"lower": 5e-3, "steps": 6, "products": "full"},
    "mpa_lyapunov": {"backward": "lyapunov"},
    "mtp_lyapunov": {"backward": "lyapunov"},
    "compact_bilinear": {"sketch": 8192, "seed": 0},
}


@pytest.mark.parametrize("name", HEADS)
def test_options_and_their_defaults(name):
    assert head_options(name) == OPTIONS.get(name, {})
    check_options(name, **OPTIONS.get(name, {}))


@pytest.mark.parametrize("name", HEADS)
def test_defaults_may_be_spelled_out(name):
    """A configuration file names every key."""
    head = create_head(
        name, 4, dim=None, side="auto", form="folded", precision=None, reduction="conv", **head_options(name)
    )
    assert head.out_features == create_head(name, 4).out_features


def test_every_rule_has_a_head():
    rules = {entry.obj.options for entry in gcp.list_heads() if entry.startswith("svd_")}
    assert rules == {entry.obj for entry in RULES.list()}


@pytest.mark.parametrize(
    ("given", "nearest"),
    [
        ("svd_pad", "svd_pade"),
        ("newton_shulz", "newton_schulz"),
        ("SVD_EXACT", "svd_exact"),
        ("polarexpress", "polar_express"),
    ],
)
def test_unknown_head(given, nearest):
    for call in (lambda: create_head(given, 4), lambda: check_options(given), lambda: head_options(given)):
        with pytest.raises(
            UnknownNameError, match=f"unknown head '{given}'. Did you mean '{nearest}'. Known: average, "
        ):
            call()


@pytest.mark.parametrize("given", [None, 3, ["svd_pade"]])
def test_a_name_that_is_no_text(given):
    with pytest.raises(UnknownNameError, match="unknown head"):
        create_head(given, 4)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("svd_taylor", {"degre": 3}, "'svd_taylor' has no option 'degre': it takes degree. Did you mean 'degree'"),
        ("svd_pade", {"degree": 3}, "'svd_pade' has no option 'degree': it takes no options"),
        ("newton_schulz", {"iteration": 3}, "it takes iterations, products. Did you mean 'iterations'"),
        ("polar_express", {"default_precision": "float16"}, "has no option 'default_precision'"),
        ("svd_taylor", {"degree": -1}, "option degree of 'svd_taylor' is -1; allowed: a whole number >= 0"),
        ("svd_taylor", {"degree": "many"}, "option degree of 'svd_taylor' is 'many'"),
        ("svd_topn", {"keep": 1.5}, "is 1.5; allowed: a fraction in .0, 1.0., or a count"),
        ("polar_express", {"lower": 2}, "option lower of 'polar_express' is 2; allowed: a number between 0 and 1"),
        ("mpa_lyapunov", {"backward": "autograd"}, "allowed: one of lyapunov, iterations"),
        ("compact_bilinear", {"sketch": 0}, "option sketch of 'compact_bilinear' is 0"),
        ("compact_bilinear", {"seed": -1}, "option seed of 'compact_bilinear' is -1"),
        ("compact_bilinear", {"seed": 2**64}, "option seed .* allowed: a whole number >= 0 and <= 9223372036854775807"),
        ("compact_bilinear", {"sketch": 10**11}, "option sketch .* allowed: a whole number >= 1 and <= 1048576"),
        ("polar_express", {"steps": 10_000_000}, "option steps .* allowed: a whole number >= 1 and <= 20"),
        ("newton_schulz", {"iterations": 10**400}, "option iterations .* allowed: a whole number >= 1 and <= 100"),
        ("svd_newton", {"iterations": 101}, "option iterations .* allowed: a whole number >= 1 and <= 100"),
        ("svd_taylor", {"degree": 10**6}, "option degree .* allowed: a whole number >= 0 and <= 10000"),
        ("svd_pi", {"iterations": 10**6}, "option iterations .* allowed: a whole number >= 1 and <= 10000"),
        ("svd_pade", {"side": "chanel"}, "side is 'chanel'; allowed: auto, channel, sample. Did you mean 'channel'"),
        ("svd_pade", {"form": "publish"}, "form is 'publish'; allowed: folded, published. Did you mean 'published'"),
        ("svd_pade", {"precision": "float46"}, "precision is 'float46'; allowed: float32, float64, or null"),
        ("svd_pade", {"reduction": "con"}, "reduction is 'con'; allowed: conv.* Did you mean 'conv'"),
        ("svd_pade", {"dim": 0}, "dim is 0; allowed: a whole number >= 1"),
        ("svd_pade", {"dim": 2.5}, "dim is 2.5; allowed: a whole number >= 1"),
        ("svd_pade", {"dim": True}, "dim is True; allowed: a whole number >= 1"),
        ("svd_pade", {"form": "published", "side": "sample"}, "form='published' works on the channel side"),
        ("svd_exact", {"form": "published"}, "rule 'exact' has no published form"),
        ("average", {"side": "channel"}, "head 'average' has no 'side' .given: 'channel'.; it takes none of"),
        ("average", {"precision": "float64"}, "head 'average' has no 'precision'"),
        ("covariance", {"side": "sample"}, "head 'covariance' has no 'side' .given: 'sample'.; it takes precision"),
        ("newton_schulz", {"form": "published"}, "head 'newton_schulz' has no 'form'.*it takes side, precision"),
        ("seb", {"form": "published"}, "head 'seb' has no 'form'"),
    ],
)
def test_faults(name, arguments, message):
    for call in (lambda: check_options(name, **arguments), lambda: create_head(name, 4, **arguments)):
        with pytest.raises(OptionError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("channels", [0, -3, 2.0, None])
def test_bad_channels(channels):
    with pytest.raises(OptionError, match=r"in_channels is .*; allowed: a whole number >= 1"):
        create_head("svd_pade", channels)


def test_checking_builds_nothing_of_size():
    """`check_options` must not allocate: a fault of a configuration is found before anything is built."""
    state = torch.random.get_rng_state()
    check_options("svd_pade", dim=4096)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_registry_refuses_a_second_owner_of_a_name():
    registry = Registry("thing")
    registry.add("one", 1, summary="first")
    with pytest.raises(ValueError, match="thing 'one' is registered already"):
        registry.add("one", 2, summary="second")
    entry = registry["one"]
    assert (entry, entry.obj, entry.summary, entry.paper) == ("one", 1, "first", "")
    with pytest.raises(AttributeError, match="entry 'one' is frozen"):
        entry.obj = 3
    with pytest.raises(GCPError, match=r"unknown thing 'on'. Did you mean 'one'"):
        registry["on"]
