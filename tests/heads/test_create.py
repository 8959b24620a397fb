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
    ["degree", "iterations", "threshold", "keep", "drop", "lower", "steps", "products", "backward"]
)
RULE = {"rule": "exact"} | dict.fromkeys(["degree", "iterations", "threshold", "keep", "drop"])
OPTIONS = {
    "power": RULE | {"exponent": 0.5, "ridge": 0.0},
    "log_euclidean": RULE | {"ridge": 1e-3},
    "gem": {"p": 3.0, "learn_p": True},
    "second_moment": ROOT,
    "gaussian": ROOT | {"mean_scale": 1.0, "mean_unit": "map", "learn_mean_scale": False},
    "svd_taylor": {"degree": 100},
    "svd_pi": {"iterations": 19},
    "svd_newton": {"iterations": 10},
    "svd_trunc": {"threshold": 1e10},
    "svd_topn": {"keep": 206 / 256, "drop": None},
    "newton_schulz": {"iterations": 5, "products": "full"},
    "polar_express": {"lower": 5e-3, "steps": 6, "products": "full"},
    "halley": {"iterations": 9},
    "mpa_lyapunov": {"backward": "lyapunov"},
    "mtp_lyapunov": {"backward": "lyapunov"},
    "max_singular": {"exponent": 0.5, "values": 1, "iterations": 1},
    "isice": {"sparsity": 0.01, "rate": 1.0, "iterations": 5},
    "low_rank_bilinear": {"factors": 512, "seed": 0},
    "compact_bilinear": {"sketch": 8192, "seed": 0},
    "cross_covariance": {"heads": 6, "width": 24, "normalise": "max_singular", "seed": 0},
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
        with pytest.raises(UnknownNameError, match=f"'{given}'.*Did you mean '{nearest}'.*average, "):
            call()


@pytest.mark.parametrize("given", [None, 3, ["svd_pade"]])
def test_a_name_that_is_no_text(given):
    with pytest.raises(UnknownNameError, match="unknown head"):
        create_head(given, 4)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("svd_taylor", {"degre": 3}, r"'svd_taylor' .*'degre'.*Did you mean 'degree'"),
        ("svd_pade", {"degree": 3}, r"'svd_pade' .*'degree'.*no options"),
        ("newton_schulz", {"iteration": 3}, r"iterations, products.*Did you mean 'iterations'"),
        ("polar_express", {"default_precision": "float16"}, "has no option 'default_precision'"),
        ("svd_taylor", {"degree": -1}, r"degree .*'svd_taylor' .*-1; allowed: .*>= 0\b"),
        ("svd_taylor", {"degree": "many"}, "option degree of 'svd_taylor' is 'many'"),
        ("svd_topn", {"keep": 1.5}, r"\b1\.5; allowed: .*\b0, 1\.0\b.*count"),
        ("polar_express", {"lower": 2}, r"lower .*'polar_express' .*\b2; allowed: .*\b0 .*\b1\b"),
        ("mpa_lyapunov", {"backward": "autograd"}, "allowed: one of lyapunov, iterations"),
        ("compact_bilinear", {"sketch": 0}, "option sketch of 'compact_bilinear' is 0"),
        ("compact_bilinear", {"seed": -1}, "option seed of 'compact_bilinear' is -1"),
        ("compact_bilinear", {"seed": 2**64}, r"seed .*allowed: .*>= 0 .*<= 9223372036854775807\b"),
        ("compact_bilinear", {"sketch": 10**11}, r"sketch .*allowed: .*>= 1 .*<= 1048576\b"),
        ("polar_express", {"steps": 10_000_000}, r"steps .*allowed: .*>= 1 .*<= 20\b"),
        ("newton_schulz", {"iterations": 10**400}, r"iterations .*allowed: .*>= 1 .*<= 100\b"),
        ("svd_newton", {"iterations": 101}, r"iterations .*allowed: .*>= 1 .*<= 100\b"),
        ("svd_taylor", {"degree": 10**6}, r"degree .*allowed: .*>= 0 .*<= 10000\b"),
        ("svd_pi", {"iterations": 10**6}, r"iterations .*allowed: .*>= 1 .*<= 10000\b"),
        ("svd_pade", {"side": "chanel"}, r"side .*'chanel'; allowed: auto, channel, sample\b.*Did you mean 'channel'"),
        ("svd_pade", {"form": "publish"}, r"form .*'publish'; allowed: folded, published\b.*Did you mean 'published'"),
        ("svd_pade", {"precision": "float46"}, r"precision .*'float46'; allowed: float32, float64, .*null"),
        ("svd_pade", {"reduction": "con"}, r"reduction .*'con'; allowed: conv.* Did you mean 'conv'"),
        ("svd_pade", {"dim": 0}, "dim is 0; allowed: a whole number >= 1"),
        ("svd_pade", {"dim": 2.5}, "dim is 2.5; allowed: a whole number >= 1"),
        ("svd_pade", {"dim": True}, r"dim .*True; allowed: .*>= 1\b"),
        ("svd_pade", {"form": "published", "side": "sample"}, "form='published' works on the channel side"),
        ("svd_exact", {"form": "published"}, "rule 'exact' has no published form"),
        ("average", {"side": "channel"}, r"'average' .*'side' .*'channel'.* none "),
        ("average", {"precision": "float64"}, "head 'average' has no 'precision'"),
        ("covariance", {"side": "sample"}, r"'covariance' .*'side' .*'sample'.* precision"),
        ("newton_schulz", {"form": "published"}, r"'newton_schulz' .*'form'.* side, precision"),
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
