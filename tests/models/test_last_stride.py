"""last_stride=1: the last stage at the stride of the one before, with the same weights."""

import pytest
import torch

from gcp.errors import OptionError
from gcp.models import create_backbone


def meta(name, **options):
    with torch.device("meta"):
        return create_backbone(name, **options)


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "resnet50",
        "resnet26d",
        "resnetaa50",
        "resnetblur18",
        "resnest14d",
        "resnetv2_18",
        "regnety_002",
        "efficientnet_b0",
        "test_resnet",
        "test_efficientnet",
        "torchvision/resnet50",
        "torchvision/resnext50_32x4d",
        "torchvision/densenet121",
    ],
)
def test_the_map_doubles_and_the_weights_keep_their_shapes(name):
    before, after = meta(name), meta(name, last_stride=1)
    assert before.map_size(224) == (7, 7)
    assert after.map_size(224) == (14, 14)
    assert after.map_size(448) == (28, 28)
    shapes = [{key: value.shape for key, value in b.state_dict().items()} for b in (before, after)]
    assert shapes[0] == shapes[1]
    assert not any(m.dilation not in (1, (1, 1)) for m in after.modules() if isinstance(m, torch.nn.Conv2d))


def test_cifar():
    assert meta("resnet8_cifar", last_stride=1).map_size(32) == (16, 16)


def test_only_the_last_stage_changes():
    before, after = meta("resnet50"), meta("resnet50", last_stride=1)
    strides = [{n: m.stride for n, m in b.named_modules() if isinstance(m, torch.nn.Conv2d)} for b in (before, after)]
    changed = {name for name in strides[0] if strides[0][name] != strides[1][name]}
    assert changed == {"body.layer4.0.conv2", "body.layer4.0.downsample.0"}


def test_computes():
    out = create_backbone("test_resnet", last_stride=1)(torch.randn(2, 3, 64, 64))
    assert out.shape == (2, 96, 4, 4)


@pytest.mark.parametrize("last_stride", [None, 2])
def test_otherwise_as_the_model_is(last_stride):
    assert meta("test_resnet", last_stride=last_stride).map_size(64) == (2, 2)


@pytest.mark.parametrize("name", ["test_vit", "alexnet_bn", "torchvision/vgg11", "inception_v3", "test_convnext"])
def test_refused_where_the_last_stage_is_something_else(name):
    with pytest.raises(OptionError, match=r"last_stride=1 .*works for resnet\*"):
        meta(name, last_stride=1)
