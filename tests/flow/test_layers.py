"""The layers of a flow: each undoes itself, and its log-determinant is that of its Jacobian."""

import pytest
import torch

from gcp.errors import NonFiniteError, OptionError, UnknownNameError
from gcp.flow import ActNorm, Coupling, FlowStep, Prior, Split, squeeze, unsqueeze

SHAPE = (4, 2, 2)

LAYERS = {
    "actnorm": lambda: ActNorm(4),
    "affine": lambda: Coupling(4, 8),
    "additive": lambda: Coupling(4, 8, "additive"),
    "odd": lambda: Coupling(5, 8),
    "prior": lambda: Prior(SHAPE),
    "step": lambda: FlowStep(4, 8, "plu"),
}


def disturbed(layer):
    """The layer in float64, away from its start."""
    layer = layer.double().eval()
    for parameter in layer.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return layer


def images(channels=4, count=3):
    return torch.randn(count, channels, 2, 2, dtype=torch.float64)


@pytest.mark.parametrize("name", LAYERS)
def test_inverse_and_log_determinant(name):
    torch.manual_seed(0)
    layer, x = disturbed(LAYERS[name]()), images(5 if name == "odd" else 4)
    y, log_det = layer(x)
    torch.testing.assert_close(layer.inverse(y), x, rtol=1e-10, atol=1e-10)
    for sample, found in zip(x, log_det, strict=True):
        J = torch.autograd.functional.jacobian(
            lambda flat: layer(flat.view(1, -1, 2, 2))[0].flatten(), sample.flatten()
        )
        assert abs(torch.linalg.slogdet(J)[1] - found) < 1e-9


@pytest.mark.parametrize("form", ["plain", "plu", "svd"])
def test_a_step_of_48_channels(form):
    """Away from its start: the inverse in float32, the log-determinant in float64."""
    torch.manual_seed(0)
    step = FlowStep(48, 64, form).eval()
    for parameter in step.parameters():
        parameter.data += 0.03 * torch.randn_like(parameter)
    x = torch.randn(4, 48, 8, 8)
    with torch.no_grad():
        y, _ = step(x)
        assert (y - x).abs().max() > 1 and (step.inverse(y) - x).abs().max() <= 1e-5
    sample = x[:1, :, :2, :2].double()
    _, log_det = step.double()(sample)
    J = torch.autograd.functional.jacobian(lambda flat: step(flat.view_as(sample))[0].flatten(), sample.flatten())
    assert log_det.abs() > 0.1 and abs(torch.linalg.slogdet(J)[1] - log_det) < 1e-6


def test_split():
    torch.manual_seed(0)
    layer, x = disturbed(Split(5)), images(5)
    stays, e, log_det = layer(x)
    assert stays.shape[1] == 2 and e.shape[1] == 3
    torch.testing.assert_close(layer.inverse(stays, e), x, rtol=1e-10, atol=1e-10)

    def flat(values):
        stays, e, _ = layer(values.view(1, 5, 2, 2))
        return torch.cat([stays.flatten(), e.flatten()])

    J = torch.autograd.functional.jacobian(flat, x[0].flatten())
    assert abs(torch.linalg.slogdet(J)[1] - log_det[0]) < 1e-9


def test_squeeze_moves_blocks_of_pixels_into_channels():
    x = torch.arange(2 * 3 * 4 * 6.0).view(2, 3, 4, 6)
    y = squeeze(x)
    assert y.shape == (2, 12, 2, 3) and torch.equal(unsqueeze(y), x)
    assert torch.equal(y, torch.nn.functional.pixel_unshuffle(x, 2))
    assert set(y[0, :4, 0, 0].tolist()) == set(x[0, 0, :2, :2].flatten().tolist())


def test_couplings_and_splits_begin_as_the_identity():
    x = images()
    for layer in (Coupling(4, 8).double(), Coupling(4, 8, "additive").double()):
        y, log_det = layer(x)
        assert torch.equal(y, x) and not log_det.any()
    _, e, _ = Split(4).double()(x)
    assert torch.equal(e, x[:, 2:])


def test_a_coupling_cannot_scale_without_bound():
    layer = Coupling(4, 8).double()
    layer.network[-1].bias.data += 1e6
    _, log_det = layer(images())
    assert log_det.max() <= 2 * 2 * 4 + 1e-9  # 2 channels of 2x2 positions, at most exp(2) each


def test_actnorm_takes_the_statistics_of_the_first_batch():
    x = images(count=50) * torch.tensor([1.0, 5, 0.1, 3]).view(1, 4, 1, 1) + 7
    layer = ActNorm(4).double()
    assert torch.equal(layer(x)[0], x) and not layer.initialised
    layer.initialise(x)
    y, _ = layer(x)
    torch.testing.assert_close(y.mean((0, 2, 3)), torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(y.std((0, 2, 3), correction=0), torch.ones(4, dtype=torch.float64))
    again = ActNorm(4).double()
    again.load_state_dict(layer.state_dict())
    assert again.initialised and torch.equal(again(x)[0], y)


def test_actnorm_leaves_a_constant_channel_finite():
    layer = ActNorm(2)
    layer.initialise(torch.ones(3, 2, 4, 4))
    assert torch.equal(layer(torch.ones(1, 2, 4, 4))[0], torch.zeros(1, 2, 4, 4))
    with pytest.raises(NonFiniteError, match="inf or NaN"):
        ActNorm(2).initialise(torch.full((3, 2, 4, 4), torch.inf))


def test_refusals():
    with pytest.raises(UnknownNameError, match=r"coupling 'afine'.*'affine'"):
        Coupling(4, 8, "afine")
    with pytest.raises(OptionError, match="at least two channels, got 1"):
        Coupling(1, 8)
