"""Every head under copying, saving, functional calls, a double backward and the compiler."""

import copy
import pickle

import pytest
import torch
from torch.func import functional_call

from gcp.heads import create_head, nonfinite


@pytest.mark.parametrize(
    "copier", [copy.deepcopy, lambda head: pickle.loads(pickle.dumps(head))], ids=["deepcopy", "pickle"]
)
@pytest.mark.parametrize("dim", [None, 4])
def test_copies(any_head, features, output_and_gradient, copier, dim):
    head = any_head(5, dim=dim).double().eval()
    x = features(2, 5, 3, 3)
    for got, expected in zip(output_and_gradient(copier(head), x), output_and_gradient(head, x), strict=True):
        assert torch.equal(got, expected)


def test_state_dict_round_trip(any_head, features):
    head, other = any_head(5, dim=4).eval(), any_head(5, dim=4).eval()
    x = features(2, 5, 3, 3, dtype=torch.float32)
    state = head.state_dict()
    assert not any("nonfinite" in key for key in state)
    other.load_state_dict(state)
    assert torch.equal(other(x), head(x))


def test_sketches_are_saved_with_the_model(features):
    head, other = create_head("compact_bilinear", 5, seed=1), create_head("compact_bilinear", 5, seed=2)
    x = features(2, 5, 3, 3)
    assert not torch.equal(other(x), head(x))
    other.load_state_dict(head.state_dict())
    assert torch.equal(other(x), head(x))


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_without_gradients(any_head, features, context):
    head, x = any_head(5), features(2, 5, 3, 3)
    with context():
        out = head(x)
    assert torch.equal(out, head(x)) and not out.requires_grad


def test_functional_call(any_head, features, relative):
    head = any_head(5, dim=4).double().eval()
    x = features(2, 5, 3, 3)
    parameters = {name: 1.1 * value.detach() for name, value in head.named_parameters()}
    leaves = {name: value.requires_grad_() for name, value in parameters.items()}
    out = functional_call(head, leaves, (x,))
    # one that only training uses has no gradient
    gradients = torch.autograd.grad(out.sum(), tuple(leaves.values()), allow_unused=True)
    expected = copy.deepcopy(head)
    expected.load_state_dict(parameters, strict=False)
    assert torch.equal(out, expected(x))
    expected(x).sum().backward()
    for got, parameter in zip(gradients, expected.parameters(), strict=True):
        assert (got is None and parameter.grad is None) or torch.equal(got, parameter.grad)


LOSSES = {
    "linear": lambda out: out.sum(),
    "quadratic": lambda out: out.square().sum(),
}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("side", ["channel", "sample"])
def test_double_backward_raises(centred_head, features, loss, side):
    """Also where another path to x would otherwise hide that the head's part is missing."""
    head = centred_head(4, side=side) if centred_head.takes("side") else centred_head(4)
    x = features(2, 4, 3, 3).requires_grad_()
    (gradient,) = torch.autograd.grad(LOSSES[loss](head(x)), x, create_graph=True)
    with pytest.raises(RuntimeError, match="double backward"):
        torch.autograd.grad(gradient.sum() + x.square().sum(), x, retain_graph=True)
    with pytest.raises(RuntimeError, match="double backward"):
        (gradient.square().sum() + x.square().sum()).backward()


def test_double_backward_of_the_published_form_raises(published_head, features):
    x = features(2, 4, 3, 3).requires_grad_()
    (gradient,) = torch.autograd.grad(published_head(4, form="published")(x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="double backward"):
        (gradient.sum() + x.sum()).backward()


def compiled(head):
    torch._dynamo.reset()
    return torch.compile(head, fullgraph=True, backend="aot_eager", dynamic=False)


def check_compiled(head, x, output_and_gradient, relative):
    out, gradient = output_and_gradient(head, x)
    got, got_gradient = output_and_gradient(compiled(head), x)
    assert got.dtype == out.dtype
    assert relative(got, out) < 1e-10
    if gradient.any():
        assert relative(got_gradient, gradient) < 1e-9
    else:
        assert not got_gradient.any()


def test_compile(any_head, features, output_and_gradient, relative):
    """One graph, no break: the smaller side."""
    check_compiled(any_head(6), features(2, 6, 2, 2), output_and_gradient, relative)


@pytest.mark.parametrize("name", ["svd_pade", "svd_newton", "newton_schulz", "polar_express", "mpa_lyapunov", "seb"])
def test_compile_on_the_channel_side(name, features, output_and_gradient, relative):
    """One head for each way through the code: a compilation takes a second."""
    check_compiled(create_head(name, 3, side="channel"), features(2, 3, 3, 3), output_and_gradient, relative)


@pytest.mark.parametrize("name", ["svd_pade", "polar_express"])
def test_compiled_heads_take_a_smaller_last_batch(name, features, relative):
    head = create_head(name, 3)
    torch._dynamo.reset()
    step = torch.compile(head, fullgraph=True, backend="aot_eager")
    for batch in (4, 3, 1):
        x = features(batch, 3, 2, 3)
        leaf, plain = x.clone().requires_grad_(), x.clone().requires_grad_()
        step(leaf).sum().backward()
        head(plain).sum().backward()
        assert relative(leaf.grad, plain.grad) < 1e-9


@pytest.mark.filterwarnings("ignore:the published form of 'power_iteration'")
@pytest.mark.parametrize("name", ["svd_pade", "svd_newton", "svd_pi"])
def test_compile_the_published_form(name, features, output_and_gradient, relative):
    check_compiled(create_head(name, 3, form="published"), features(2, 3, 3, 3), output_and_gradient, relative)


def test_compile_in_float32_with_a_reduction(features, output_and_gradient, relative):
    head = create_head("polar_express", 5, dim=3).eval()
    x = features(2, 5, 3, 3, dtype=torch.float32)
    out, gradient = output_and_gradient(head, x)
    got, got_gradient = output_and_gradient(compiled(head), x)
    assert relative(got, out) < 1e-5 and relative(got_gradient, gradient) < 1e-4


def test_compiled_decomposition_refuses_non_finite_features(features):
    """LAPACK raises before anybody could read the flag: the step stops either way."""
    step = compiled(create_head("svd_pade", 4))
    x = features(2, 4, 3, 3)
    x[0, 1, 0, 0] = float("inf")
    with pytest.raises(torch.linalg.LinAlgError):
        step(x)


@pytest.mark.parametrize("name", ["average", "newton_schulz", "polar_express"])
def test_compiled_heads_set_the_flag(name, features):
    """The flag is read by the trainer a step later, stays until cleared, and is not part of the state."""
    head = create_head(name, 4)
    step = compiled(head)
    x = features(2, 4, 3, 3)
    step(x)
    assert not nonfinite(head)[""]
    bad = x.clone()
    bad[0, 1, 0, 0] = float("inf")
    step(bad)
    step(x)
    flags = nonfinite(torch.nn.ModuleDict({"head": head}))
    assert list(flags) == ["head"] and flags["head"].shape == () and bool(flags["head"])
    flags["head"].zero_()
    step(x)
    assert not nonfinite(head)[""]
