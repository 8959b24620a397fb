"""A model of three classes of shapes, scored on folders that it could not be trained on."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from gcp.engine import checkpoint

SETTINGS = """\
run: {threads: 1, device: cpu}
data: {name: folder, root: photos, image_size: 16, transform: none, workers: 0}
model: {backbone: resnet8_cifar}
head: {name: average, dim: null}
optim: {lr: 0.05}
train: {epochs: 2, batch_size: 16}
"""


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def photos(here):
    for label, name in enumerate(("blue", "green", "red")):
        (here / "photos" / name).mkdir(parents=True)
        for place in range(15):
            pixels = np.random.default_rng(100 * label + place).integers(0, 120, (16, 16, 3), dtype=np.uint8)
            pixels[..., label] += 110
            Image.fromarray(pixels).save(here / "photos" / name / f"{place}.png")
    (here / "own.yaml").write_text(SETTINGS)
    return here / "photos"


@pytest.fixture
def trained(photos, train):
    answer = train("--config", "own.yaml", "run.name=x")
    assert answer.code == 0
    return answer


def fact(answer, key):
    return next(line[12:] for line in answer.out.splitlines() if line.startswith(key))


def test_the_end_of_a_run_says_how_to_use_it(trained):
    assert "predict    " in trained.out and "predict runs/x IMAGES" in trained.out
    assert "33 images; validation" not in trained.out and "Test: 9 images" in trained.out


def test_its_own_pool_is_scored_by_its_test_split(trained, evaluate):
    answer = evaluate("--checkpoint", "x")
    assert answer.code == 0 and ", 9 images" in fact(answer, "split")


def test_another_pool_is_scored_as_a_whole(trained, evaluate, photos, here):
    shutil.copytree(photos, here / "more")
    (here / "more" / "red" / "0.png").rename(here / "more" / "red" / "new.png")
    answer = evaluate("--checkpoint", "x", "data.root=more")
    assert answer.code == 0 and ", 45 images" in fact(answer, "split")


def test_a_folder_with_a_test_split_alone(trained, evaluate, photos, here, refused):
    shutil.copytree(photos, here / "other" / "test")
    answer = evaluate("--checkpoint", "x", "data.root=other", "--report", "r")
    assert answer.code == 0 and ", 45 images" in fact(answer, "split")
    assert "split=val" in refused(evaluate("--checkpoint", "x", "data.root=other", "split=val"))


def test_a_part_of_the_classes(trained, evaluate, photos, here, refused):
    """The logits of the others are left out: accuracy is that among two."""
    for name in ("blue", "red"):
        shutil.copytree(photos / name, here / "part" / name)
    answer = evaluate("--checkpoint", "x", "data.root=part", "--report", "r")
    assert answer.code == 0 and "2 of the 3 of the model" in fact(answer, "classes")
    rows = (here / "r" / "predictions.csv").read_text()
    assert "green" not in rows and ", 30 images" in fact(answer, "split")
    (here / "part" / "redd").mkdir()
    shutil.copy(photos / "red" / "0.png", here / "part" / "redd")
    text = refused(evaluate("--checkpoint", "x", "data.root=part"))
    assert "no class 'redd'" in text and "Did you mean 'red'" in text


def test_the_gain_over_average_pooling(photos, train):
    words = ["head.name=covariance", "head.dim=8", "train.epochs=1", "run.name=y", "compare_average=true"]
    answer = train("--config", "own.yaml", *words)
    assert answer.code == 0 and "covariance against average pooling" in answer.out and "of 9 test images" in answer.out
    assert "gcp ablate --tune optim.lr=" in answer.out
    head = checkpoint.load("runs/y-average/best.pt")["config"]["head"]
    assert head["name"] == "average" and head["dim"] is None


@pytest.mark.parametrize(
    "words", [["data.root=nowhere"], ["optim.lrr=1"], ["model.pretrained=none.pt"], ["data.root=no", "run.dir=a/runs"]]
)
def test_a_run_that_fails_before_its_first_step_leaves_nothing(words, photos, train, refused, here):
    before = sorted(here.rglob("*"))
    for more in ([], ["run.name=x"], ["compare_average=true"]):
        refused(train("--config", "own.yaml", *words, *more))
        assert sorted(here.rglob("*")) == before


@pytest.mark.parametrize("word", ["compare_average=yes", "compare_average=true"])
def test_mistakes_of_the_comparison(word, photos, train, refused):
    extra = ["run.name=z", "resume=auto"] if word.endswith("true") else []
    assert "compare_average" in refused(train("--config", "own.yaml", word, *extra))


def test_the_name_of_the_comparison_misspelt(photos, train, refused):
    assert "did you mean compare_average=true" in refused(train("--config", "own.yaml", "compare_averag=true"))
    assert "compare_average" not in refused(train("--config", "own.yaml", "comment=true"))


def test_classes_weighted_and_drawn(photos, train):
    shutil.rmtree(photos / "red")
    for place in range(10):
        (photos / "green" / f"{place}.png").unlink()
    words = ["data.sampling=balanced", "train.class_weights=sqrt", "train.epochs=1", "run.name=w"]
    assert train("--config", "own.yaml", *words).code == 0
    assert torch.isfinite(torch.tensor(checkpoint.load("runs/w/best.pt")["scores"]["loss"]))
