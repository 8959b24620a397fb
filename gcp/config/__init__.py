"""Configuration of a run: YAML with inheritance, checked whole before anything is built."""

from gcp.config.describe import describe, json_schema
from gcp.config.load import dump, from_dict, load, parse_override, stage_configs
from gcp.config.schema import TRAINED_BY, Common, Config, FlowConfig, trained_by
from gcp.config.values import Duration

__all__ = [
    "Common",
    "Config",
    "Duration",
    "FlowConfig",
    "TRAINED_BY",
    "describe",
    "dump",
    "from_dict",
    "json_schema",
    "load",
    "parse_override",
    "stage_configs",
    "trained_by",
]
