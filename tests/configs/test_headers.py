"""What the headers of the recipes promise: all fields, a command that loads, published numbers, the right map."""

import re
import shlex
from functools import lru_cache
from pathlib import Path

import pytest
import torch

from gcp.cli.arguments import parse
from gcp.cli.train import FLAGS
from gcp.config import load
from gcp.models import create_backbone

CONFIGS = Path(__file__).parents[2] / "configs"
FILES = {
    str(path.relative_to(CONFIGS).with_suffix("")): path
    for path in sorted(CONFIGS.glob("*/*.yaml"))
    if path.parent.name not in ("glow", "studies")
}
RECIPES = [name for name, path in FILES.items() if "\n# command " in path.read_text()]
FIELDS = ["command", "hardware", "time", "published", "ours", "traps"]

# Published numbers as they were printed. ImageNet: top-1/top-5 error of one crop; the others: accuracy, and where
# there are two the final and the best test epoch. ICCV 2021 poster of the SVD-Pade paper:
IMAGENET = {
    "resnet50": {
        "newton_schulz": {"22.81/6.60"},
        "svd_pade": {"22.67/6.51"},
        "svd_taylor": {"22.91/6.67"},
        "svd_newton": {"22.86/6.65"},
        "svd_trunc": {"22.85/6.70"},
        "svd_topn": {"22.91/6.68"},
        "svd_original": {"22.93/6.75"},
        "average": {"23.85/7.13"},
    },
    "resnet50_hybrid": {
        "svd_pade": {"22.60/6.44"},
        "svd_taylor": {"22.77/6.53"},
        "svd_newton": {"22.72/6.55"},
        "svd_trunc": {"22.74/6.52"},
        "svd_topn": {"22.76/6.51"},
        "svd_original": {"22.79/6.50"},
    },
    "resnet101": {
        "newton_schulz": {"21.60/5.88"},
        "svd_pade": {"21.48/5.80"},
        "svd_original": {"21.79/5.99"},
        "average": {"22.63/6.44"},
    },
    "resnet101_hybrid": {"svd_pade": {"21.40/5.69"}, "svd_original": {"21.58/5.80"}},
}
POSTER = {
    "cub": {
        "newton_schulz": {"85.95/86.45"},
        "svd_pade": {"87.05/87.29"},
        "svd_taylor": {"86.95/87.20"},
        "svd_newton": {"86.97/87.22"},
        "svd_trunc": {"87.16/87.25"},
        "svd_original": {"86.89/87.19"},
    },
    "dogs": {
        "newton_schulz": {"82.34/83.45"},
        "svd_pade": {"83.40/84.34"},
        "svd_taylor": {"83.23/84.22"},
        "svd_newton": {"83.08/83.94"},
        "svd_trunc": {"82.95/84.03"},
        "svd_original": {"83.34/84.24"},
    },
    "cars": {
        "newton_schulz": {"90.93/91.56"},
        "svd_pade": {"92.55/92.99"},
        "svd_taylor": {"92.46/92.71"},
        "svd_newton": {"92.35/92.51"},
        "svd_trunc": {"92.43/93.04"},
        "svd_original": {"92.45/92.84"},
    },
}
# iSQRT-COV, paper and then its authors' own reproduction (repository jiangtaoxie/fast-MPN-COV):
ISQRT = {
    "imagenet/resnet50_isqrt": {"22.14/6.22", "21.71/6.13"},
    "imagenet/resnet101_isqrt": {"21.21/5.68", "20.99/5.56"},
    "imagenet/vgg16_bn_isqrt": {"26.55/8.94", "23.98/7.12"},
    "cub/resnet50_isqrt": {"88.0"},
    "aircraft/resnet50_isqrt": {"90.3"},
    "cars/resnet50_isqrt": {"92.3"},
    "cub/vgg16_bn_isqrt": {"87.2", "87.0"},
    "aircraft/vgg16_bn_isqrt": {"90.0", "91.7"},
    "cars/vgg16_bn_isqrt": {"92.5", "93.2"},
}
PUBLISHED: dict[str, dict[str, set[str]]] = {
    **{f"imagenet/{name}": heads for name, heads in IMAGENET.items()},
    **{name: {"newton_schulz": numbers} for name, numbers in ISQRT.items()},
    "cub/resnet50_seb": POSTER["cub"],
    "cars/resnet50_seb": POSTER["cars"],
    "dogs/resnet50_svd_pade": POSTER["dogs"],
    # the same repository: B-CNN and its compact form
    "cub/vgg16_bcnn": {"bilinear": {"84.0"}, "compact_bilinear": {"83.8"}},
    "aircraft/vgg16_bcnn": {"bilinear": {"86.9"}},
    "cars/vgg16_bcnn": {"bilinear": {"90.5"}},
    # a successor of ICLR 2025, as the number to beat
    "cub/modern": {"average": {"88.45"}},
}


def fields(path):
    """The fields of a header in their order; the first key, "", holds what it says before them."""
    found = {"": ""}
    for line in path.read_text().split("\n\n")[0].splitlines()[1:]:
        if re.match(r"# [a-z]", line) and line[12:13] == " " and line[13:14].strip():  # the text begins in column 14
            found[line[2:13].strip()] = line[13:]
        else:
            found[list(found)[-1]] += " " + line.removeprefix("#").strip()
    return found


@pytest.mark.parametrize("name", FILES)
def test_every_file_says_what_it_is(name):
    lines = FILES[name].read_text().splitlines()
    assert lines[0] == "# yaml-language-server: $schema=../schema.json"
    assert re.fullmatch(r"# \S.{20,}", lines[1])
    if name not in RECIPES:
        assert "Not a recipe of its own: the files" in FILES[name].read_text()
        assert any(f"{FILES[name].stem}.yaml" in FILES[other].read_text() for other in RECIPES), "nothing extends it"


@pytest.mark.parametrize("name", RECIPES)
def test_fields(name):
    found = fields(FILES[name])
    expected = FIELDS[:-1] if name.startswith("digits/") else FIELDS
    assert list(found) == ["", *expected]
    assert all(text.strip() for text in found.values())
    assert found["ours"] == "not yet run" or re.match(r"\d\d\.\d\d \+- \d\.\d\d % ", found["ours"])


def test_the_recipe_for_images_of_ones_own():
    """It lies beside the folders of the data sets, and its command is the installed one, with a name for a path."""
    path = CONFIGS / "finetune.yaml"
    assert path.read_text().startswith("# yaml-language-server: $schema=schema.json\n")
    assert list(fields(path)) == ["", *FIELDS]
    words = shlex.split(fields(path)["command"].partition("the gain")[0])
    assert words == ["gcp", "train", "--config", "finetune", "data.root=ROOT"]
    load("finetune", words[4:])
    assert not re.search(r"\d", fields(path)["time"]), "a number of seconds has a run that it was measured on"


@pytest.mark.parametrize("name", RECIPES)
def test_command(name, monkeypatch):
    monkeypatch.chdir(CONFIGS.parent)
    words = shlex.split(fields(FILES[name])["command"].partition("any head:")[0])
    assert words[:2] == ["python", "train.py"]
    arguments = parse(words[2:], FLAGS)
    assert arguments.value("--config") == f"configs/{name}.yaml"
    assert arguments.overrides == ([] if name.startswith("digits/") else ["data.root=ROOT"])
    load(arguments.value("--config"), arguments.overrides)


@pytest.mark.parametrize("name", RECIPES)
def test_published_numbers(name):
    text = fields(FILES[name])["published"]
    quoted: dict[str, set[str]] = {}
    for head, number in re.findall(r"([a-z_]+) (\d+\.\d+(?:/\d+\.\d+)?)", text):
        quoted.setdefault(head, set()).add(number)
    assert quoted == PUBLISHED.get(name, {})
    every = re.findall(r"\d+\.\d+", text)
    assert len(every) == sum(number.count("/") + 1 for numbers in quoted.values() for number in numbers)
    assert every or text.startswith("none")


def test_published_numbers_are_of_recipes():
    assert set(PUBLISHED) <= set(RECIPES)


@lru_cache
def map_side(backbone, last_stride, pixels):
    with torch.device("meta"):
        return create_backbone(backbone, last_stride=last_stride).map_size(pixels)


@pytest.mark.parametrize("name", [name for name in RECIPES if not name.startswith("digits/")])
def test_map(name):
    config = load(FILES[name], ["data.root=ROOT"])
    text = fields(FILES[name])["published"]
    ((height, width, pixels),) = re.findall(r"(\d+)x(\d+) map at (\d+) pixels", text)
    assert int(pixels) == config.data.image_size
    assert (int(height), int(width)) == map_side(config.model.backbone, config.model.last_stride, int(pixels))
    for stride in re.findall(r"stride (\d+),", text):
        assert int(stride) == int(pixels) // int(height)


@pytest.mark.parametrize("name", RECIPES)
def test_index(name):
    """The table of the documentation names the recipe, with its own numbers and its own map."""
    text = (CONFIGS.parent / "docs" / "recipes.md").read_text()
    (row,) = [line for line in text.splitlines() if line.startswith("| `") and f"`{name}`" in line]
    _, _, side, published, ours, _ = row.split("|")
    header = fields(FILES[name])
    numbers = {number for several in PUBLISHED.get(name, {}).values() for number in several}
    assert set(re.findall(r"\d+\.\d+(?:/\d+\.\d+)?", published)) <= numbers
    assert ("none" in published) == (not numbers)
    assert f"{side.strip()} map" in header["published"] + header["ours"]
    assert header["ours"].startswith(ours.strip().partition(" accuracy")[0])


def test_front_page():
    """The front page quotes the published numbers of its recipe."""
    text = (CONFIGS.parent / "README.md").read_text()
    numbers = {
        number for several in PUBLISHED["imagenet/resnet50"].values() for both in several for number in both.split("/")
    }
    for sentence in (r"from (\S+) to (\S+) % top-1", r"(\S+) against (\S+) % top-1"):
        found = re.search(sentence, text)
        assert found and set(found.groups()) <= numbers
