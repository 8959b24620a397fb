"""The scripts of scripts/real import each other by their file names, as Python lets a script do."""

import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts" / "real"


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    """The folder of the scripts on the search path, as when one of them is run; its modules are forgotten after."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    yield SCRIPTS
    for name in [path.stem for path in SCRIPTS.glob("*.py")]:
        sys.modules.pop(name, None)
