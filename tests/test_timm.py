"""Our models under timm's roof, by the expectations that timm has of its own."""

import subprocess
import sys

import pytest
import timm
import timm.data
import timm.optim
import torch

import gcp
import gcp.timm
from gcp.errors import OptionError, UnknownNameError
from gcp.models import check_backbone, list_backbones


def small(name="gcp_test_resnet", **options):
    return timm.create_model(name, **{"num_classes": 5, "dim": 6, "head": "newton_schulz"} | options)


@pytest.fixture(scope="module", params=["test_resnet", "test_vit", "test_convnext", "test_efficientnet"])
def name(request):
    """A small model of timm of each kind of features, registered where it is not."""
    registered = f"gcp_{request.param}"
    return registered if timm.is_model(registered) else gcp.timm.register(request.param)


def images_for(model, batch=2):
    channels, height, width = model.pretrained_cfg["input_size"]
    return torch.randn(batch, channels, height, width)


def test_registered_names():
    names = timm.list_models("gcp_*")
    assert {f"gcp_{backbone}" for backbone in gcp.timm.BACKBONES} <= set(names)
    assert "gcp_resnet50" in names and timm.is_model("gcp_resnet50")


def test_what_timm_expects_of_forward_and_its_parts(name):
    model = small(name).eval()
    x = images_for(model)
    with torch.no_grad():
        logits, features = model(x), model.forward_features(x)
        pooled = model.forward_head(features, pre_logits=True)
        assert logits.shape == (2, 5) and torch.isfinite(logits).all()
        assert features.ndim == 4 and features.shape[1] == model.num_features
        assert pooled.shape == (2, model.head_hidden_size) == (2, 21)
        assert torch.equal(model.forward_head(features), logits)
        assert torch.equal(model.get_classifier()(pooled), logits)
        model.reset_classifier(0)
        assert model.num_classes == 0 and torch.equal(model(x), pooled)
        model.reset_classifier(0, "")
        assert torch.equal(model(x), features) and model.head_hidden_size == model.num_features
        model.reset_classifier(3, "gcp")
        assert model.num_classes == 3 and model(x).shape == (2, 3)
        bare = small(name, num_classes=0, global_pool="").eval()
        assert bare(x).shape == features.shape


def test_gradients_reach_every_parameter(name):
    model = small(name).train()
    model(images_for(model)).square().sum().backward()
    assert [key for key, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()] == []


def test_state_dict_round_trip_and_the_classifier_of_ours():
    model = small().eval()
    again = small().eval()
    again.load_state_dict(model.state_dict())
    ours = gcp.create_model("test_resnet", "newton_schulz", 5, dim=6).eval()
    ours.load_state_dict(model.state_dict())
    x = images_for(model)
    with torch.no_grad():
        assert torch.equal(again(x), model(x)) and torch.equal(ours(x), model(x))


def test_a_checkpoint_through_timm(tmp_path):
    model = small().eval()
    torch.save({"model": model.state_dict()}, tmp_path / "best.pt")
    again = small(checkpoint_path=tmp_path / "best.pt").eval()
    assert torch.equal(again(images_for(model) * 0), model(images_for(model) * 0))


def test_options_of_head_and_model():
    model = small("gcp_resnet18", head="svd_taylor", degree=7, dim=0, last_stride=1, drop_rate=0.2, in_chans=1)
    assert model.arguments["degree"] == 7 and model.head_hidden_size == 512 * 513 // 2 and model.dropout.p == 0.2
    assert model.eval().forward_features(torch.randn(1, 1, 64, 64)).shape == (1, 512, 4, 4)


def test_dim_has_the_published_default():
    with torch.device("meta"):
        assert timm.create_model("gcp_resnet50").head_hidden_size == 32896


def test_hidden_layers_come_back_with_a_new_classifier():
    model = small(hidden=(8,), drop_rate=0.5)
    model.reset_classifier(2)
    assert [type(layer).__name__ for layer in model.get_classifier()] == ["Linear", "ReLU", "Dropout", "Linear"]
    assert model.eval()(images_for(model)).shape == (2, 2)


def test_a_new_classifier_has_the_models_type():
    model = small().double()
    model.reset_classifier(2)
    assert next(model.get_classifier().parameters()).dtype == torch.float64


def test_feature_extraction():
    model = small().eval()
    x = images_for(model)
    with torch.no_grad():
        maps = model.forward_intermediates(x, intermediates_only=True)
        assert torch.equal(maps[-1], model.forward_features(x))
    assert [info["num_chs"] for info in model.feature_info] == [m.shape[1] for m in maps]
    extractor = small(features_only=True, out_indices=(1, 2), in_chans=1)
    assert [m.shape[1] for m in extractor(x[:, :1])] == extractor.feature_info.channels()


def test_what_timms_scripts_ask_of_a_model():
    model = small()
    data = timm.data.resolve_data_config({}, model=model)
    assert data["input_size"] == (3, 160, 160) and data["mean"] == (0.5, 0.5, 0.5)
    groups = timm.optim.param_groups_layer_decay(model, weight_decay=0.05, layer_decay=0.5)
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    scale = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    assert scale[id(model.features.body.conv1[0].weight)] < scale[id(model.classifier.weight)] == 1
    model.set_grad_checkpointing(True)
    model(images_for(model)).sum().backward()
    first = model.pretrained_cfg["first_conv"]
    assert isinstance(model.get_submodule(first), torch.nn.Conv2d)
    assert isinstance(model.get_submodule(model.pretrained_cfg["classifier"]), torch.nn.Linear)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # of checks of shapes, which are constants here
@pytest.mark.parametrize("head", ["average", "bilinear", "compact_bilinear"])
def test_torchscript_of_heads_that_are_plain_operations(head, tmp_path):
    model = small(head=head).eval()
    x = images_for(model)
    torch.jit.save(torch.jit.trace(model, x), tmp_path / "model.ts")
    assert torch.allclose(torch.jit.load(tmp_path / "model.ts")(x), model(x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"global_pool": "avg"}, r"global_pool.*'avg'.*'gcp'.*''"),
        ({"num_classes": -1}, r"num_classes.* -1.*>= 0"),
        ({"head": "svd_pad"}, r"head 'svd_pad'.*'svd_pade'"),
        ({"degree": 3}, r"'newton_schulz' has no option 'degree'"),
        ({"drop_path_rate": 0.1}, r"'newton_schulz' has no option 'drop_path_rate'"),
        ({"pretrained_cfg_overlay": {"url": "x"}}, r"pretrained_cfg_overlay only with a pretrained_cfg"),
        ({"pretrained_cfg": {"architecture": "resnet18", "file": "x"}}, r"of resnet18, not of gcp_test_resnet"),
        ({"features_only": True, "last_stride": 1}, r"features_only does not go with last_stride=1"),
        ({"features_only": True, "degree": 1}, r"has no option 'degree'"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises((OptionError, UnknownNameError), match=message):
        small(**options)


def test_what_cannot_be_registered():
    with pytest.raises(UnknownNameError, match="unknown backbone 'resnet5O'"):
        gcp.timm.register("resnet5O")
    with pytest.raises(OptionError, match="'torchvision/resnet50' is no architecture of timm"):
        gcp.timm.register("torchvision/resnet50")
    model = small()
    with pytest.raises(OptionError, match=r"a classifier of 4 classes needs the pooled vector"):
        model.reset_classifier(4, "")


def test_what_is_registered_is_no_backbone():
    assert list_backbones("gcp_*") == []
    with pytest.raises(UnknownNameError):
        check_backbone("gcp_resnet50")


def test_only_the_import_registers():
    asked = "print(timm.is_model('gcp_resnet50'))"
    code = f"import timm, gcp; {asked}; import gcp.timm; {asked}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "True"], done.stderr


@pytest.mark.parametrize("safe", [True, False])
def test_a_model_is_shared_as_those_of_timm(name, safe, tmp_path):
    model = small(name, head="gaussian").eval()
    timm.models.save_for_hf(model, tmp_path, safe_serialization=safe, model_config={"label_names": list("abcde")})
    again = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    x = images_for(model)
    assert torch.equal(again(x), model(x)) and again.pretrained_cfg["label_names"] == list("abcde")
    assert timm.data.resolve_data_config(model=again) == timm.data.resolve_data_config(model=model)
    other = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, num_classes=3).eval()
    assert other(x).shape == (2, 3) and torch.equal(other.features(x), model.features(x))
    fresh = timm.create_model(f"local-dir:{tmp_path}").eval()
    assert not torch.equal(fresh(x), model(x)) and fresh(x).shape == (2, 5)


def test_from_a_hub_by_the_same_code(tmp_path, monkeypatch):
    model = small(head="power").eval()
    timm.models.save_for_hf(model, tmp_path, safe_serialization=True)

    def download(repo_id, filename, **_):
        assert repo_id == "somebody/model"
        return str(tmp_path / filename)

    monkeypatch.setattr("timm.models._hub.hf_hub_download", download)
    again = timm.create_model("hf-hub:somebody/model", pretrained=True).eval()
    x = images_for(model)
    assert torch.equal(again(x), model(x))


def test_the_tag_of_the_weights_of_the_backbone():
    assert small("gcp_test_resnet.r160_in1k").pretrained_cfg["tag"] == "r160_in1k"
    with pytest.raises(UnknownNameError, match=r"'test_resnet.r161_in1k'"):
        small("gcp_test_resnet.r161_in1k")
