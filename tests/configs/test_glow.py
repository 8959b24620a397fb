"""The recipes of flows: their headers say what they are, and every one of them loads by its command."""

import re
import shlex
from pathlib import Path

import pytest

from gcp.cli.arguments import parse
from gcp.cli.train import FLAGS
from gcp.config import FlowConfig, load

CONFIGS = Path(__file__).parents[2] / "configs"
FILES = {path.stem: path for path in sorted((CONFIGS / "glow").glob("*.yaml"))}
FIELDS = ["command", "hardware", "time", "published", "ours"]


@pytest.mark.parametrize("name", FILES)
def test_header(name, monkeypatch):
    header = FILES[name].read_text().split("\n\n")[0]
    assert header.startswith("# yaml-language-server: $schema=../flow_schema.json\n# Glow ")
    found = dict(re.findall(r"^# ([a-z]+) +(\S.*)$", header, re.MULTILINE))
    assert [field for field in found if field != "traps"] == FIELDS
    assert found["ours"] == "not yet run" or re.search(r"\d\.\d\d\d? bits per dimension", found["ours"])

    monkeypatch.chdir(CONFIGS.parent)
    words = shlex.split(found["command"])
    assert words[:2] == ["python", "scripts/train_glow.py"]
    arguments = parse(words[2:], FLAGS)
    for form in ("plain", "plu", "svd"):
        config = load(arguments.value("--config"), [*arguments.overrides, f"flow.form={form}"], FlowConfig)
        assert config.flow.form == form and Path(arguments.value("--config")) == Path("configs/glow", f"{name}.yaml")
