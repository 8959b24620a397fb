"""Recipes and studies by name, from any folder; a file of the user's goes before one of ours."""

from pathlib import Path

import pytest
from config_fixtures import saying

from gcp.config import load, recipes
from gcp.errors import ConfigError, GCPError
from gcp.studies.study_file import load_study

OURS = Path(__file__).parents[2] / "configs"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["digits/resnet", "digits/resnet.yaml", "configs/digits/resnet.yaml"])
def test_names_of_a_recipe(name):
    assert recipes.find(name) == OURS / "digits" / "resnet.yaml"
    assert load(name, ["train.epochs=1"]).model.backbone == "resnet20_cifar"


@pytest.mark.parametrize("file", ["digits/resnet", "digits/resnet.yaml", "digits/resnet.yml"])
def test_a_file_of_the_users_goes_before(file, elsewhere):
    (elsewhere / "digits").mkdir()
    (elsewhere / file).write_text("train: {epochs: 77}\n")
    assert load("digits/resnet").train.epochs == 77


def test_a_file_of_the_users_extends_ours_by_name(elsewhere):
    (elsewhere / "mine.yaml").write_text("extends: digits/base\ntrain: {epochs: 78}\n")
    config = load("mine")
    assert (config.train.epochs, config.data.name, config.optim.clip) == (78, "digits", 5.0)


@pytest.mark.parametrize("name", ["/digits/resnet", "../digits/resnet", "digits/../digits/resnet", "digits", ".", ""])
def test_what_is_no_name(name):
    assert recipes.find(name) == Path(name)


@pytest.mark.parametrize(
    ("given", "meant"),
    [("digits/resnt", "digits/resnet"), ("resnet101", "imagenet/resnet101"), ("cub/moderm.yaml", "cub/modern")],
)
def test_the_nearest_name(given, meant):
    with pytest.raises(ConfigError, match=saying(f"{given} {meant} gcp list recipes")):
        load(given)


def test_every_recipe_and_study_is_found():
    assert {"digits/resnet", "glow/digits", "imagenet/resnet50"} <= recipes.recipes().keys()
    assert "digits/base" not in recipes.recipes(), "only to be extended"
    assert all(recipes.find(name).is_file() for name in recipes.recipes())
    assert all(recipes.find(name, recipes.STUDIES).is_file() for name in recipes.studies())
    assert recipes.studies().keys() == {path.stem for path in (OURS / "studies").glob("*.yaml")}
    assert all(text.endswith(".") for text in (recipes.recipes() | recipes.studies()).values()), "whole sentences"


@pytest.mark.parametrize("name", ["digits-heads-few", "studies/digits-heads-few", "configs/studies/digits-heads-few"])
def test_a_study_by_name(name):
    study, faults = load_study(Path(name))
    assert not faults and study.name == "digits-heads-few"
    assert Path(study.config) == OURS / "digits" / "resnet.yaml"


def test_a_study_that_is_not_there():
    with pytest.raises(GCPError, match=saying("digits-heads-fw digits-heads-few")):
        load_study(Path("digits-heads-fw"))
