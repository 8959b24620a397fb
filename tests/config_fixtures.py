"""A configuration file from text, and the faults of one."""

import pytest

from gcp.config import load
from gcp.errors import ConfigError


@pytest.fixture
def write(tmp_path):
    """Write a file and return its path."""

    def write(text: str, name: str = "run.yaml"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def faults(write):
    """The lines of the error that a text and overrides give; empty where there is none."""

    def faults(text: str, *overrides: str) -> list[str]:
        try:
            load(write(text), overrides)
        except ConfigError as error:
            assert len(str(error).splitlines()) == len(error.faults) + 1
            return error.faults
        return []

    return faults
