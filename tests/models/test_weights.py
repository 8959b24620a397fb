"""Files into models: whole, in part with a warning that says which, or refused."""

import logging
import re

import pytest
import torch

from gcp.errors import CheckpointError
from gcp.models import create_backbone, create_model


def model_of(**options):
    return create_model(**({"backbone": "resnet8_cifar", "head": "average", "num_classes": 5, "dim": 8} | options))


def same(a, b, part):
    ours, theirs = (getattr(m, part).state_dict() for m in (a, b))
    return all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.fixture
def saved(tmp_path):
    model = model_of()
    path = tmp_path / "best.pt"
    torch.save({"model": model.state_dict(), "epoch": 3, "optimizer": {"lr": 0.1}}, path)
    return model, path


@pytest.mark.parametrize("wrap", ["model", "state_dict", "plain", "module", "compiled"])
def test_layouts_of_our_own(tmp_path, wrap, caplog):
    model = model_of()
    state = model.state_dict()
    content = {
        "model": {"model": state},
        "state_dict": {"state_dict": state, "arch": "x"},
        "plain": state,
        "module": {"model": {f"module.{key}": value for key, value in state.items()}},
        "compiled": {"model": {f"_orig_mod.module.{key}": value for key, value in state.items()}},
    }[wrap]
    torch.save(content, tmp_path / "file.pt")
    again = model_of(pretrained=str(tmp_path / "file.pt"))
    assert all(same(model, again, part) for part in ("features", "head", "classifier"))
    assert not caplog.records


def test_other_class_count_keeps_the_rest_and_says_so(saved, caplog):
    model, path = saved
    with caplog.at_level(logging.WARNING, logger="gcp"):
        again = model_of(pretrained=path, num_classes=7)
    assert same(model, again, "features") and same(model, again, "head")
    (record,) = caplog.records
    assert re.search(
        r"loaded \d+ of \d+ tensors of best\.pt; new: classifier \(7 classes, 5 .*file\)$", record.getMessage()
    )


def test_other_reduction_width_keeps_the_backbone(saved, caplog):
    model, path = saved
    again = model_of(pretrained=path, dim=4)
    assert same(model, again, "features")
    short, full = (record.getMessage() for record in caplog.records)
    # The bias of the classifier has the same shape, but belongs to a weight that was left out.
    assert short.endswith("; new: head, classifier")
    assert re.search(r"head\.reduction\.0\.weight \(\(8, 64, 1, 1\) .*file, \(4, 64, 1, 1\) .*model\)", full)
    assert "classifier" not in full, "it follows from the head"
    assert not torch.equal(model.classifier.bias, again.classifier.bias)


def test_hidden_layers_are_kept_where_only_the_last_differs(tmp_path, caplog):
    model = model_of(hidden=[6])
    torch.save(model.state_dict(), tmp_path / "file.pt")
    again = model_of(hidden=[6], num_classes=9, pretrained=tmp_path / "file.pt")
    assert torch.equal(model.classifier[0].weight, again.classifier[0].weight)
    assert "new: classifier.2 (9 classes" in caplog.text and "classifier.0" not in caplog.text


def test_a_classifier_behind_the_same_head_that_takes_another_width(saved, caplog):
    """It follows neither from the classes nor from the head, so it is told in full."""
    model, path = saved
    torch.save({**model.state_dict(), "classifier.weight": torch.ones(5, 9)}, path)
    model_of(pretrained=path)
    short, full = (record.getMessage() for record in caplog.records)
    assert short.endswith("; new: classifier")
    assert re.search(r"classifier\.weight \(\(5, 9\) .*file, \(5, 8\) .*model\)$", full)


def test_a_head_that_the_file_has_in_part(saved, caplog):
    _, path = saved
    model_of(head="second_moment", output_scale="measured", pretrained=path)
    assert "new: head.scales, head.measured_on, classifier" in caplog.text


def test_a_first_convolution_for_colours_is_summed_for_grey(saved, caplog):
    """It answers a grey image as it would three equal channels; nothing is left out."""
    model, path = saved
    again = model_of(pretrained=path, in_chans=1)
    image = torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        grey, colour = again.features.body.conv1(image), model.features.body.conv1(image.expand(-1, 3, -1, -1))
    assert torch.allclose(grey, colour, atol=1e-5) and "loaded" not in caplog.text


def test_other_input_channels_leave_out_the_first_convolution(saved, caplog):
    model, path = saved
    again = model_of(pretrained=path, in_chans=4)
    assert same(model.features.body, again.features.body, "layer3")
    assert "features.body.conv1.weight" in caplog.text


@pytest.mark.parametrize("name", ["torchvision/resnet18", "torchvision/alexnet", "test_resnet"])
def test_files_of_torchvision_and_timm_fill_the_backbone(tmp_path, name, caplog):
    import timm
    import torchvision

    plain = name.removeprefix("torchvision/")
    if plain == "alexnet":  # with a small classifier: its own has 58 million weights
        source = torch.nn.ModuleDict({"features": torchvision.models.AlexNet().features, "fc": torch.nn.Linear(2, 2)})
    else:
        source = torchvision.models.resnet18() if name != plain else timm.create_model(plain)
    torch.save(source.state_dict(), tmp_path / "file.pth")
    model = create_model(name, "average", 5, hidden=(), pretrained=tmp_path / "file.pth")
    first = next(iter(source.state_dict().values()))
    assert torch.equal(next(iter(model.features.body.state_dict().values())), first)
    assert re.search(r"new: classifier; only .*file: fc$", caplog.text.strip())


def test_safetensors(tmp_path):
    from safetensors.torch import save_file

    model = model_of()
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    assert same(model, model_of(pretrained=tmp_path / "model.safetensors"), "classifier")


def test_backbone_alone(saved):
    model, path = saved
    backbone = create_backbone("resnet8_cifar", pretrained=path)
    assert all(torch.equal(v, model.features.state_dict()[k]) for k, v in backbone.state_dict().items())


def test_another_backbone_is_refused_with_the_keys_that_differ(saved):
    _, path = saved
    with pytest.raises(CheckpointError, match=r"best\.pt .*backbone.*features\.body\.layer1\.1\.conv1"):
        model_of(backbone="resnet14_cifar", pretrained=path)


def test_nothing_fits(tmp_path):
    torch.save({"alpha": torch.zeros(1), "beta": torch.zeros(2)}, tmp_path / "file.pt")
    with pytest.raises(CheckpointError, match=r"nothing .*fits .*alpha, beta\b.*model"):
        model_of(pretrained=tmp_path / "file.pt")


def test_damaged_files(saved, tmp_path):
    _, path = saved
    whole = path.read_bytes()
    for length in (0, 100, len(whole) // 2, len(whole) - 10):
        (tmp_path / "cut.pt").write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"cut.pt cannot be read: it is damaged, truncated"):
            model_of(pretrained=tmp_path / "cut.pt")


def test_missing_file_and_file_without_tensors(tmp_path):
    with pytest.raises(CheckpointError, match=r"none\.pt.* does not exist"):
        model_of(pretrained=tmp_path / "none.pt")
    torch.save({"epoch": 3}, tmp_path / "file.pt")
    with pytest.raises(CheckpointError, match="holds no state dict"):
        model_of(pretrained=tmp_path / "file.pt")


def test_nothing_in_a_file_is_executed(tmp_path):
    torch.save(model_of(), tmp_path / "whole.pt")
    with pytest.raises(CheckpointError, match="holds more than plain tensors"):
        model_of(pretrained=tmp_path / "whole.pt")
