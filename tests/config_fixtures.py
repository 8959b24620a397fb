"""A configuration file from text, the faults of one, and what the text of a fault has to say."""

import re

import pytest

from gcp.config import load
from gcp.errors import ConfigError


def saying(words: str) -> str:
    """The pattern of a line that has all of these words, whole and in this order, whatever stands between them.

    The words are the key, the value and the way out of a fault; the sentence around them is free. A word that the line
    has twice, such as the kind of what was given and of what is allowed, is given twice: else either would do.
    """
    return ".*?".join(rf"(?<![\w.=-]){re.escape(word)}(?![\w=-]|\.\w)" for word in words.split())


def says(text: str, words: str) -> bool:
    """Whether one line of the text has all of these words in this order; see `saying`."""
    return re.search(saying(words), text) is not None


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
