"""A backbone that is a module: what it may give, and what is said where it gives no map."""

import pytest
import torch
from torch import nn

import gcp
from gcp.errors import CheckpointError, GCPError, OptionError, ShapeError
from gcp.models import Backbone, create_backbone, freeze, load_classifier, parameter_groups


def convolutional(channels=6):
    return nn.Sequential(nn.Conv2d(3, channels, 3, 2, 1), nn.BatchNorm2d(channels), nn.ReLU())


class Tokens(nn.Module):
    """Patches of 8 x 8 as tokens, with a class token before them."""

    def __init__(self, prefix=1):
        super().__init__()
        self.patches = nn.Conv2d(3, 10, 8, 8)
        self.prefix = nn.Parameter(torch.zeros(1, prefix, 10))

    def forward(self, x):
        tokens = self.patches(x).flatten(2).mT
        return torch.cat([self.prefix.expand(len(x), -1, -1), tokens], 1)


class NoMeta(nn.Module):
    """Asks for a value, which a tensor without values has not."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.LazyConv2d(5, 3, 2)

    def forward(self, x):
        return self.convolution(x) if float(x.abs().sum()) >= 0 else x


@pytest.mark.parametrize(("make", "channels"), [(convolutional, 6), (Tokens, 10), (lambda: Tokens(0), 10), (NoMeta, 5)])
def test_channels_are_found(make, channels):
    body = make()
    model = gcp.create_model(body, head="svd_pade", num_classes=4, dim=3, image_size=32)
    assert model.features.body is body and model.features.channels == channels
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 4)
    assert model.arguments["backbone"] == type(body).__name__


def test_a_map_is_the_one_of_the_module():
    body, images = Tokens(), torch.randn(2, 3, 32, 32)
    features = create_backbone(body, image_size=32)
    assert torch.equal(features(images), body(images)[:, 1:].mT.unflatten(2, (4, 4)))
    assert features.map_size(64) == (8, 8) and isinstance(features, Backbone)


def test_freezing_groups_and_weights(tmp_path):
    model = gcp.create_model(convolutional(), "svd_pade", 4, dim=3, image_size=32)
    freeze(model, ["features.0"])
    model.train()
    assert not model.features.body[0].training and model.features.body[1].training
    groups = parameter_groups(model, 0.1, 1e-4, head_lr_factor=5)
    assert {group["name"].split(".")[0] for group in groups} >= {"features", "head", "classifier"}
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    other = gcp.create_model(convolutional(), "svd_pade", 4, dim=3, image_size=32, pretrained=tmp_path / "weights.pt")
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    with pytest.raises(CheckpointError, match="another backbone"):
        load_classifier(
            gcp.create_model(convolutional(8), "svd_pade", 4, dim=3, image_size=32), tmp_path / "weights.pt"
        )


def test_last_stride():
    from torchvision.models import resnet18

    body = nn.Sequential()
    network = resnet18()
    for name, child in list(network.named_children())[:-2]:
        body.add_module(name, child)
    assert create_backbone(body, last_stride=1, image_size=64).map_size(64) == (4, 4)
    with pytest.raises(OptionError, match=r"last_stride=1 .*'Sequential'"):
        create_backbone(convolutional(), last_stride=1, image_size=32)


def test_a_timm_model_as_a_module():
    import timm

    body = timm.create_model("test_vit", num_classes=10)
    model = gcp.create_model(body, "svd_pade", 4, dim=3)
    assert model(torch.randn(2, 3, *model.features.native_size)).shape == (2, 4)
    assert isinstance(body.head, nn.Identity)


@pytest.mark.parametrize(
    ("backbone", "options", "message"),
    [
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()), {}, r"gives \(1, 4\)"),
        (nn.Sequential(nn.Conv2d(1, 4, 3)), {}, "does not take images .* in_chans=N"),
        (nn.Conv2d, {}, r"allowed: .*name.*nn\.Module.*Did you mean Conv2d\(\)\?"),
        (7, {}, "backbone is 7; allowed"),
        (nn.Conv2d(3, 4, 3), {"pretrained": True}, "brings its weights along: set pretrained=False"),
        ("resnet8_cifar", {"image_size": "32"}, "image_size is .32.; allowed: a side"),
    ],
)
def test_what_is_no_backbone(backbone, options, message):
    with pytest.raises(GCPError, match=message):
        gcp.create_model(backbone, num_classes=2, dim=2, **{"image_size": 32} | options)


def test_images_that_are_none():
    model = gcp.create_model("resnet8_cifar", num_classes=2, dim=2)
    images = torch.rand(2, 3, 32, 32)
    for given, message in (
        (images.numpy(), "of type ndarray; allowed: a float tensor"),
        (images.tolist(), "of type list"),
        ((255 * images).byte(), "torch.uint8; allowed: floating-point"),
        (images + 0j, "torch.complex64; allowed: floating-point"),
    ):
        with pytest.raises(ShapeError, match=message):
            model(given)


def test_one_image_with_one_position():
    """Batch norm has no variance there: said with the key and the value that mend it."""
    model = gcp.create_model("resnet18", "average", 3)
    with pytest.raises(ShapeError, match=r"train\.batch_size to 2 or more"):
        model.train()(torch.randn(1, 3, 32, 32))
    assert model.eval()(torch.randn(1, 3, 32, 32)).shape == (1, 3)


def test_reprs_are_one_line():
    model = gcp.create_model("resnet8_cifar", "svd_pade", num_classes=7, dim=4)
    for part in (model, model.features, model.head):
        assert "\n" not in repr(part) and len(repr(part)) < 300
    assert "resnet8_cifar" in repr(model) and "7 classes" in repr(model) and "10 features" in repr(model.head)


def test_import_of_models_is_light():
    import subprocess
    import sys

    script = (
        "import sys, gcp.models\n"
        "print(sorted(m for m in sys.modules if m.startswith(('gcp.evolve', 'gcp.compress', 'timm', 'torchvision'))))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
