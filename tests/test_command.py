"""Messages name the command that the user typed."""

import sys

import pytest

from gcp.command import LAUNCHER, as_typed, typed
from gcp.errors import GCPError, user_message


@pytest.fixture
def called(monkeypatch):
    """The program as it was called: `called("train.py")`, with variables of the environment."""
    for name in (LAUNCHER, "TORCHELASTIC_RUN_ID", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)

    def called(program, **variables):
        monkeypatch.setattr(sys, "argv", [program, "x"])
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return called


TORCHRUN = {"TORCHELASTIC_RUN_ID": "1", "LOCAL_WORLD_SIZE": "4"}


@pytest.mark.parametrize(
    ("program", "variables", "train", "ablate"),
    [
        ("/usr/bin/gcp", {}, "gcp train", "gcp ablate"),
        ("notebook.py", {}, "gcp train", "gcp ablate"),
        ("", {}, "gcp train", "gcp ablate"),
        ("/site-packages/gcp/__main__.py", {}, "python -m gcp train", "python -m gcp ablate"),
        ("/usr/bin/gcp-evaluate", {}, "gcp-train", "gcp ablate"),
        ("train.py", {}, "python train.py", "python scripts/ablate.py"),
        ("scripts/report.py", {}, "python train.py", "python scripts/ablate.py"),
        ("report.py", {}, "python ../train.py", "python ../scripts/ablate.py"),
        ("../my suite/train.py", {}, "python '../my suite/'train.py", "python '../my suite/'scripts/ablate.py"),
        ("/suite/scripts/export.py", {}, "python /suite/train.py", "python /suite/scripts/ablate.py"),
        ("train.py", TORCHRUN, "torchrun --nproc-per-node=4 train.py", "python scripts/ablate.py"),
        ("/x/gcp/__main__.py", TORCHRUN, "torchrun --nproc-per-node=4 -m gcp train", "python -m gcp ablate"),
        ("train.py", {**TORCHRUN, LAUNCHER: "PROCESSES=4 bash scripts/train.sh"}, "PROCESSES=4 bash scripts/train.sh", "python scripts/ablate.py"),  # noqa: E501
    ],
)  # fmt: skip
def test_forms_of_a_call(program, variables, train, ablate, called):
    called(program, **variables)
    assert typed("train", "resume=my run") == f"{train} 'resume=my run'"
    assert as_typed("type gcp train x, or\n  gcp ablate --help") == f"type {train} x, or\n  {ablate} --help"
    assert user_message(GCPError("gcp train")) == train


def test_other_words_stay(called):
    called("train.py")
    assert as_typed("torchrun -m gcp train") == "torchrun -m gcp train"
    assert as_typed("gcp trains, gcp train-glow, gcp-train") == "gcp trains, python scripts/train_glow.py, gcp-train"
    assert as_typed("gcp list heads") == "python train.py --list heads"
