"""The examples of a backbone and of a head of one's own train."""

import importlib.util
from pathlib import Path

import pytest

from gcp.heads.base import HEADS

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_own_backbone():
    first, last = example("own_backbone").main()
    assert last < 0.7 * first


@pytest.fixture
def registry():
    """Heads of a test leave the registry again: other tests are drawn from it."""
    before = dict(HEADS._entries) if hasattr(HEADS, "_entries") else None
    yield
    if before is not None:
        HEADS._entries.clear()
        HEADS._entries.update(before)


def test_own_head(registry):
    before, after = example("own_head").main()
    assert after < before
