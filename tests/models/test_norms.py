"""Spectral norms and the orthogonal reduction as parts of a model: built again, loaded, exchanged, exported."""

import pytest
import torch
from torch import nn

import gcp
from gcp.errors import OptionError
from gcp.models.classifier import exchange_head
from gcp.models.program import write_program
from gcp.models.weights import load_classifier


def made(**options):
    torch.manual_seed(0)
    return gcp.create_model("resnet8_cifar", "newton_schulz", 5, dim=4, in_chans=1, hidden=[6], **options).eval()


VARIANTS = {
    "bound": {"classifier_norm": "bound", "spectral_norm": "bound"},
    "power": {"classifier_norm": "power", "spectral_norm": "power"},
    "orthogonal": {"reduction": "orthogonal", "classifier_norm": "exact"},
}


def images():
    return torch.randn(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_the_layers_of_a_model_have_norm_one_and_its_arguments_build_it_again(options):
    model = made(**options)
    weights = [m.weight for m in model.classifier.modules() if isinstance(m, nn.Linear)]
    weights.append(model.head.reduction.conv.weight)
    assert len(weights) == 3
    assert all(0.97 < float(torch.linalg.svdvals(w.detach().flatten(1))[0]) < 1.03 for w in weights)
    again = gcp.create_model(**model.arguments).eval()
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(images()), model(images()))
    exchange_head(model, "svd_exact")
    again = gcp.create_model(**model.arguments).eval()
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(images()), model(images()))


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_exported_as_plain_weights(options, tmp_path):
    model = made(**options)
    before = list(model.state_dict())
    assert write_program(model, images(), tmp_path / "model.ts", {}) < 1e-6
    assert list(model.state_dict()) == before


def test_a_plain_file_is_the_weight_that_is_divided(tmp_path, caplog):
    plain, path = made(), tmp_path / "plain.pt"
    torch.save(plain.state_dict(), path)
    model = made(**VARIANTS["bound"])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    load_classifier(model, path)
    loaded = model.classifier[0].parametrizations.weight.original
    assert torch.equal(loaded, plain.classifier[0].weight)
    assert torch.equal(model.head.reduction.conv.parametrizations.weight.original, plain.head.reduction.conv.weight)
    assert "new: " not in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classifier_norm": "bond"}, "'bond'; allowed: power, exact, bound"),
        ({"spectral_norm": "bond"}, "'bond'; allowed: power, exact, bound"),
        ({"spectral_norm": "bound", "reduction": "orthogonal"}, "needs a reduction by a plain convolution"),
        ({"spectral_norm": "bound", "dim": None}, "needs a reduction by a plain convolution"),
    ],
)
def test_faults(options, message):
    with pytest.raises(OptionError, match=message):
        gcp.create_model("resnet8_cifar", "newton_schulz", 5, in_chans=1, **{"dim": 4, **options})
