"""Backbones: every source gives a map (B, channels, h, w), and says so when it cannot."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from gcp.errors import GCPError, OptionError, ShapeError, UnknownNameError
from gcp.models import check_backbone, create_backbone, list_backbones
from gcp.models.backbone import grid, prefix_tokens
from gcp.models.bodies import torchvision_names

TORCHVISION = ["alexnet", "vgg11", "vgg16_bn", "resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2"]
TORCHVISION += ["densenet121", "inception_v3"]


def meta(name, **options):
    with torch.device("meta"):
        return create_backbone(name, **options)


@pytest.mark.parametrize(
    ("name", "size", "shape"),
    [
        ("resnet18", 64, (512, 2, 2)),
        ("test_resnet", 64, (96, 2, 2)),
        ("test_efficientnet", 64, (256, 2, 2)),
        ("test_convnext", 64, (64, 2, 2)),
        ("test_mambaout", 64, (64, 2, 2)),
        ("test_vit", 160, (64, 10, 10)),
        ("test_vit_relpos", 160, (96, 10, 10)),
        ("test_maxvit", 160, (128, 5, 5)),
        ("resnet8_cifar", 32, (64, 8, 8)),
        ("resnet20_cifar", 16, (64, 4, 4)),
        ("alexnet_bn", 64, (256, 3, 3)),
    ],
)
def test_forward_gives_the_map_that_the_dry_run_promises(name, size, shape):
    backbone = create_backbone(name).eval()
    with torch.no_grad():
        out = backbone(torch.randn(2, 3, size, size))
    assert out.shape == (2, *shape)
    assert backbone.channels == shape[0]
    assert backbone.map_size(size) == shape[1:]
    assert torch.isfinite(out).all()


@pytest.mark.parametrize(
    ("name", "channels", "side"),
    [
        ("swin_tiny_patch4_window7_224", 768, 7),
        ("vit_tiny_patch16_224", 192, 14),
        ("deit_tiny_distilled_patch16_224", 192, 14),
        ("volo_d1_224", 384, 14),
        ("pit_ti_224", 256, 7),
        ("crossvit_9_240", 256, 14),
        ("efficientvit_b0", 128, 7),
        ("mobilenetv3_small_050", 288, 7),
        ("alexnet_bn", 256, 13),
        ("vgg11", 512, 14),
    ],
)
def test_maps_of_many_families_without_computation(name, channels, side):
    backbone = meta(name)
    assert backbone.channels == channels
    assert backbone.map_size(backbone.native_size) == (side, side)


@pytest.mark.parametrize("name", ["test_vit", "swin_tiny_patch4_window7_224"])
def test_maps_agree_with_timms_own_layout(name):
    options = {} if name == "test_vit" else {"in_chans": 1}
    backbone = create_backbone(name, **options).eval()
    images = torch.randn(1, backbone.in_chans, *backbone.native_size)
    with torch.no_grad():
        ours = backbone(images)
        theirs = backbone.body.forward_intermediates(
            images, indices=1, norm=True, intermediates_only=True, output_fmt="NCHW"
        )[-1]
    assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision_families(name):
    backbone = meta(f"torchvision/{name}")
    side = {"alexnet": 13, "vgg11": 14, "vgg16_bn": 14, "inception_v3": 5}.get(name, 7)
    assert backbone.map_size(224) == (side, side)
    assert not [key for key, _ in backbone.named_parameters() if "fc" in key or "Aux" in key or "classifier" in key]


def test_torchvision_body_computes_what_torchvision_does():
    from torchvision.models import resnet18

    reference = resnet18().eval()
    backbone = create_backbone("torchvision/resnet18").eval()
    state = {k: v for k, v in reference.state_dict().items() if not k.startswith("fc.")}
    backbone.body.load_state_dict(state)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        pooled = reference.fc(backbone(images).mean((2, 3)))
        assert torch.allclose(pooled, reference(images), atol=1e-5)


def test_plain_name_means_timm_where_both_have_one_and_torchvision_otherwise():
    assert hasattr(meta("resnet18").body, "forward_features")
    assert not hasattr(meta("torchvision/resnet18").body, "forward_features")
    assert isinstance(meta("alexnet").body, nn.Sequential)


def test_alexnet_bn_layout():
    body = meta("alexnet_bn").body
    assert [i for i, m in enumerate(body) if isinstance(m, nn.Conv2d)] == [0, 4, 8, 11, 14]
    assert [i for i, m in enumerate(body) if isinstance(m, nn.BatchNorm2d)] == [1, 5, 9, 12, 15]
    assert not any(isinstance(m, nn.Dropout) for m in body)


@pytest.mark.parametrize("depth", [8, 14, 20])
def test_cifar_resnet_has_its_depth(depth):
    body = meta(f"resnet{depth}_cifar").body
    convolutions = [m for m in body.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert len(convolutions) + 1 == depth  # the classifier is the last layer


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "vgg11", "mobilenetv3_small_050", "pit_ti_224"])
def test_no_parameter_is_without_gradient(name):
    from gcp.models.dry_run import dry_run

    backbone = meta(name)
    run = dry_run(backbone, 3, backbone.native_size, backward=True)
    assert run.idle(backbone.body, "body.") == []


@pytest.mark.parametrize("name", ["test_resnet", "torchvision/resnet18", "resnet8_cifar", "alexnet_bn"])
@pytest.mark.parametrize("in_chans", [1, 4])
def test_in_chans(name, in_chans):
    backbone = create_backbone(name, in_chans=in_chans)
    assert backbone(torch.randn(2, in_chans, 64, 64)).shape[1] == backbone.channels
    with pytest.raises(ShapeError, match=rf"\(B, {in_chans}, H, W\).*\(2, 3, 64, 64\)"):
        backbone(torch.randn(2, 3, 64, 64))


def test_building_leaves_weights_batch_statistics_and_mode_alone():
    backbone = create_backbone("test_resnet")
    state = {key: value.clone() for key, value in backbone.state_dict().items()}
    generator = torch.get_rng_state()
    backbone.map_size(96)
    assert backbone.training and all(module.training for module in backbone.modules())
    assert all(torch.equal(state[key], value) for key, value in backbone.state_dict().items())
    assert all(value.device.type == "cpu" for value in backbone.state_dict().values())
    assert torch.equal(generator, torch.get_rng_state())


def test_images_that_do_not_fit():
    with pytest.raises(ShapeError, match=r"160x160 .*32x32.*data\.image_size=160"):
        create_backbone("test_vit")(torch.zeros(1, 3, 32, 32))
    with pytest.raises(ShapeError, match="images of 8x8 do not fit backbone 'alexnet_bn'"):
        create_backbone("alexnet_bn").map_size(8)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("resnet5O", "resnet50"),
        ("torchvision/resnet19", "torchvision/resnet1"),
        ("alexnetbn", "alexnet_bn"),
        ("resnet18.tv_in1kk", "resnet18.tv_in1k"),
        ("torchvision/swin_t", "torchvision/"),
        ("resnet9_cifar", "resnet"),
    ],
)
def test_unknown_name_gives_the_nearest(name, nearest):
    with pytest.raises(UnknownNameError, match=f"unknown backbone '{name}'. Did you mean '{nearest}"):
        check_backbone(name)


def test_known_names_pass_and_are_listed_with_a_summary():
    for name in ["resnet50", "resnet50.a1_in1k", "torchvision/vgg16_bn", "alexnet", "resnet110_cifar"]:
        check_backbone(name)
    assert list_backbones("*_cifar")[0] == "resnet8_cifar"
    assert {f"torchvision/{name}" for name in torchvision_names()} == set(list_backbones("torchvision/*"))
    everything = list_backbones()
    assert len(everything) == len(set(everything)) > 1000
    assert all(entry.summary for entry in everything)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"last_stride": 3}, "last_stride must be 1, 2 or null"),
        ({"in_chans": 0}, r"in_chans .*positive .*\b0\b"),
        ({"pretrained": 1}, r"pretrained .*true, false .*path .*\b1\b"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(OptionError, match=message):
        create_backbone("test_resnet", **options)


@pytest.mark.parametrize("name", ["alexnet_bn", "resnet8_cifar"])
def test_no_published_weights(name):
    with pytest.raises(OptionError, match=r"no published weights .*pretrained=FILE"):
        create_backbone(name, pretrained=True)


@pytest.mark.parametrize(("name", "library"), [("test_resnet", "timm"), ("alexnet", "torchvision.models")])
def test_failed_download_names_the_way_without_a_network(name, library, monkeypatch):
    def fail(*args, **options):
        raise OSError("no route to host")

    monkeypatch.setattr(f"{library}.{'create_model' if library == 'timm' else 'get_model'}", fail)
    monkeypatch.setattr("gcp.models.downloads._unreachable", lambda address: None)
    with pytest.raises(GCPError, match=r"OSError: no route to host.*pretrained=FILE"):
        create_backbone(name, pretrained=True)


def test_grid():
    assert grid(196, (224, 224)) == (14, 14)
    assert grid(18, (100, 50)) == (6, 3)
    assert grid(28, (112, 64)) == (7, 4)
    assert grid(197, (224, 224)) is None
    assert prefix_tokens(197, (224, 224), None) == 1
    assert prefix_tokens(198, (224, 224), 2) == 2
    assert prefix_tokens(196, (224, 224), None) == 0
    assert prefix_tokens(200, (224, 224), None) is None


def test_import_loads_neither_timm_nor_torchvision():
    code = "import sys, gcp.models; print([m for m in ('timm', 'torchvision') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
