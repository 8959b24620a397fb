"""Glow is one bijection: its density, its inverse, its start, its samples."""

import math

import pytest
import torch

from gcp.errors import DataError, OptionError, ShapeError
from gcp.flow import Gaussian, Glow, bits_per_dimension

FORMS = ("plain", "plu", "svd")


def trained(form="svd", shape=(1, 4, 4), dtype=torch.float64, **options):
    """A small flow away from its start."""
    torch.manual_seed(0)
    flow = Glow(shape, **{"levels": 2, "steps": 2, "width": 8} | options, form=form).to(dtype).eval()
    flow.initialise(torch.randn(16, *shape, dtype=dtype))
    for parameter in flow.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return flow


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("coupling", ["affine", "additive"])
def test_density_is_that_of_the_jacobian(form, coupling):
    flow = trained(form, coupling=coupling)
    x = torch.randn(2, 1, 4, 4, dtype=torch.float64)

    def flat(values):
        return torch.cat([e.flatten() for e in flow.encode(values.view(1, 1, 4, 4))[0]])

    for image, found in zip(x, flow.log_prob(x), strict=True):
        J = torch.autograd.functional.jacobian(flat, image.flatten())
        normal = torch.distributions.Normal(0.0, 1.0).log_prob(flat(image)).sum()
        assert abs(normal + torch.linalg.slogdet(J)[1] - found) < 1e-6


def test_density_integrates_to_one():
    """By importance sampling of images of 2x2 pixels from a wider normal distribution."""
    flow = trained(shape=(1, 2, 2), levels=1)
    wide = torch.distributions.Normal(flow.sample(4000).mean((0, 1, 2, 3)), 2 * flow.sample(4000).std())
    x = wide.sample((40_000, 1, 2, 2))
    weights = (flow.log_prob(x) - wide.log_prob(x).flatten(1).sum(1)).exp()
    assert abs(weights.mean() - 1) < 4 * weights.std() / math.sqrt(len(x)) < 0.1


@pytest.mark.parametrize("form", FORMS)
def test_inverse(form):
    flow = trained(form, (3, 8, 8), torch.float32, steps=4)
    x = torch.rand(4, 3, 8, 8) - 0.5
    with torch.no_grad():
        latents, _ = flow.encode(x)
        assert [tuple(e.shape[1:]) for e in latents] == flow.latent_shapes
        assert (flow.inverse(latents) - x).abs().max() < 1e-5


@pytest.mark.parametrize("form", FORMS)
def test_only_the_networks_are_autocast(form):
    flow = trained(form, (3, 8, 8), torch.float32)
    x = torch.rand(4, 3, 8, 8) - 0.5
    with torch.autocast("cpu", dtype=torch.bfloat16):
        latents, log_det = flow.encode(x)
        again = flow.inverse(latents)
        density = flow(x)
    assert {tensor.dtype for tensor in (*latents, log_det, again, density)} == {torch.float32}
    assert (again - x).abs().max() < 1e-5  # a coupling computes the same rounded motion both ways
    exact = flow(x)
    assert 0 < (density - exact).abs().max() < 0.01 * exact.abs().max()
    assert flow.determinant_error() < 1e-6


def test_compiles_to_one_graph():
    flow = trained(shape=(1, 4, 4), dtype=torch.float32, levels=1, steps=1).train()
    x = torch.rand(2, 1, 4, 4) - 0.5
    torch.compiler.reset()
    step = torch.compile(flow, fullgraph=True, backend="eager", dynamic=False)
    torch.testing.assert_close(step(x), flow(x))
    parameters = list(flow.parameters())
    wanted = torch.autograd.grad(flow(x).sum(), parameters)
    torch.testing.assert_close(torch.autograd.grad(step(x).sum(), parameters), wanted, rtol=1e-3, atol=1e-4)


def test_forms_of_one_seed_begin_as_one_function():
    x = torch.randn(3, 1, 4, 4)
    densities = []
    for form in FORMS:
        torch.manual_seed(5)
        densities.append(Glow((1, 4, 4), 2, 2, 8, form)(x))
    for other in densities[1:]:
        torch.testing.assert_close(other, densities[0], rtol=1e-4, atol=1e-4)


def test_initialise_sets_what_is_not_set_and_nothing_else():
    flow = Glow((1, 4, 4), 2, 2, 8).double()
    assert not flow.initialised
    x = 3 + 2 * torch.randn(64, 1, 4, 4, dtype=torch.float64)
    flow.initialise(x)
    assert flow.initialised
    state = {key: value.clone() for key, value in flow.state_dict().items()}
    flow.initialise(100 * x)
    assert all(torch.equal(value, state[key]) for key, value in flow.state_dict().items())
    assert not any(module._forward_pre_hooks for module in flow.modules())
    latents, _ = flow.encode(x)
    assert all(e.mean().abs() < 0.2 and 0.7 < e.std() < 1.3 for e in latents)


def test_samples_are_those_of_their_generator():
    flow = trained()
    first, again, other = (flow.sample(2, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    cold = flow.sample(2, temperature=0.0)
    assert torch.equal(cold[0], cold[1])


def test_no_image_at_all():
    assert trained().log_prob(torch.zeros(0, 1, 4, 4, dtype=torch.float64)).shape == (0,)


def test_refusals():
    with pytest.raises(OptionError, match="3 levels halve the sides 3 times, images of 4 x 4"):
        Glow((1, 4, 4), levels=3)
    with pytest.raises(OptionError, match="steps is 0"):
        Glow((1, 4, 4), steps=0)
    with pytest.raises(ShapeError, match=r"\(B, 1, 4, 4\).*\(2, 1, 8, 8\)"):
        trained().log_prob(torch.zeros(2, 1, 8, 8))
    with pytest.raises(ShapeError, match="latents of shapes"):
        trained().inverse([torch.zeros(1, 4)])


def test_bits_per_dimension():
    """A uniform density over an interval of length 1 says nothing: log2 of the levels."""
    assert bits_per_dimension(torch.zeros(1), 64, 16).item() == 4
    # one level in 16, spread over its own width: no doubt is left
    assert bits_per_dimension(torch.tensor([10 * math.log(16)]), 10, 16).item() == pytest.approx(0)


class TestGaussian:
    def test_is_the_normal_distribution_of_the_images(self):
        torch.manual_seed(0)
        x = (torch.randn(200, 6, dtype=torch.float64) @ torch.randn(6, 6, dtype=torch.float64) + 4).view(-1, 1, 2, 3)
        found = Gaussian(x.split(64))(x)
        flat = x.flatten(1)
        oracle = torch.distributions.MultivariateNormal(flat.mean(0), torch.cov(flat.mT, correction=0))
        torch.testing.assert_close(found, oracle.log_prob(flat))

    def test_refusals(self):
        with pytest.raises(DataError, match="4 images are too few"):
            Gaussian([torch.randn(4, 1, 2, 2)])
        with pytest.raises(DataError, match="0 images"):
            Gaussian([])
        with pytest.raises(DataError, match="singular"):
            Gaussian([torch.ones(9, 1, 2, 2)])
