"""A backbone cut behind a stage: the map of that stage, fewer parameters, the weights of the whole."""

import logging

import pytest
import torch
from torch import nn

import gcp
from gcp.errors import CheckpointError, OptionError
from gcp.models import create_backbone, default_image_size, freeze, load_backbone
from gcp.models.cut import stages


def meta(name, **options):
    with torch.device("meta"):
        return create_backbone(name, **options)


@pytest.mark.parametrize(
    ("name", "stage", "channels", "side"),
    [
        ("resnet18", "layer3", 256, 14),
        ("resnet18", -2, 256, 14),
        ("resnet18", 2, 128, 28),
        ("torchvision/resnet18", "layer3", 256, 14),
        ("torchvision/resnet18", "layer3.0", 256, 14),
        ("torchvision/densenet121", -2, 1024, 14),
        ("torchvision/vgg16", -2, 512, 28),
        ("torchvision/inception_v3", "Mixed_6e", 768, 17),
        ("alexnet_bn", 1, 192, 27),
        ("resnet20_cifar", "layer2", 32, 16),
        ("vgg11_bn", -2, 512, 28),
        ("test_vit", "blocks.2", 64, 10),
        ("swin_tiny_patch4_window7_224", -2, 384, 14),
        ("test_efficientnet", -2, 48, 10),
        ("test_convnext", "stages.2", 48, 10),
    ],
)
def test_map_of_a_stage(name, stage, channels, side):
    whole, part = meta(name), meta(name, stage=stage)
    assert part.channels == channels and part.map_size(part.native_size) == (side, side)
    size = sum(p.numel() for p in part.parameters())
    assert size < sum(p.numel() for p in whole.parameters())
    assert set(part.state_dict()) < set(whole.state_dict())  # the names stay
    assert str(stage) in repr(part)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext", "test_efficientnet"])
def test_equals_timms_intermediate(name):
    torch.manual_seed(0)
    whole = create_backbone(name).eval()
    x = torch.randn(1, 3, *whole.native_size)
    part = create_backbone(name, stage=-2).eval()
    state = whole.state_dict()
    part.load_state_dict({key: state[key] for key in part.state_dict()})
    place = len(whole.body.feature_info) - 2
    with torch.no_grad():
        expected = whole.body.forward_intermediates(x, indices=[place], norm=True, intermediates_only=True)[-1]
        torch.testing.assert_close(part(x), expected)


def test_a_sequential_is_not_changed():
    body = create_backbone("resnet8_cifar").body
    part = create_backbone(body, stage="layer2", image_size=32)
    assert hasattr(body, "layer3") and not hasattr(part.body, "layer3")
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(part.eval()(x), body.eval()[:-1](x))


def test_index_counts_halvings():
    assert stages(meta("torchvision/resnet18").body, 3, (224, 224)) == ["relu", "layer1", "layer2", "layer3", "layer4"]
    assert stages(meta("torchvision/inception_v3").body, 3, (299, 299))[-2:] == ["Mixed_6e", "Mixed_7c"]


def test_the_class_token_of_a_cut_transformer():
    model = gcp.create_model("test_vit", "svd_pade", 5, dim=4, stage=2, image_size=32)
    assert model.token == "sum" and len(model.features.body.blocks) == 3
    model(torch.randn(2, 3, 32, 32)).sum().backward()
    assert model.token_classifier.weight.grad is not None


def test_weights_of_the_whole(tmp_path, caplog):
    """The tensors of later stages stay out knowingly; a file of a cut backbone is not for the whole one."""
    whole = create_backbone("resnet8_cifar")
    torch.save(whole.state_dict(), tmp_path / "whole.pt")
    with caplog.at_level(logging.INFO, "gcp"):
        part = create_backbone("resnet8_cifar", tmp_path / "whole.pt", stage="layer2")
    assert "behind stage layer2 stay out" in caplog.text and "only in the file" not in caplog.text
    assert all(torch.equal(value, whole.state_dict()[key]) for key, value in part.state_dict().items())
    config = {"model": {"stage": "layer2"}}
    torch.save({"model": part.state_dict(), "config": config}, tmp_path / "part.pt")
    with pytest.raises(CheckpointError, match=r"cut at stage layer2.*model\.stage=layer2"):
        load_backbone(whole, tmp_path / "part.pt")
    load_backbone(create_backbone("resnet8_cifar", stage="layer2"), tmp_path / "part.pt")


def test_parts_and_sizes():
    model = gcp.create_model("resnet20_cifar", "svd_pade", 5, dim=4, stage="layer2")
    freeze(model, ["features.layer1"])
    assert model.train()(torch.randn(2, 3, 16, 16)).shape == (2, 5)
    assert default_image_size("resnet18", 8) == 96 > default_image_size("resnet18", 8, "layer2")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet18", {"stage": "layer5"}, r"stage .*'layer5'.*3 \(layer3\).*Did you mean 'layer"),
        ("resnet18", {"stage": 7}, r"stage is 7; .*model\.stage"),
        ("resnet18", {"stage": "layer3", "last_stride": 1}, r"last_stride=1 .*stage='layer3'"),
    ],
)
def test_what_cannot_be(name, options, message):
    with pytest.raises(OptionError, match=message):
        meta(name, **options)


def test_a_module_without_stages():
    class Own(nn.Module):
        def forward(self, x):
            return x

    with pytest.raises(OptionError, match=r"does not work for backbone 'Own'.*nn\.Sequential"):
        create_backbone(Own(), stage=0, image_size=8)
