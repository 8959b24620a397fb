"""The image size that leaves a map worth a covariance."""

import pytest

from gcp.errors import UnknownNameError
from gcp.models import create_backbone, default_image_size


@pytest.mark.parametrize(
    ("name", "given", "size"),
    [
        ("resnet20_cifar", 8, 8),
        ("resnet20_cifar", 32, 32),
        ("alexnet_bn", 8, 64),
        ("alexnet", 8, 64),
        ("resnet18", 8, 96),
        ("torchvision/resnet18", 32, 96),
        ("torchvision/inception_v3", 32, 160),
        ("resnet18", 448, 448),
        ("resnet18", 300, 320),
        ("test_vit", 8, 160),
        ("test_vit", 448, 160),
    ],
)
def test_default_image_size(name, given, size):
    assert default_image_size(name, given) == size


def test_the_map_is_as_promised():
    backbone = create_backbone("alexnet_bn")
    assert backbone.map_size(default_image_size("alexnet_bn", 32)) == (3, 3)


def test_unknown_backbone():
    with pytest.raises(UnknownNameError, match="Did you mean 'alexnet_bn'"):
        default_image_size("alexnet_bm", 32)
