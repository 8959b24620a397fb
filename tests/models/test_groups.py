"""Parameter groups: every trainable parameter once, with the rate and decay of its part."""

import pytest
import timm
import timm.optim
import torch

from gcp.errors import OptionError
from gcp.models import create_model, freeze, parameter_groups
from gcp.models.parts import checkpoint_blocks


@pytest.fixture
def model():
    return create_model("resnet8_cifar", "average", 5, dim=8)


def test_every_parameter_exactly_once(model):
    groups = parameter_groups(model, 0.1, 1e-4, decay_all=True)
    ids = [id(p) for group in groups for p in group["params"]]
    assert sorted(ids) == sorted(id(p) for p in model.parameters())
    assert [group["name"] for group in groups] == ["features", "head", "classifier"]
    torch.optim.SGD(groups, lr=1.0)


def test_rates_and_decays(model):
    groups = parameter_groups(model, 0.1, 1e-4, 0.5, 20, head_weight_decay=0.0, decay_all=True)
    assert [(g["lr"], g["weight_decay"]) for g in groups] == [(0.05, 1e-4), (2.0, 0.0), (2.0, 0.0)]
    factors = {"head_lr_factor": 20, "classifier_lr_factor": 1, "classifier_weight_decay": 1e-3, "decay_all": True}
    groups = parameter_groups(model, 0.1, 1e-4, **factors)
    assert [(g["lr"], g["weight_decay"]) for g in groups] == [(0.1, 1e-4), (2.0, 1e-4), (0.1, 1e-3)]


def test_parameters_without_decay_have_a_group_of_their_own(model):
    model.classifier.bias.no_weight_decay = True
    groups = {
        group["name"]: group for group in parameter_groups(model, 0.1, 1e-4, classifier_lr_factor=3, decay_all=True)
    }
    assert groups["classifier.no_decay"]["weight_decay"] == 0.0
    assert groups["classifier.no_decay"]["lr"] == pytest.approx(0.3)
    assert [id(p) for p in groups["classifier.no_decay"]["params"]] == [id(model.classifier.bias)]
    assert [id(p) for p in groups["classifier"]["params"]] == [id(model.classifier.weight)]


def test_frozen_parts_have_no_group(model):
    freeze(model, ["features"])
    assert [group["name"] for group in parameter_groups(model, 0.1, 1e-4, decay_all=True)] == ["head", "classifier"]
    freeze(model, ["head", "classifier"])
    with pytest.raises(OptionError, match="every parameter is frozen"):
        parameter_groups(model, 0.1, 1e-4)


TIMM = (
    "test_convnext", "test_efficientnet", "test_resnet", "test_vit", "test_nfnet", "test_mambaout",
    "test_byobnet", "test_vit3", "regnetx_002", "swin_tiny_patch4_window7_224", "mobilenetv3_small_050",
    "deit_tiny_distilled_patch16_224", "eva02_tiny_patch14_224", "test_maxvit", "vit_small_patch14_reg4_dinov2",
)  # fmt: skip


@pytest.mark.parametrize("name", TIMM)
def test_groups_of_a_backbone_are_timms(name):
    with torch.device("meta"):
        theirs, ours = timm.create_model(name, num_classes=3), create_model(name, "average", 3)
    options = {"weight_decay": 0.05, "no_weight_decay_list": getattr(theirs, "no_weight_decay", set)()}
    names = {id(p): key for key, p in theirs.named_parameters()}
    plain = timm.optim.param_groups_weight_decay(theirs, **options)
    layered = timm.optim.param_groups_layer_decay(theirs, layer_decay=0.7, **options)
    decay = {names[id(p)]: group["weight_decay"] for group in plain for p in group["params"]}
    scale = {names[id(p)]: group["lr_scale"] for group in layered for p in group["params"]}
    own = {id(p): key for key, p in ours.features.body.named_parameters()}
    groups = parameter_groups(ours, 2.0, 0.05, layer_decay=0.7)
    found = {
        own[id(p)]: (group["weight_decay"], group["lr"]) for group in groups for p in group["params"] if id(p) in own
    }
    assert set(found) == set(own.values()) <= set(decay)
    assert found == {key: (decay[key], pytest.approx(2 * scale[key])) for key in found}
    rest = {group["name"]: group["lr"] for group in groups if not group["name"].startswith("features.")}
    assert rest == {"classifier": 2.0, "classifier.no_decay": 2.0}
    unlayered = {id(p): group["weight_decay"] for group in parameter_groups(ours, 2.0, 0.05) for p in group["params"]}
    assert {own[key]: value for key, value in unlayered.items() if key in own} == {
        key: decay[key] for key in own.values()
    }


def test_layers_of_other_backbones_are_found(model):
    rates = {group["lr"] for group in parameter_groups(model, 1.0, 0.1, layer_decay=0.5) if "features" in group["name"]}
    assert max(rates) == 0.5 and len(rates) > 1


def test_blocks_are_computed_anew():
    model = create_model("test_resnet", "average", 3)
    images = torch.randn(2, 3, 64, 64)
    model.eval()(images).sum().backward()
    before = model.features.body.conv1[0].weight.grad.clone()
    model.zero_grad()
    checkpoint_blocks(model.features)
    model(images).sum().backward()
    torch.testing.assert_close(model.features.body.conv1[0].weight.grad, before)
    with pytest.raises(OptionError, match=r"run\.grad_checkpointing=false"):
        checkpoint_blocks(create_model("resnet8_cifar", "average", 5).features)


def test_stochastic_depth_is_timms():
    model = create_model("test_convnext", "average", 3, drop_path=0.3)
    rates = [m.drop_prob for m in model.modules() if type(m).__name__ == "DropPath"]
    assert max(rates) == pytest.approx(0.3) and model.arguments["drop_path"] == 0.3
    for name in ("resnet8_cifar", "vgg11"):
        with pytest.raises(OptionError, match=r"model\.drop_path=null"):
            create_model(name, "average", 3, drop_path=0.3)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_linear_layers_can_be_quantised():
    model = create_model("resnet8_cifar", "svd_pade", 5, dim=8).eval()
    images = torch.randn(2, 3, 32, 32)
    small = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)
    torch.testing.assert_close(small(images), model(images), rtol=0.1, atol=0.05)
