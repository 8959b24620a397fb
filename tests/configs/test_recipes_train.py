"""Every recipe trains: a step of it on a small tree of its data set, through the command, all of its settings in force.

What changes is size alone: a few images, small ones, two in a batch, one epoch, no downloaded weights, few channels
after the reduction, narrow hidden layers. Weights are written to memory: the files of a ResNet take longer than a step.
"""

import copy
import functools
import json
import math
from pathlib import Path

import pytest
import torchvision

import gcp.cli.train
from gcp.cli.main import run
from gcp.config import load
from gcp.engine import checkpoint
from gcp.models import create_backbone

CONFIGS = Path(__file__).parents[2] / "configs"
FILES = {
    str(path.relative_to(CONFIGS).with_suffix("")): path
    for path in sorted(CONFIGS.glob("*/*.yaml"))
    if path.parent.name not in ("glow", "studies")
}
RECIPES = [name for name, path in FILES.items() if "\n# command " in path.read_text()]
# A map of 2x2 or 3x3, on which a covariance is defined.
SMALLEST = {
    "alexnet_bn": 64,
    "vgg": 32,
    "convnext": 64,
    "resnet": 64,
    "resnet20_cifar": 32,
    "resnet56_cifar": 32,
    "deit": 32,
}
NARROW = {"alexnet_bn": "[16, 16]", "vgg16_bn": "[16, 16]"}


@pytest.fixture
def in_memory(monkeypatch):
    """Checkpoints that stay in this process, by path."""
    kept = {}
    monkeypatch.setattr(checkpoint, "save", lambda path, state, *_: kept.__setitem__(Path(path), state))
    monkeypatch.setattr(checkpoint, "load", lambda path: kept[Path(path)])
    monkeypatch.setattr("gcp.drawing.curves.draw_curves", lambda *_: None)
    return kept


@pytest.fixture
def root(tree, monkeypatch):
    """Write a small tree of a data set and return the folder that a user gives; None for one that has none."""

    def root(name):
        if name == "digits":
            return None
        if not name.startswith("cifar"):
            return tree(name, classes=2, per_class=2)["root"]
        made = tree("cifar", name, classes=2, per_class=2)
        for key in ("train_list", "test_list", "meta"):  # of files that torchvision takes for the published ones
            monkeypatch.setattr(getattr(torchvision.datasets, name.upper()), key, made[key])
        return made["root"]

    return root


@pytest.fixture(scope="module")
def built():
    """`create_backbone` that builds each backbone once: a VGG takes seconds, most of it for layers it leaves out."""
    once = functools.cache(create_backbone)
    return lambda *arguments: copy.deepcopy(once(*arguments))


def smaller(name, root):
    """Overrides of a recipe that make it small and leave the rest of it as it is."""
    config = load(FILES[name], [f"data.root={root}"] if root else [])
    backbone = config.model.backbone
    size = next(size for start, size in reversed(SMALLEST.items()) if backbone.startswith(start))
    words = [f"data.image_size={size}", "data.per_class=1", "data.workers=0", "model.pretrained=false", "run.threads=1"]
    words += [f"data.root={root}", "data.partial=true"] if root else []
    words += ["evolve.where=[features.blocks.0.attn.head_dim]"] if config.evolve.every is not None else []
    words += ["head.dim=8"] if config.head.dim is not None else []
    words += [f"model.hidden={NARROW[backbone]}"] if backbone in NARROW else []
    places = [f"stages.{number}.train" for number in range(1, len(config.stages) + 1)] or ["train"]
    words += [f"{place}.batch_size=2" for place in places]
    if "hybrid" not in name:
        return [*words, *(f"{place}.epochs=1" for place in places)]
    return [*words, "train.epochs=2", "schedule.milestones=[1]"]  # the switch needs an epoch on either side


# What `smaller` may change; `name` is that of the run, which every run has in the end.
SIZE = {
    "run": {"dir", "name", "threads", "device"},
    "data": {"root", "partial", "image_size", "per_class", "workers"},
    "model": {"pretrained", "hidden"},
    "head": {"dim"},
    "evolve": {"where"},
    "train": {"epochs", "batch_size"},
}


def rest(values):
    """A configuration without what makes it small; of a hybrid recipe the decays are a part of that."""
    moved = {**SIZE, "schedule": {"milestones"}} if values.get("hybrid", {}).get("to") else SIZE
    return {
        section: [rest(stage) for stage in keys]
        if section == "stages"
        else {key: value for key, value in keys.items() if key not in moved.get(section, ())}
        for section, keys in values.items()
    }


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_trains(name, root, tmp_path, in_memory, built, monkeypatch, capsys):
    monkeypatch.setattr("gcp.models.classifier.create_backbone", built)
    words = ["--config", str(FILES[name]), *smaller(name, root(name.split("/")[0])), f"run.dir={tmp_path}/runs"]
    code = run(gcp.cli.train.main, [*words, "run.name=small"])
    out, err = capsys.readouterr()
    assert code == 0, err
    folder = tmp_path / "runs" / "small"
    result = json.loads((folder / "result.json").read_text())["test"]["final"]
    assert result["step"] >= result["epoch"] >= 1
    assert math.isfinite(result["loss"])

    recipe, trained = load(FILES[name], ["data.root=x"] if "digits" not in name else []), load(folder / "config.yaml")
    assert rest(trained.plain()) == rest(recipe.plain())
    assert f"{recipe.model.backbone} + {recipe.head.name}," in out
    assert ("head newton_schulz -> svd_pade after step 1" in out) == ("hybrid" in name)
    assert ("frozen: features" in out and "stage      2 of 2" in out) == bool(recipe.stages)
    assert f"learning rate {recipe.optim.lr:g}" in out
