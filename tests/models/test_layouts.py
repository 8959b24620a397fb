"""Files of others against what their networks compute, written out in plain torch functions (tests/foreign.py)."""

import logging
import re

import foreign
import pytest
import torch

from gcp.errors import CheckpointError, UnknownNameError
from gcp.models import create_backbone, create_model
from gcp.models.checkpoints import Checkpoint, read_checkpoint
from gcp.models.convert import build_model, export, ours
from gcp.models.layouts import LAYOUTS, recognise
from gcp.models.summary import summarise
from gcp.models.weights import translate

LAYOUT_OF = {"torchvision": "plain", "timm": "plain"}
ALL = (*foreign.GCP, *foreign.FIRST_ORDER)


@pytest.fixture(scope="module", params=ALL)
def case(request, tmp_path_factory):
    """Name, path of the file, its contents, and its logits."""
    content, logits = foreign.build(request.param)
    path = tmp_path_factory.mktemp(request.param) / "file.pth.tar"
    torch.save(content, path)
    return request.param, path, content, logits


@pytest.fixture(scope="module")
def images():
    return torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(5))


def load(path, **changes):
    checkpoint = read_checkpoint(path)
    return build_model(checkpoint, summarise(checkpoint), **changes)


def close(a, b):
    return torch.allclose(a, b, rtol=1e-5, atol=1e-5 * float(b.abs().max()))


def test_every_layout_has_a_case():
    assert {LAYOUT_OF.get(name, name) for name in ALL} == set(LAYOUTS) - {"own"}


def test_logits_are_those_of_the_foreign_network(case, images):
    _, path, _, logits = case
    with torch.no_grad():
        assert close(load(path)(images), logits(images))


def test_what_the_file_is(case):
    name, path, _, _ = case
    checkpoint = read_checkpoint(path)
    summary = summarise(checkpoint)
    assert recognise(checkpoint.state) == summary.layout == LAYOUT_OF.get(name, name)
    assert summary.backbone == foreign.BACKBONES.get(name, "resnet18")
    assert (summary.num_classes, summary.dim) == (5, 6 if name in foreign.GCP else None)
    assert summary.order == ("unknown" if name in foreign.GCP else "")
    assert summary.hidden == ((9, 8) if name in foreign.BACKBONES else ())
    epochs = {"torchvision": None, "fast_mpn_cov": None, "mmpretrain": 9, "timm": 4, "differentiable_svd": 60}
    assert summary.epoch == epochs.get(name, summary.epoch)


@pytest.mark.parametrize("layout", foreign.GCP)
def test_files_of_2018(layout, tmp_path, images):
    """Their classifier reads the lower triangle; read as upper it answers something else."""
    content, logits = foreign.build(layout, order="lower")
    torch.save(content, tmp_path / "old.pth")
    with torch.no_grad():
        expected = logits(images)
        assert close(load(tmp_path / "old.pth", order="lower")(images), expected)
        assert not torch.allclose(load(tmp_path / "old.pth")(images), expected, rtol=0.01)


def test_a_deep_network_with_bottlenecks(tmp_path, images):
    content, logits = foreign.build("fast_mpn_cov", depth=50)
    torch.save(content, tmp_path / "mpncovresnet50-15991845.pth")
    summary = summarise(read_checkpoint(tmp_path / "mpncovresnet50-15991845.pth"))
    assert (summary.backbone, summary.head, summary.last_stride) == ("resnet50", "newton_schulz", 1)
    with torch.no_grad():
        assert close(load(tmp_path / "mpncovresnet50-15991845.pth")(images), logits(images))


@pytest.mark.parametrize("layout", ["differentiable_svd", "differentiable_svd_alexnet", "differentiable_svd_finetuned"])
@pytest.mark.parametrize("order", ["upper", "lower"])
def test_there_and_back_bit_for_bit(layout, order, tmp_path):
    content, _ = foreign.build(layout, order=order)
    torch.save(content, tmp_path / "in.pth.tar")
    checkpoint = read_checkpoint(tmp_path / "in.pth.tar")
    summary = summarise(checkpoint)
    model = build_model(checkpoint, summary, order)
    back = export(checkpoint, summary, layout, model.state_dict(), order)
    want = {key.replace("features.", "features.module.") if layout != "differentiable_svd_finetuned" else key: value
            for key, value in ((k.replace("module.", ""), v) for k, v in content["state_dict"].items())}  # fmt: skip
    assert set(back["state_dict"]) == set(want)
    assert all(torch.equal(back["state_dict"][key], value) for key, value in want.items())
    assert back["epoch"] == content["epoch"] and back["arch"] == content["arch"]


def test_an_exported_model_is_what_the_foreign_network_computes(images):
    """A model of ours, written in their layout, computed by their network."""
    model = create_model("resnet18", "svd_exact", 5, dim=6).eval()
    checkpoint, summary = _as_checkpoint(model)
    state = export(checkpoint, summary, "differentiable_svd", model.state_dict())["state_dict"]
    assert all(key.startswith(("features.module.", "representation.conv_dr_block.", "classifier.")) for key in state)
    back = {new: old for old, new in foreign.SEQUENTIAL.items()}
    body = {key.removeprefix("features.module."): value for key, value in state.items() if key.startswith("features.")}
    body = foreign.rename(body, back)
    head = {key: value for key, value in state.items() if not key.startswith("features.")}
    with torch.no_grad():
        logits = foreign.gcp_logits(
            head, foreign.resnet_map(body, images), "upper", foreign.exact_root,
            "representation.conv_dr_block.0", "representation.conv_dr_block.1", ("classifier",),
        )  # fmt: skip
        assert close(model(images), logits)


def _as_checkpoint(model):
    checkpoint = Checkpoint("model", model.state_dict())
    return checkpoint, summarise(checkpoint)


def test_what_a_layout_has_no_names_for():
    model = create_model("resnet8_cifar", "svd_exact", 5, dim=6)
    checkpoint, summary = _as_checkpoint(model)
    with pytest.raises(CheckpointError, match=r"resnet8_cifar .*svd_pade .*'fast_mpn"):
        export(checkpoint, summary, "fast_mpn_cov", {**model.state_dict(), "head.buckets": torch.zeros(1)})
    with pytest.raises(UnknownNameError, match=r"'fast_mpn'.*Did you mean 'fast_mpn_cov'"):
        export(checkpoint, summary, "fast_mpn", model.state_dict())


def test_pretrained_takes_every_layout(case, caplog):
    """Into a model of other classes: all but the classifier, and a word about what was left out."""
    name, path, _, _ = case
    backbone = foreign.BACKBONES.get(name, "resnet18")
    gcp = name in foreign.GCP
    options = {"head": "svd_pade" if gcp else "average", "dim": 6 if gcp else None}
    options |= {"hidden": (9, 8) if name in foreign.BACKBONES else (), "dropout": 0.5 * (name == "mpncov_vgg")}
    with caplog.at_level(logging.WARNING, "gcp"):
        model = create_model(backbone, num_classes=3, pretrained=path, **options)
    state = read_checkpoint(path).state
    full = ours(read_checkpoint(path), summarise(read_checkpoint(path)))
    own = model.state_dict()
    last = "classifier.4" if name.endswith("alexnet") else "classifier.6" if name == "mpncov_vgg" else "classifier."
    same = [key for key in full if not key.startswith(last)]
    assert len(same) == len(state) - 2 and all(torch.equal(own[key], full[key]) for key in same)
    assert re.search("new: .*classifier", caplog.text)
    assert "features" not in caplog.text


def test_pretrained_with_another_width_keeps_the_backbone(tmp_path, caplog):
    content, _ = foreign.build("fast_mpn_cov")
    torch.save(content, tmp_path / "file.pth")
    model = create_model("resnet18", "svd_pade", 5, dim=4, last_stride=1, pretrained=tmp_path / "file.pth")
    assert torch.equal(model.features.body.conv1.weight, content["conv1.weight"])
    assert re.search(r"head\.reduction\.0\.weight \(\(6, 512, 1, 1\) .*file, \(4, 512, 1, 1\) .*model\)", caplog.text)


def test_pretrained_warns_of_the_order_where_the_classifier_is_taken(tmp_path, caplog):
    content, _ = foreign.build("fast_mpn_cov")
    torch.save(content, tmp_path / "file.pth")
    create_model("resnet18", "newton_schulz", 5, dim=6, pretrained=tmp_path / "file.pth")
    assert re.search(r"upper triangle.* 2018 .*lower", caplog.text)
    caplog.clear()
    create_model("resnet18", "newton_schulz", 4, dim=6, pretrained=tmp_path / "file.pth")
    create_backbone("resnet18", pretrained=tmp_path / "file.pth")
    assert "triangle" not in caplog.text


@pytest.mark.parametrize(("name", "first"), [("vgg11_bn", "body.features.0."), ("torchvision/vgg11_bn", "body.0.")])
def test_vgg_of_either_library_takes_the_file(name, first):
    content, _ = foreign.build("mpncov_vgg")
    state = {key.replace("module.", ""): value for key, value in content["state_dict"].items()}
    with torch.device("meta"):
        target = create_backbone(name).state_dict()
    found = translate(Checkpoint("file", state), target, prefix="features.")
    assert torch.equal(found[f"{first}weight"], state["features.0.weight"]) and set(target) <= set(found)


def test_averaged_weights_of_timm_are_taken(tmp_path, caplog):
    content, _ = foreign.build("timm")
    content["state_dict"] = {key: torch.zeros_like(value) for key, value in content["state_dict"].items()}
    torch.save(content, tmp_path / "file.pth")
    with caplog.at_level(logging.INFO, "gcp"):
        backbone = create_backbone("resnet18", pretrained=tmp_path / "file.pth")
    assert backbone.body.conv1.weight.abs().sum() > 0
    assert re.search(r"averaged .*'state_dict_ema'", caplog.text)


@pytest.mark.parametrize("name", ["resnet50", "wide_resnet50_2", "resnext50_32x4d", "resnet20_cifar"])
def test_backbones_are_told_by_their_shapes(name):
    with torch.device("meta"):
        model = create_model(name, "svd_pade", 4, dim=3)
    assert summarise(Checkpoint("file", model.state_dict())).backbone == name


def test_an_unusual_backbone_is_asked_for(tmp_path):
    model = create_model("test_resnet", "svd_pade", 4, dim=3)
    checkpoint, summary = _as_checkpoint(model)
    assert summary.backbone is None
    with pytest.raises(CheckpointError, match=r"none of the usual ones; name it by --backbone NAME"):
        build_model(checkpoint, summary)
    summary = summarise(checkpoint, backbone="test_resnet", head="svd_taylor")
    built = build_model(checkpoint, summary)
    assert built.arguments["head"] == "svd_taylor"
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in built.state_dict().items())
    with pytest.raises(CheckpointError, match="does not hold the weights of backbone 'resnet18'"):
        summarise(checkpoint, backbone="resnet18")


def model_for(path, **changes):
    """A model of ours with other numbers than the file's."""
    checkpoint = read_checkpoint(path)
    model = build_model(checkpoint, summarise(checkpoint), **changes)
    zero(model)
    return model


@torch.no_grad()
def zero(model):
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.zero_()


def test_load_state_dict_takes_the_file(case, caplog):
    name, path, content, _ = case
    model = model_for(path)
    wanted = {key: value for key, value in load(path).state_dict().items() if not key.endswith("num_batches_tracked")}
    for given in (content, read_checkpoint(path).state):  # as the file has it, and its state dict alone
        zero(model)
        caplog.clear()
        result = model.load_state_dict(given)
        assert not result.missing_keys and not result.unexpected_keys
        assert caplog.text.count("load_state_dict:") == 1 and LAYOUT_OF.get(name, name) in caplog.text
        assert all(torch.equal(model.state_dict()[key], value) for key, value in wanted.items())


def test_load_state_dict_stays_strict(tmp_path, caplog):
    content, _ = foreign.build("differentiable_svd")
    path = tmp_path / "file.pth.tar"
    torch.save(content, path)
    state = dict(read_checkpoint(path).state)
    model = model_for(path)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(RuntimeError, match=r"(?s)Unexpected.*extra.weight"):
        model.load_state_dict(state | {"extra.weight": torch.zeros(1)})
    del state["representation.conv_dr_block.0.weight"]
    with pytest.raises(RuntimeError, match=r"(?s)Missing.*head.reduction.0.weight"):
        model_for(path).load_state_dict(state)
    with pytest.raises(RuntimeError, match=r"(?s)Missing.*Unexpected.*'?other"):
        model.load_state_dict({"other": torch.zeros(1)})
    part = {"classifier.bias": torch.ones_like(before["classifier.bias"])}
    caplog.clear()
    model.load_state_dict(part, strict=False)
    assert torch.equal(model.classifier.bias, part["classifier.bias"]) and caplog.text == ""


def test_load_state_dict_says_what_differs(tmp_path, caplog):
    content, _ = foreign.build("fast_mpn_cov")
    path = tmp_path / "file.pth"
    torch.save(content, path)
    model = model_for(path, last_stride=2)
    model.load_state_dict(torch.load(path, weights_only=False))
    assert re.search("last_stride=1, this model has 2.*upper triangle", caplog.text)
    caplog.clear()
    with pytest.raises(RuntimeError, match=r"(?s)Unexpected.*head.reduction"):
        create_model(**model.arguments | {"dim": None}).load_state_dict(torch.load(path, weights_only=False))
    assert re.search(r"dim=\d+, this model has None", caplog.text)
