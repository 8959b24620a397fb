"""Whitening as a part of a model: which layers, built again, loaded from batch norms, edited, exported."""

import pytest
import torch
from torch import nn

import gcp
from gcp.errors import OptionError, UnknownNameError
from gcp.evolve import trace
from gcp.layers import Whitening2d
from gcp.models.classifier import exchange_head
from gcp.models.program import write_program
from gcp.models.weights import load_classifier

FIRST = {"name": "whitening", "layers": "first", "group_size": 8}


def made(norm=None, **options):
    torch.manual_seed(0)
    return gcp.create_model("resnet8_cifar", "svd_pade", 5, dim=4, in_chans=1, norm=norm, **options).eval()


def images(count=4):
    return torch.randn(count, 1, 16, 16, generator=torch.Generator().manual_seed(0))


def trained(model, steps=3):
    model.train()
    for _ in range(steps):
        model(images()).square().mean().backward()
    return model.eval()


def whitened(model):
    return [name for name, module in model.named_modules() if isinstance(module, Whitening2d)]


@pytest.mark.parametrize(
    ("layers", "count", "first"),
    [
        ("first", 1, "features.body.bn1"),
        ("all", 9, "features.body.bn1"),
        (["features.layer2.0.bn1", "head.reduction.1"], 2, "features.body.layer2.0.bn1"),
        (["features.body.layer1.0.bn2"], 1, "features.body.layer1.0.bn2"),
    ],
)
def test_which_layers(layers, count, first):
    found = whitened(made(FIRST | {"layers": layers}))
    assert (len(found), found[0]) == (count, first)
    assert layers != "all" or "head.reduction.1" not in found  # white channels leave the covariance little to tell


def test_mistakes():
    with pytest.raises(UnknownNameError, match=r"features\.layer9.*features\.body\.layer1\.0\.bn1"):
        made(FIRST | {"layers": ["features.layer9.0.bn1"]})
    with pytest.raises(OptionError, match=r"norm\.grup_size.*group_size"):
        made({"grup_size": 8})
    with pytest.raises(OptionError, match=r"groups is 3.*16"):
        made({"groups": 3})


def test_arguments_build_it_again():
    model = trained(made(FIRST))
    for _ in range(2):
        again = gcp.create_model(**model.arguments).eval()
        again.load_state_dict(model.state_dict())
        assert torch.equal(again(images()), model(images()))
        exchange_head(model, "svd_taylor")
    assert again.arguments["norm"] == FIRST


def test_a_file_of_batch_norms(tmp_path, caplog):
    plain, path = trained(made()), tmp_path / "plain.pt"
    torch.save(plain.state_dict(), path)
    model = made(FIRST | {"layers": "all"})
    load_classifier(model, path)
    assert caplog.text == ""
    assert torch.allclose(model(images()), plain(images()), atol=1e-4)
    other = tmp_path / "white.pt"
    torch.save(trained(model).state_dict(), other)
    again = made(FIRST | {"layers": "all"})
    load_classifier(again, other)
    assert torch.equal(again(images()), model(images()))


def test_widths_that_meet_it_stay_and_say_why():
    dimensions = trace(made(FIRST))
    assert dimensions["features.body.conv1"].reason and dimensions["features.body.bn1"].reason
    assert dimensions["features.body.layer1.0.conv1"].reason is None
    assert all(isinstance(module, nn.BatchNorm2d) is False for module in made({"layers": "all"}).features.modules())


@pytest.mark.parametrize("solver", ["eig", "newton_schulz"])
def test_exports(solver, tmp_path):
    model = trained(made(FIRST | {"solver": solver}))
    assert write_program(model, images(), tmp_path / "model.ts", {}) < 1e-5
    assert write_program(model, images(), tmp_path / "model.pt2", {}) < 1e-5
