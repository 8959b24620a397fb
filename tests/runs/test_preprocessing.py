"""Images are prepared as the pretrained weights expect, in training and after it, unless the user says otherwise."""

import numpy as np
import pytest
import timm
import torch
from config_fixtures import saying
from PIL import Image
from torch import nn

from gcp.config import dump, from_dict, load
from gcp.config.load import with_images_of
from gcp.data.transforms import OWN, Preprocessing, create_transform
from gcp.engine.distributed import ALONE
from gcp.errors import ConfigError, OptionError
from gcp.models.preprocessing import expected
from gcp.runs import build
from gcp.runs.classifier import ClassifierRun
from gcp.runs.open_model import open_model
from gcp.runs.trained import load as load_trained

TINY = ("test_resnet", "test_convnext", "test_efficientnet", "test_vit", "test_nfnet", "test_byobnet")
# Their classifier reads the mean of the map, as ours does; no two prepare images alike.
POOLED = (
    "test_resnet", "test_efficientnet", "test_nfnet", "tf_efficientnet_lite1", "resnet10t", "regnetx_002",
    "mobilevit_xxs", "mobilevitv2_050", "tf_efficientnet_lite0", "tf_efficientnetv2_b3", "cs3darknet_focus_s",
)  # fmt: skip


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    for number, (width, height) in enumerate([(90, 70), (64, 120), (200, 31), (180, 180)]):
        for split in ("train", "test"):
            folder = root / split / "ab"[number % 2]
            folder.mkdir(parents=True, exist_ok=True)
            coarse = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
            Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return root


def configuration(photographs, backbone, pretrained, **data):
    return from_dict(
        {
            "model": {"backbone": backbone, "pretrained": pretrained},
            "head": {"name": "average", "dim": None},
            "data": {"name": "folder", "root": str(photographs), "val_fraction": 0, **data},
        }
    )


def weights(name, path):
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=2).eval()
    torch.save(model.state_dict(), path)
    return model


@pytest.mark.parametrize("name", TINY)
def test_the_logits_are_those_of_timms_own_evaluation(photographs, tmp_path, name):
    theirs = weights(name, tmp_path / "weights.pt")
    config = build.with_preprocessing(configuration(photographs, name, str(tmp_path / "weights.pt")))
    settings = timm.data.resolve_data_config({}, model=theirs)
    transform = timm.data.create_transform(**settings, is_training=False)
    test = build.build_splits(config).test
    ours = test.normalize(test.read(range(len(test)))[0])
    expected_images = torch.stack([transform(Image.open(path)) for path in test.paths])
    assert config.data.image_size == settings["input_size"][-1]
    torch.testing.assert_close(ours, expected_images, rtol=0, atol=2e-6)
    model = build.build_model(config, 2, torch.device("cpu")).eval()
    with torch.no_grad():
        torch.testing.assert_close(model(ours), model(expected_images), rtol=1e-4, atol=1e-5)
        if name in ("test_resnet", "test_efficientnet"):  # the linear layer reads the mean of the map
            torch.testing.assert_close(model(ours), theirs(expected_images), rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def fifty(tmp_path_factory):
    """Fifty test images of as many sizes, up to 180 pixels, and two to train on."""
    root, rng = tmp_path_factory.mktemp("fifty"), np.random.default_rng(1)
    for number in range(52):
        folder = root / ("test" if number < 50 else "train") / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        width, height = (int(side) for side in rng.integers(40, 181, 2))
        coarse = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return root


@pytest.mark.parametrize("name", POOLED)
def test_fifty_images_have_the_tensors_and_logits_of_timm(fifty, tmp_path, name):
    """The classifiers are made alike: of a file whose classifier is `head.fc` the backbone alone is loaded."""
    theirs = weights(name, tmp_path / "weights.pt")
    config = build.with_preprocessing(configuration(fifty, name, str(tmp_path / "weights.pt")))
    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=theirs), is_training=False)
    test = build.build_splits(config).test
    model = build.build_model(config, 2, torch.device("cpu")).eval()
    for linear in (model.classifier, theirs.get_classifier()):
        torch.manual_seed(1)
        nn.init.normal_(linear.weight)
        nn.init.normal_(linear.bias)
    assert len(test) == 50
    for indices in torch.arange(50).split(10):
        ours = test.normalize(test.read(indices.tolist())[0])
        expected_images = torch.stack([transform(Image.open(test.paths[index])) for index in indices])
        torch.testing.assert_close(ours, expected_images, rtol=0, atol=2e-6)
        if indices[0] == 0:
            with torch.no_grad():
                found, logits = model(ours[:6]), theirs(expected_images[:6])
            torch.testing.assert_close(found, logits, rtol=0, atol=1e-4 * logits.abs().max().item())


def test_the_preprocessings_compared_differ():
    configs = [timm.get_pretrained_cfg(name).to_dict() for name in POOLED]
    resolved = [timm.data.resolve_data_config(pretrained_cfg=config) for config in configs]
    assert len({repr(sorted(one.items())) for one in resolved}) == len(POOLED) >= 10


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize(("channels", "interpolation"), [(3, "bicubic"), (1, "bilinear")])
def test_every_crop_is_timms(photographs, mode, channels, interpolation):
    told = Preprocessing((0.3, 0.5, 0.7), (0.2, 0.3, 0.4), interpolation, 0.8, mode)
    mean, std = (told.mean, told.std) if channels == 3 else ((0.5,), (0.3,))
    own = create_transform("none", "random_resized_crop", 48, channels, told)
    theirs = timm.data.create_transform(
        (channels, 48, 48), interpolation=interpolation, mean=mean, std=std, crop_pct=0.8, crop_mode=mode
    )
    for path in photographs.glob("test/*/*.png"):
        image = Image.open(path).convert("RGB" if channels == 3 else "L")
        pixels = torch.from_numpy(np.asarray(image).copy()).view(image.height, image.width, channels).permute(2, 0, 1)
        if max(image.size) < 5 * min(image.size) or mode == "center":
            torch.testing.assert_close(own.normalize(own([pixels], None))[0], theirs(image), rtol=0, atol=2e-6)


def test_what_the_user_says_stands_above_the_weights(photographs):
    said = {"mean": [0.5], "interpolation": "bilinear", "image_size": 64}
    data = build.with_preprocessing(configuration(photographs, "test_vit", True, **said)).data
    assert (data.mean, data.interpolation, data.image_size) == ((0.5,), "bilinear", 64)
    assert data.crop_pct == timm.get_pretrained_cfg("test_vit").crop_pct
    plain = configuration(photographs, "test_vit", True, preprocessing="dataset")
    assert build.with_preprocessing(plain) is plain and build.preprocessing(plain.data) == OWN


def test_nothing_is_asked_twice(photographs, capsys):
    first = build.with_preprocessing(configuration(photographs, "test_vit", True))
    assert "bicubic" in capsys.readouterr().out
    assert build.with_preprocessing(first) is first
    assert with_images_of(configuration(photographs, "test_vit", True), first) == first


def test_images_in_memory_take_the_statistics_alone():
    config = from_dict({"model": {"backbone": "resnet18", "pretrained": True}, "data": {"name": "digits"}})
    data = build.with_preprocessing(config).data
    assert data.mean == (0.485, 0.456, 0.406) and data.crop_pct is None and data.image_size == "auto"
    normalize = build.build_splits(build.with_preprocessing(config)).test.normalize
    assert normalize.mean == data.mean


def test_a_run_tells_its_images_to_who_comes_after(photographs, tmp_path):
    weights("test_resnet", tmp_path / "weights.pt")
    config = configuration(photographs, "test_resnet", str(tmp_path / "weights.pt"), image_size=32)
    settings = ["train.epochs=1", "train.batch_size=2", f"run.dir={tmp_path}", "run.name=one", "data.workers=0"]
    run = ClassifierRun(from_dict(config.plain(), settings), folder_of(tmp_path))
    run.folder.path.mkdir()
    assert run.resume() == 0
    (tmp_path / "weights.pt").unlink()
    mean = timm.get_pretrained_cfg("test_resnet").mean
    assert load(run.folder.config, written=True).data.mean == tuple(mean)
    trained = load_trained(run.folder.path)
    assert trained.transform.normalize.mean == tuple(mean)
    assert ClassifierRun(load(run.folder.config, written=True), run.folder).config == run.config
    told, origin = expected(str(run.folder.path), "test_resnet")
    assert told["mean"] == list(mean) and told["crop_pct"] == run.config.data.crop_pct and "one" in origin


def test_the_test_images_have_the_size_at_which_the_authors_test(photographs, tmp_path, capsys):
    """resnet18.a1_in1k is trained at 224 and tested at 288 pixels, uncropped; test images and opened models are so."""
    weights("resnet18", tmp_path / "weights.pt")
    asked = configuration(photographs, "resnet18", str(tmp_path / "weights.pt"), image_size=32, transform="square")
    asked = from_dict(asked.plain(), ["evaluate.image_size=weights"])
    cfg, found = timm.get_pretrained_cfg("resnet18"), build.with_preprocessing(asked).evaluate
    assert (found.image_size, found.crop_pct) == (cfg.test_input_size[-1], cfg.test_crop_pct)
    assert "test       image_size 288" in capsys.readouterr().out
    smaller = [f"evaluate.image_size={SMALL}", "train.epochs=1", "train.batch_size=2", "data.workers=0"]
    config = from_dict(asked.plain(), [*smaller, f"run.dir={tmp_path}", "run.name=one"])
    seen = []
    run = ClassifierRun(config, folder_of(tmp_path))
    run.model.register_forward_pre_hook(lambda _, images: seen.append((run.model.training, images[0].shape[-1])))
    run.folder.path.mkdir()
    assert run.resume() == 0 and set(seen) == {(True, 32), (False, SMALL)}
    opened = {words: open_model(str(run.folder.path), list(words), ALONE) for words in OVERRIDES}
    assert {words: model.image_size for words, model in opened.items()} == OVERRIDES
    assert opened[()].splits().test.read([0])[0].shape[-1] == SMALL
    assert load_trained(run.folder.path).prepare(Image.new("RGB", (9, 9))).shape[-1] == SMALL
    assert expected(str(run.folder.path), "resnet18", tested=True)[0]["image_size"] == SMALL
    assert expected(str(run.folder.path), "resnet18")[0]["image_size"] == 32


SMALL = 64
OVERRIDES = {(): SMALL, ("data.image_size=40",): 40, ("evaluate.image_size=48",): 48, ("evaluate.image_size=null",): 32}


def test_a_size_at_which_nobody_tests():
    config = from_dict({"evaluate": {"image_size": "weights"}})
    with pytest.raises(ConfigError, match=saying("evaluate.image_size weights model.pretrained")):
        build.with_preprocessing(config)
    with pytest.raises(ConfigError, match=saying("evaluate.crop_pct 0.5 evaluate.image_size")):
        from_dict({"evaluate": {"crop_pct": 0.5}})


def folder_of(tmp_path):
    from gcp.engine.folder import RunFolder

    return RunFolder(tmp_path / "one")


def test_a_configuration_of_before_keeps_what_it_was_trained_with(tmp_path):
    config = from_dict({"model": {"backbone": "resnet18", "pretrained": True}})
    lines = dump(config).splitlines()
    keys = ("preprocessing", "mean", "std", "interpolation", "crop_pct", "crop_mode")
    (tmp_path / "config.yaml").write_text("\n".join(line for line in lines if line.strip().split(":")[0] not in keys))
    assert load(tmp_path / "config.yaml", written=True).data.preprocessing == "dataset"
    assert load(tmp_path / "config.yaml").data.preprocessing == "weights"


def test_a_file_of_a_timm_model_is_evaluated_as_timm_does(tmp_path):
    weights("resnet18", tmp_path / "resnet18.pt")
    found = open_model(str(tmp_path / "resnet18.pt"), [], ALONE, scored=False)
    cfg = timm.get_pretrained_cfg("resnet18")
    assert found.image_size == cfg.test_input_size[-1]
    assert found.config.data.crop_pct == cfg.test_crop_pct and found.config.data.interpolation == "bicubic"


def test_what_transformers_says_beside_a_file_counts(tmp_path):
    weights("resnet18", tmp_path / "resnet18.pt")
    (tmp_path / "preprocessor_config.json").write_text(
        '{"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6], "resample": 2, "size": {"shortest_edge": 256},'
        ' "do_center_crop": true, "crop_size": {"height": 224, "width": 224}}'
    )
    told, origin = expected(str(tmp_path / "resnet18.pt"), "resnet18")
    assert told["mean"] == [0.1, 0.2, 0.3] and told["interpolation"] == "bilinear" and told["crop_pct"] == 0.875
    assert origin.endswith("preprocessor_config.json")


def test_faults():
    with pytest.raises(ConfigError, match=saying("data.interpolation bicubic")):
        from_dict({"data": {"interpolation": "cubic"}})
    with pytest.raises(ConfigError, match=saying("data.crop_pct")):
        from_dict({"data": {"crop_pct": 1.5}})
    with pytest.raises(OptionError, match=saying("data.mean 3")):
        create_transform("none", "square", 8, 3, Preprocessing(mean=(0.5, 0.5)))


def test_a_transform_of_ones_own_is_given_the_statistics():
    from gcp.data.transforms import TRANSFORMS, PerImage

    TRANSFORMS.add("mine", lambda size, channels: PerImage(nn.Identity(), nn.Identity()), summary="")
    try:
        made = create_transform("mine", "square", 8, 3, Preprocessing(mean=(0.5,), crop_pct=0.9))
    finally:
        TRANSFORMS._entries.pop("mine")
    assert made.normalize.mean == (0.5, 0.5, 0.5) and made.normalize.std == (0.229, 0.224, 0.225)
