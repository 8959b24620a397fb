"""Stored widths build the model again."""

import json

import pytest
import torch

import gcp
from gcp.compress import factorise
from gcp.errors import OptionError, UnknownNameError
from gcp.evolve import grow, resize, shrink, widths
from gcp.models import load_classifier
from gcp.models.classifier import exchange_head


def test_a_network_is_built_again(network, images, make, request):
    wide = {name: width + 3 if width % 3 == 0 else width - 1 for name, width in widths(network, images).items()}
    for name, width in wide.items():
        (grow if width > widths(network, images)[name] else shrink)(network, name, width, images=images, example=images)
    assert widths(network, images) == wide
    again = make(request.node.callspec.params["network"])
    resize(again, json.loads(json.dumps(wide)), images)
    again.load_state_dict(network.state_dict())
    with torch.no_grad():
        assert torch.equal(again(images), network(images))


@pytest.mark.parametrize("dim", [6, None])
def test_a_classifier_is_built_again_by_its_arguments(make, images, dim, tmp_path):
    model = make("svd_pade", dim=dim)
    assert model.arguments["widths"] == {}
    last = "features.body.layer3.0.conv2"
    shrink(model, {last: 20, "features.body.conv1": 11}, images=images)
    grow(model, "head.reduction" if dim else last, 22)
    assert model.arguments["widths"] == widths(model)
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    again = gcp.create_model(**json.loads(json.dumps(model.arguments)))
    load_classifier(again, tmp_path / "weights.pt")
    with torch.no_grad():
        assert torch.equal(again.eval()(images), model(images))
    assert again.features.channels == again.head.in_channels == (20 if dim else 22)
    assert again.arguments == model.arguments


def test_another_head_keeps_the_widths(make, images):
    model = make("svd_pade")
    shrink(model, "head.reduction", 4, images)
    exchange_head(model, "svd_taylor")
    assert model.head.channels == 4
    assert gcp.create_model(**model.arguments).head.out_features == 10


def test_compressed_after_it_has_evolved(make, images):
    model = make("covariance")
    shrink(model, "features.body.layer2.0.conv1", 20, images)
    factors = ["features.body.layer2.0.conv1=5"]
    factorise(model, factors)
    grow(model, "head.reduction", 8)  # of the factored layer there is nothing to say any more, nor to forget
    again = gcp.create_model(**{**model.arguments, "factors": factors}).eval()
    again.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(again(images), model(images))


def test_nothing_is_drawn_without_widths():
    torch.manual_seed(0)
    first = gcp.create_model("resnet8_cifar", head="covariance", dim=4, num_classes=3)
    torch.manual_seed(0)
    second = gcp.create_model("resnet8_cifar", head="covariance", dim=4, num_classes=3, widths={})
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_faults():
    def build(**given):
        return gcp.create_model("resnet8_cifar", head="covariance", dim=4, num_classes=3, widths=given)

    with pytest.raises(UnknownNameError, match=r"'head\.reductions'.*Did you mean 'head\.reduction'"):
        build(**{"head.reductions": 5})
    with pytest.raises(OptionError, match=r"'head\.reduction' .*\b0; allowed: .*>= 1\b"):
        build(**{"head.reduction": 0})
    with pytest.raises(OptionError, match=r"'classifier' .*cannot be edited.*output"):
        build(classifier=4)
