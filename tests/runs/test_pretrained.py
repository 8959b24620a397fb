"""The weights that a run starts from: what is said where the file is not there, and what stays of another run's."""

import re

import pytest

from gcp.runs.pretrained import recipe_of


@pytest.fixture
def recipes(here, monkeypatch):
    """A folder of recipes as if they came with the library, of which one names its run; one is not readable as YAML."""
    place = here / "configs" / "digits"
    place.mkdir(parents=True)
    (place / "base.yaml").write_text("data: {name: digits}\n")
    (place / "broken.yaml").write_text("run: {name: [\n")
    (place / "empty.yaml").write_text("run:\n")
    (place / "first.yaml").write_text("run: {name: digits-first}\n")
    for file in place.iterdir():
        file.write_text(f"# {file.stem}\n# command    python train.py\n{file.read_text()}")
    monkeypatch.setattr("gcp.config.recipes.folder", lambda: place.parent)
    return place


def test_recipe_of(recipes):
    assert recipe_of("digits-first") == "digits/first"
    assert recipe_of("digits-second") is None
    assert recipe_of("") is None


def test_the_recipe_of_a_missing_run_is_named(recipes, small, refused, here):
    words = ["model.backbone=resnet18", "data.in_chans=3", "data.image_size=96"]
    text = refused(small(*words, "model.pretrained=runs/digits-first/best.pt"))
    assert re.fullmatch(
        r"no checkpoint.* runs/digits-first/best\.pt\b.*model\.pretrained.*: gcp train --config digits/first "
        r"data\.root=ROOT.*model\.pretrained=FILE.*model\.pretrained=true.*ImageNet.*resnet18\.",
        text,
    )
    assert not (here / "runs").exists()


@pytest.mark.parametrize("file", ["runs/other/best.pt", "best.pt", "configs"])
def test_a_missing_file_of_no_recipe(file, recipes, small, refused):
    text = refused(small(f"model.pretrained={file}"))
    assert re.search(rf"^no checkpoint.* {re.escape(file)}, .*model\.pretrained=FILE", text)
    assert "ImageNet" not in text, "nobody publishes weights of resnet8_cifar"


@pytest.mark.parametrize(
    ("file", "meant"),
    [
        ("evo", "runs/evo"),
        ("runs/evi", "runs/evo"),
        ("else/evo/best.pt", "runs/evo"),
        ("else/evolvd", "else/evolved"),
        ("resnet50.pth", None),
        ("weights/lite1.pt", "weights/lite0.pt"),
        ("weights/resnet50.pt", None),
        ("weights", "weights/lite0.pt"),
    ],
)
def test_the_run_that_is_meant_is_named(file, meant, small, refused, here):
    for run in ("runs/evo", "else/evolved"):
        (here / run).mkdir(parents=True)
        (here / run / "config.yaml").write_text("")
    (here / "weights").mkdir()
    (here / "weights" / "lite0.pt").touch()
    text = refused(small(f"model.pretrained={file}"))
    assert re.search(rf" model\.pretrained={meant}\?$" if meant else r"model\.pretrained=FILE[^?]*$", text)


def test_fine_tuning_on_fewer_classes_keeps_all_but_the_classifier(small, image_folder, here, caplog):
    """Ten classes, then two: the reduction is that of the first run, and one line says what is new."""
    import torch

    assert small("run.name=ten", "train.epochs=1", "data.in_chans=3").code == 0
    words = ["data.name=folder", f"data.root={image_folder}", "data.in_chans=3", "data.per_class=null"]
    words += ["model.pretrained=runs/ten/best.pt", "optim.lr=1e-9", "train.epochs=1", "train.ema=null"]
    caplog.clear()
    answer = small("run.name=two", "data.image_size=16", *words)
    assert answer.code == 0, answer.err
    (line,) = [record.getMessage() for record in caplog.records if "; new: " in record.getMessage()]
    assert re.fullmatch(r"weights +loaded \d+ of \d+ .*best\.pt; new: classifier \(2 classes, 10 .*file\)", line)
    ten, two = (torch.load(here / "runs" / name / "best.pt", weights_only=True)["model"] for name in ("ten", "two"))
    kept = [key for key in ten if key.endswith("weight") and not key.startswith("classifier.")]
    assert kept and any(key.startswith("head.") for key in kept)
    for key in kept:
        torch.testing.assert_close(two[key], ten[key], rtol=0, atol=1e-6)
    assert two["classifier.weight"].shape[0] == 2
