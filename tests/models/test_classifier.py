"""The assembly: features, head, classifier, and the arguments that build them again."""

import copy

import pytest
import torch
from torch import nn

from gcp.errors import OptionError, UnknownNameError
from gcp.models import create_model


def small(**options):
    options = {"head": "average", "num_classes": 5} | options
    return create_model("resnet8_cifar", **options)


@pytest.mark.parametrize("head", ["average", "svd_pade", "newton_schulz"])
def test_forward_and_backward(head):
    model = small(head=head, dim=8)
    images = torch.randn(4, 3, 16, 16)
    logits = model(images)
    assert logits.shape == (4, 5) and logits.dtype == torch.float32
    assert torch.equal(model.classifier(model.head(model.features(images))), logits)
    logits.square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


def test_one_linear_layer_by_default():
    model = small(head="svd_pade", dim=8)
    assert isinstance(model.classifier, nn.Linear)
    assert model.classifier.in_features == model.head.out_features == 36
    assert {key.split(".")[0] for key in model.state_dict()} == {"features", "head", "classifier"}


@pytest.mark.parametrize(
    ("backbone", "linear", "dropout"),
    [
        ("alexnet_bn", [0, 2, 4], []),
        ("alexnet", [0, 2, 4], []),
        ("torchvision/alexnet", [0, 2, 4], []),
        ("vgg11", [0, 3, 6], [2, 5]),
        ("torchvision/vgg11_bn", [0, 3, 6], [2, 5]),
    ],
)
def test_published_classifiers(backbone, linear, dropout):
    with torch.device("meta"):
        model = create_model(backbone, "average", num_classes=7)
    layers = model.classifier
    assert [i for i, m in enumerate(layers) if isinstance(m, nn.Linear)] == linear
    assert [i for i, m in enumerate(layers) if isinstance(m, nn.Dropout)] == dropout
    assert [layers[i].out_features for i in linear] == [4096, 4096, 7]
    assert all(layers[i].p == 0.5 for i in dropout)


def test_hidden_and_dropout():
    assert [m.out_features for m in small(hidden=(12, 6)).classifier if isinstance(m, nn.Linear)] == [
        12,
        6,
        5,
    ]
    with torch.device("meta"):
        assert isinstance(create_model("vgg11", "average", hidden=()).classifier, nn.Linear)
    model = small(dropout=0.5)
    assert isinstance(model.classifier, nn.Linear) and model.dropout.p == 0.5
    assert [type(m) for m in small(hidden=[6], dropout=0.1).classifier][2] is nn.Dropout


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_classifier_sees_its_own_dtype(dtype):
    model = small(head="svd_pade", dim=8).to(dtype).eval()
    assert model(torch.randn(2, 3, 16, 16, dtype=dtype)).dtype == dtype


def test_autocast():
    model = small(head="svd_pade", dim=8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(torch.randn(2, 3, 16, 16))
    assert logits.shape == (2, 5) and torch.isfinite(logits).all()


def test_arguments_build_the_same_model_again():
    model = create_model("resnet8_cifar", "svd_taylor", 5, dim=8, last_stride=1, hidden=(6,), degree=50)
    assert model.arguments["head"] == "svd_taylor" and model.arguments["degree"] == 50
    again = create_model(**model.arguments)
    again.load_state_dict(model.state_dict())
    images = torch.randn(2, 3, 16, 16)
    assert torch.equal(again.eval()(images), model.eval()(images))


def test_deepcopy_is_independent():
    model = small()
    twin = copy.deepcopy(model)
    nn.init.zeros_(twin.classifier.weight)
    assert model.classifier.weight.abs().sum() > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 0}, r"num_classes .*positive .*\b0\b"),
        ({"hidden": [64, -1]}, r"hidden .*\(64, -1\)"),
        ({"hidden": "4096"}, "hidden must be a list of layer widths"),
        ({"dropout": 1.0}, r"dropout .*\b0 .*\b1\b.*1\.0\b"),
        ({"dim": 0}, "dim"),
        ({"head": "svd_taylor", "degre": 3}, "degree"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(OptionError, match=message):
        small(**options)


def test_unknown_head_is_found_before_the_backbone_is_built(monkeypatch):
    def never(*args):
        raise AssertionError("built")

    monkeypatch.setattr("gcp.models.classifier.create_backbone", never)
    with pytest.raises(UnknownNameError, match="svd_pade"):
        small(head="svd_pad")
