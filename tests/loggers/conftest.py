"""Modules with loggers of a user's own, beside the configuration of the small run."""

import pytest

OWN = """\
import random, sys
import numpy as np, torch
from gcp.loggers import LOGGERS, Logger

CALLS = []

class Rude(Logger):  # touches whatever a service might touch
    def __init__(self, word="hello"):
        self.word = word

    def start(self, run):
        CALLS.append(("start", self.word, dict(run.kept), run.step))
        self.draw()
        return {"number": run.kept.get("number", 0) + 1}

    def row(self, name, row, step):
        CALLS.append((name, step, sorted(row)))
        row.clear()
        self.draw()

    def images(self, name, images, titles, step):
        CALLS.append((name, step, len(images)))
        images.zero_()

    def close(self, outcome):
        CALLS.append(("close", outcome))
        self.draw()

    def draw(self):
        random.random(), np.random.rand(), torch.rand(1), torch.manual_seed(0), random.seed(0)

class Broken(Rude):
    def row(self, name, row, step):
        super().row(name, row, step)
        if step >= 4:
            raise RuntimeError("the server is gone")

class Unstarted(Logger):
    def start(self, run):
        sys.exit("not logged in")

@LOGGERS.register("named", summary="registered by a plugin")
class Named(Rude):
    pass

class NoLogger:
    pass
"""


@pytest.fixture
def own(here, monkeypatch):
    """The module of loggers, imported anew in each test."""
    import sys

    from gcp.loggers import LOGGERS

    (here / "own_loggers.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(here))
    yield lambda: sys.modules["own_loggers"].CALLS
    sys.modules.pop("own_loggers", None)
    LOGGERS._entries.pop("named", None)
