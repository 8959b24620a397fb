"""The named studies: they can be planned, and their published numbers are those of the recipes."""

import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from gcp.studies.cells import check
from gcp.studies.study_file import load_study

CONFIGS = Path(__file__).parents[2] / "configs"
STUDIES = {path.stem: path for path in sorted((CONFIGS / "studies").glob("*.yaml"))}
PUBLISHED = [name for name, path in STUDIES.items() if "\npublished:" in path.read_text()]


@pytest.mark.parametrize("name", STUDIES)
def test_it_can_be_planned(name, monkeypatch):
    monkeypatch.chdir(CONFIGS.parent)
    study, faults = load_study(STUDIES[name])
    root = ["data.root=ROOT"] if "data.root=ROOT" in STUDIES[name].read_text() else []
    assert check(replace(study, overrides=[*study.overrides, *root]), faults)
    assert study.name == name and study.title and study.seeds


@pytest.mark.parametrize("name", STUDIES)
def test_the_header_gives_its_command(name):
    lines = STUDIES[name].read_text().splitlines()
    assert re.fullmatch(r"# \S.{20,}", lines[0])
    (command,) = (line for line in lines if re.match(r"# commands? ", line))
    words = shlex.split(command)[2:6]
    assert words == ["python", "scripts/ablate.py", "--study", f"configs/studies/{name}.yaml"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_numbers_are_those_of_the_recipe(name):
    """In the table final accuracies, in the header as they were printed, as in the header of the recipe."""
    text = STUDIES[name].read_text()
    study = yaml.safe_load(text)
    recipe = (STUDIES[name].parent / study["config"]).read_text()
    printed = [dict(re.findall(r"([a-z_]+) (\d+\.\d+/\d+\.\d+)", each)) for each in (text, recipe)]
    assert printed[0] == printed[1]
    first = {head: float(pair.split("/")[0]) for head, pair in printed[0].items()}
    expected = {head: 100 - value if "error" in text else value for head, value in first.items()}
    values = {label.removeprefix("to="): entry["value"] for label, entry in study["published"].items()}
    assert values == pytest.approx(expected)
    assert all(entry["what"] and "ICCV 2021 poster" in entry["source"] for entry in study["published"].values())
    assert "# ours       not yet run" in text
