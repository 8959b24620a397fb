"""Names of others: a prefix comes off, transformers' and lukemelas' become timm's, files in several parts are one."""

import json
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models.convnext import ConvNeXt
from timm.models.vision_transformer import VisionTransformer
from torchvision.models.resnet import Bottleneck, ResNet

import gcp
from gcp.errors import CheckpointError
from gcp.models import create_backbone
from gcp.models.checkpoints import read_checkpoint
from gcp.models.names import FAMILIES, LUKEMELAS, common_prefix, plain_names
from gcp.models.summary import summarise
from gcp.models.weights import load_backbone
from gcp.runs.weights import format_summary

# What transformers 5.24 writes for tiny networks, whose outputs are those of the networks below to 1e-5.
KEYS = json.loads(Path(__file__).with_name("transformers_keys.json").read_text())
SIZES = {"patch_size": 16, "img_size": 64, "embed_dim": 32, "depth": 2, "num_heads": 2, "mlp_ratio": 2}
NETWORKS = {
    "resnet": lambda: ResNet(Bottleneck, [1, 1, 1, 1], num_classes=5),
    "vit": lambda: VisionTransformer(**SIZES, num_classes=5),
    "convnext": lambda: ConvNeXt(dims=(16, 32, 48, 64), depths=(1, 2, 1, 1), num_classes=5),
    "dinov2": lambda: VisionTransformer(
        **SIZES | {"patch_size": 14, "img_size": 56}, num_classes=0, init_values=1e-5
    ),
}  # fmt: skip


def weights_of(backbone="resnet18"):
    torch.manual_seed(0)
    return timm.create_model(backbone, num_classes=3).state_dict()


@pytest.mark.parametrize("name", KEYS)
def test_transformers_names_are_timms(name):
    with torch.device("meta"):
        state = {key: torch.empty(shape) for key, shape in KEYS[name].items()}
        own = NETWORKS[name]().state_dict()
    found, names, told = plain_names(state)
    assert {key: value.shape for key, value in found.items()} == {key: value.shape for key, value in own.items()}
    assert {"resnet": "ResNet", "vit": "ViT", "convnext": "ConvNeXt", "dinov2": "DINOv2"}[name] in told
    assert set(names.values()) <= set(state) and len(FAMILIES) == len(KEYS)


def test_query_key_and_value_are_stacked():
    state = {f"encoder.layer.0.attention.attention.{part}.weight": torch.full((2, 2), float(number))
             for number, part in enumerate(("query", "key", "value"))}  # fmt: skip
    state["encoder.layer.0.layernorm_before.weight"] = torch.ones(2)
    found = plain_names(state)[0]
    assert found["blocks.0.attn.qkv.weight"][:, 0].tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("prefix", ["model.", "net.", "model.net.", "module.encoder_q.", "module.model."])
def test_a_common_prefix_comes_off(tmp_path, caplog, prefix):
    plain = weights_of()
    state = {prefix + key: value for key, value in plain.items()} | {"criterion.weight": torch.ones(3)}
    if "encoder_q" in prefix:
        state |= {f"module.encoder_k.{key}": value + 1 for key, value in plain.items() if value.is_floating_point()}
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "last.ckpt")
    found = read_checkpoint(tmp_path / "last.ckpt")
    assert found.state.keys() == plain.keys() and all(torch.equal(found.state[key], plain[key]) for key in plain)
    assert found.names and found.wrapped["conv1.weight"] == f"{prefix}conv1.weight"
    summary = summarise(found)
    assert summary.backbone == "resnet18" and "prefix" in format_summary(found, summary)
    with caplog.at_level("INFO"):
        load_backbone(create_backbone("resnet18"), tmp_path / "last.ckpt")
    told = [line for line in caplog.messages if "layout" in line]
    assert len(told) == 1 and "last.ckpt" in told[0] and "plain" in told[0] and found.names in told[0]


@pytest.mark.parametrize("name", ["resnet18", "xcit_nano_12_p16_224", "test_vit", "torchvision"])
def test_plain_names_stay(name):
    state = ResNet(Bottleneck, [1, 1, 1, 1]).state_dict() if name == "torchvision" else weights_of(name)
    found, names, told = plain_names(state)
    assert list(found) == list(state) and not names and not told
    assert common_prefix(["features.body.conv1.weight", "classifier.weight"]) == ""


@pytest.mark.parametrize("classifier", ["head.fc.", "fc.", "classifier.", "head."])
def test_a_backbone_brings_its_classifier(tmp_path, classifier):
    plain = weights_of()
    state = {key.replace("fc.", classifier) if key[:3] == "fc." else f"backbone.{key}": v for key, v in plain.items()}
    torch.save(state, tmp_path / "whole.pth")
    model = gcp.create_model("resnet18", "average", 3, pretrained=tmp_path / "whole.pth")
    assert torch.equal(model.classifier.weight, plain["fc.weight"])
    assert torch.equal(model.features.body.conv1.weight, plain["conv1.weight"])


def test_efficientnet_counts_its_blocks_through():
    model = timm.create_model("tf_efficientnet_b0")
    blocks = [(stage, number) for stage, each in enumerate(model.blocks) for number in range(len(each))]
    from gcp.models.names import INVERTED, OUTSIDE, SEPARABLE

    state = {}
    for key, value in model.state_dict().items():
        parts = key.split(".")
        if parts[0] == "blocks":
            names = SEPARABLE if parts[1] == "0" else INVERTED
            layer = ".".join(parts[3:5]) if parts[3] == "se" else parts[3]
            theirs = next(old for old, new in names.items() if new == layer)
            state[f"_blocks.{blocks.index((int(parts[1]), int(parts[2])))}.{theirs}.{parts[-1]}"] = value
        else:
            state[f"{next(old for old, new in OUTSIDE.items() if new == parts[0])}.{parts[1]}"] = value
    found, _, told = plain_names(state)
    assert LUKEMELAS in told and found.keys() == model.state_dict().keys()
    assert all(found[key] is value for key, value in model.state_dict().items() if key in found) or all(
        torch.equal(found[key], value) for key, value in model.state_dict().items()
    )


def test_a_folder_of_several_files(tmp_path):
    plain, places = {key: value.clone() for key, value in weights_of().items()}, {}
    for number in range(2):
        part = {key: value for place, (key, value) in enumerate(plain.items()) if place % 2 == number}
        save_file(part, tmp_path / f"model-{number}.safetensors")
        places |= dict.fromkeys(part, f"model-{number}.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    for given in (tmp_path, index):
        found = read_checkpoint(given).state
        assert found.keys() == plain.keys() and all(torch.equal(found[key], plain[key]) for key in plain)
    index.write_text(json.dumps({"weight_map": {**places, "more": "../elsewhere.safetensors"}}))
    with pytest.raises(CheckpointError, match=r"elsewhere\.safetensors"):
        read_checkpoint(tmp_path)
    index.write_text("[]")
    with pytest.raises(CheckpointError, match="index"):
        read_checkpoint(tmp_path)
