"""Features computed once: the run is that of the images, to the bit where nothing is drawn at random."""

import csv
import os
import re
import subprocess
import time

import pytest
import torch
from config_fixtures import says

from gcp.config import load
from gcp.data import feature_file
from gcp.data.feature_file import FeatureFile
from gcp.engine.distributed import ALONE
from gcp.errors import ConfigError
from gcp.runs import build, features
from gcp.runs.features import CachedFeatures, count_views, kept_text

# nothing that draws from images, and the maps in full
FROZEN = ["train.mixup=0", "model.freeze=[features]", "data.transform=none"]
EXACT = [*FROZEN, "train.cache_features=true", "train.cache_dtype=float32"]


def rows(path):
    with open(path, newline="") as file:
        return [
            {k: v for k, v in row.items() if "second" not in k and k != "data_wait"} for row in csv.DictReader(file)
        ]


def cached(words=(), text="small.yaml"):
    config = load(text, [*EXACT, *words])
    splits = build.build_splits(config)
    model = build.build_model(config, len(splits.classes), torch.device("cpu"))
    return CachedFeatures(config, splits, model, torch.device("cpu"), ALONE)


@pytest.fixture
def counted(monkeypatch):
    """Images that went through a backbone."""
    from gcp.models import Backbone

    seen, forward = [], Backbone.forward

    def counting(self, images):
        if not images.is_meta:
            seen.append(len(images))
        return forward(self, images)

    monkeypatch.setattr(Backbone, "forward", counting)
    return seen


def test_the_run_of_the_images_to_the_bit(small, same_runs, counted, evaluate):
    assert small(*FROZEN, "run.name=a").code == 0
    plain = len(counted)
    answer = small(*EXACT, "run.name=b")
    assert answer.code == 0, answer
    assert re.search(
        r"features +40 train, 143 val, 360 test maps of 64x2x2 in float32.* MB in runs/features, about", answer.out
    )
    after = len(counted)
    assert rows("runs/a/metrics.csv") == rows("runs/b/metrics.csv")
    first, second = (torch.load(f"runs/{name}/last.pt", weights_only=True) for name in "ab")
    assert all(torch.equal(first["model"][key], second["model"][key]) for key in first["model"])
    assert all(torch.equal(first["ema"][key], second["ema"][key]) for key in first["ema"])
    assert plain
    assert re.search(r"MB in runs/features, all read by this run; to remove them: rm -r runs/features\n", answer.out)
    # another head, another seed of the order: the same features, and no image goes through the backbone
    again = small(*EXACT, "run.name=c", "head.name=average", "head.dim=null", "optim.lr=0.1")
    assert again.code == 0 and "to be computed" not in again.out and len(counted) == after
    scored = evaluate("--checkpoint", "runs/b/last.pt")
    assert scored.code == 0 and len(counted) > after  # a run of features is a model of images


def test_continued_after_a_stop(small, train, zygote, here):
    words = [*EXACT, "train.epochs=3"]
    assert small(*words, "run.name=whole").code == 0
    zygote.train(here, "--config", "small.yaml", *words, "run.name=cut", moment="gcp.engine.step:update:5:before")
    assert train("resume=runs/cut").code == 0
    assert rows("runs/cut/metrics.csv") == rows("runs/whole/metrics.csv")


def test_a_kill_while_they_are_computed_costs_a_piece(here, zygote, train, monkeypatch):
    words = ["--config", "small.yaml", *EXACT, "run.name=cut"]
    moment = "gcp.data.feature_file:_write:2:before"
    zygote.train(here, *words, moment=moment)
    marks = sorted(here.glob("runs/features/train-*.marks"))
    assert len(marks) == 1 and not any(marks[0].read_bytes())
    assert train("resume=runs/cut").code == 0
    assert len(list(here.glob("runs/features/*.maps"))) == 3


@pytest.mark.parametrize(
    "words, changed",
    [
        (["head.name=average", "head.dim=null", "train.batch_size=4", "optim.lr=0.2"], ()),
        (["run.seed=1"], ("train", "val", "test")),  # another random backbone
        (["data.image_size=12"], ("train", "val", "test")),
        (["data.per_class=3"], ("train",)),
        (["train.cache_dtype=float16"], ("train", "val", "test")),
        (["train.cache_views=2"], ("train",)),
    ],
)
def test_a_file_is_named_by_what_its_maps_depend_on(here, words, changed):
    names = []
    for more in ((), words):
        each = cached(more)
        backbone = each._backbone()
        names.append({name: each._key(name, backbone) for name in each.names})
    assert {name for name in names[0] if names[0][name] != names[1][name]} == set(changed)


def test_an_image_that_was_changed_is_another_image(here, tree):
    made = tree("folder")
    words = ["data.name=folder", f"data.root={made['root']}", "data.in_chans=3", "data.per_class=null"]
    each = cached(words)
    backbone = each._backbone()
    before = each._key("train", backbone)
    from pathlib import Path

    path = Path(each.images.train.paths[1])
    time.sleep(0.02)
    path.write_bytes(path.read_bytes())
    assert each._key("train", backbone) != before


def test_pictures_turned_by_their_exif_are_other_maps(here, tree):
    """Also where none of the few images that are looked at has an orientation."""
    words = ["data.name=folder", f"data.root={tree('folder')['root']}", "data.in_chans=3", "data.per_class=null"]
    turned, stored = (cached([*words, f"data.exif={value}"]) for value in ("true", "false"))
    backbone = turned._backbone()
    assert turned._key("train", backbone) != stored._key("train", backbone)


@pytest.mark.parametrize(
    "words, views",
    [
        (["data.transform=none"], 1),
        (["data.transform=center_crop"], 2),
        (["data.transform=square"], 2),
        (["data.transform=random_resized_crop", "train.cache_views=3"], 3),
        (["data.transform=random_resized_crop", "train.cache_views=mirror"], 2),
        (["data.transform=center_crop", "train.cache_views=plain"], 1),
    ],
)
def test_views_are_those_that_the_transform_draws(here, tree, words, views):
    made = tree("folder")
    root = ["data.name=folder", f"data.root={made['root']}", "data.in_chans=3", "data.per_class=null"]
    config = load("small.yaml", [*EXACT, *root, *words])
    images = build.build_splits(config).train
    assert count_views(config, images) == views
    each = cached([*root, *words])
    each.fill()
    stored = each.sets["train"].file.open()
    assert len(stored) == views * len(images)
    with torch.no_grad():
        plain = images.normalize(images.read([1])[0])
        if views == 2:
            torch.testing.assert_close(torch.tensor(stored[3]), each.model.features(plain.flip(3))[0])
        if views < 3:
            torch.testing.assert_close(torch.tensor(stored[views]), each.model.features(plain)[0])
        else:
            assert len({row.tobytes() for row in stored[3:6]}) == 3


def test_an_augmentation_that_no_file_holds(here):
    config = load("small.yaml", [*EXACT, "data.transform=default"])
    with pytest.raises(ConfigError, match=r"train\.cache_views.*default.*a number, such as 4.*data\.transform=none"):
        count_views(config, build.build_splits(config).train)


@pytest.mark.parametrize(
    "words, text",
    [
        (["train.cache_features=true", "train.mixup=0"], r"model\.freeze: .*\[features\]"),
        ([*FROZEN, "train.cache_features=true", "train.mixup=0.2"], r"train\.mixup: .*train\.cache_features"),
        (["train.cache_views=4"], r"train\.cache_views: .*train\.cache_features=true"),
        ([*EXACT, "train.cache_views=both"], r"train\.cache_views: .*'both'.*plain.*mirror"),
    ],
)
def test_what_is_refused(small, refused, words, text):
    assert re.search(text, refused(small(*words)))


def test_half_precision_that_overflows_is_said(here):
    each = cached(["train.cache_dtype=float16"])
    with torch.no_grad():
        for parameter in each.model.features.parameters():
            parameter.mul_(1e3)
    with pytest.raises(Exception, match=r"float16.*train\.cache_dtype=float32"):
        each.fill()


def test_damaged_maps_are_computed_again(here, monkeypatch, caplog):
    monkeypatch.setattr(feature_file, "PIECE", 4096)
    each = cached()
    each.fill()
    path = each.sets["test"].file.path.with_name(f"{each.sets['test'].file.path.name}.maps")
    whole = path.read_bytes()
    path.write_bytes(bytes(5000) + whole[5000:])
    cached().fill()
    assert path.read_bytes() == whole and "damaged" in caplog.text


def test_in_evaluation_mode_whatever_the_model_is_in(here):
    each = cached()
    each.model.train()
    before = {name: value.clone() for name, value in each.model.features.state_dict().items()}
    each.fill()
    assert all(torch.equal(value, before[name]) for name, value in each.model.features.state_dict().items())
    assert features.duration(200) == "3 min"


def test_what_other_runs_left_is_named_with_the_line_that_removes_it(here):
    """Those first that were read longest ago; a run that reads a file again makes it the newest."""
    folder, now = here / "old maps", time.time()
    for number in range(6):
        file = FeatureFile(folder / f"train-{number}", 2, (3,), "float32")
        file.reserve()
        os.utime(f"{file.path}.maps", (now, now - 86400 * (10 - number)))
    paths = [folder / f"train-{number}" for number in range(6)]
    text = kept_text(folder, [paths[0]])
    assert says(text, "the 4 oldest of these 5 6 days") and "train-0" not in text
    assert all(f"train-{number}'.*" in text for number in (1, 2, 3, 4))
    FeatureFile(paths[1], 2, (3,), "float32").touch()
    command = kept_text(folder, [paths[0]]).splitlines()[1]
    assert "train-1" not in command
    assert subprocess.run(command, shell=True).returncode == 0
    assert {path.stem for path in folder.iterdir()} == {"train-0", "train-1"}
    assert "all read" not in kept_text(folder, []) and "all read" in kept_text(folder, paths[:2])
