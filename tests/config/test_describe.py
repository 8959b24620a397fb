"""The help text and the JSON schema cover every key, and the files in the project are current and valid."""

import json
from pathlib import Path

import pytest
from config_fixtures import says

from gcp.config import describe, json_schema, load
from gcp.config.plugins import PLUGINS
from gcp.config.schema import Config, FlowConfig, composed, sections
from gcp.config.schema_file import text
from gcp.heads import head_options, list_heads

CONFIGS = Path(__file__).parents[2] / "configs"
# A study is no configuration: it varies one.
FILES = sorted(path for path in CONFIGS.rglob("*.yaml") if path.parent.name != "studies")
SECTIONS = sections(composed(Config))
KEYS = [(section, key, key_field) for section, keys in SECTIONS.items() for key, key_field in keys.model_fields.items()]


def test_help_names_every_key_with_default_and_meaning():
    lines = describe().splitlines()
    words = " ".join(describe().split())
    for section, key, field in KEYS:
        entry = [line for line in lines if line.split()[:1] == [f"{section}.{key}"]]
        assert len(entry) == 1, f"{section}.{key}"
        assert field.description, f"{section}.{key} has no description"
        for word in field.description.split():
            assert word in words
    for head in list_heads("*"):
        for option in head_options(head):
            assert f"head.{option}" in words and head in words


@pytest.mark.parametrize("width", [80, 100, 140])
def test_help_keeps_its_width(width):
    assert max(map(len, describe(width).splitlines())) <= width


def test_schema_has_every_key():
    schema = json_schema()
    for section, key, _ in KEYS:
        definition = schema["$defs"][schema["properties"][section]["$ref"].rsplit("/", 1)[1]]
        assert {"default", "description"} <= set(definition["properties"][key])
        assert definition["additionalProperties"] is False
    assert schema["properties"]["extends"]["type"] == "string"
    head = schema["$defs"]["HeadSection"]["properties"]
    assert head["name"]["enum"] == list(list_heads("*"))
    assert says(head["degree"]["description"], "svd_taylor 100")


@pytest.mark.skipif(len(PLUGINS) < 4, reason="the files are those of all callbacks")
def test_schema_file_is_current():
    """Write them again with `python -m gcp.config.schema_file configs/schema.json`."""
    for name, kind in (("schema.json", Config), ("flow_schema.json", FlowConfig)):
        assert json.loads((CONFIGS / name).read_text(encoding="utf-8")) == json.loads(text(kind))


def test_schema_of_flows_has_the_keys_that_a_flow_reads():
    schema = json_schema(FlowConfig)
    assert "head" not in schema["properties"] and "stages" not in schema["properties"]
    train = schema["$defs"]["Train"]["properties"]
    assert "epochs" in train and "mixup" not in train and train["epochs"]["default"] == 10


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_every_config_names_the_schema(path):
    first = path.read_text(encoding="utf-8").splitlines()[0]
    schema = first.removeprefix("# yaml-language-server: $schema=")
    named = "flow_schema.json" if path.parent.name == "glow" else "schema.json"
    assert first != schema and (path.parent / schema).resolve() == (CONFIGS / named).resolve()


@pytest.mark.parametrize("head", list(list_heads("*")))
def test_configs_take_any_head(head):
    assert load(CONFIGS / "digits" / "resnet.yaml", [f"head.name={head}"]).head.name == head
