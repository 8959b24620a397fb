import json
import platform
import subprocess
import sys

import torch

from gcp.engine import environment
from gcp.engine.environment import describe_environment

CPU = torch.device("cpu")


def test_what_a_run_was_made_with(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", "--config", "a b.yaml"])
    got = json.loads(json.dumps(describe_environment(CPU)))
    assert got["python"] == platform.python_version()
    assert set(got["packages"]) == set(environment.PACKAGES)
    assert torch.__version__.startswith(got["packages"]["torch"])  # which is without `+cpu` and the like
    assert got["device"] == "cpu" and got["cudnn"] is None
    assert got["threads"] == torch.get_num_threads() and got["cores"] >= 1
    assert got["command"] == [sys.executable, "train.py", "--config", "a b.yaml"]


def test_a_package_that_is_missing_has_no_version(monkeypatch):
    monkeypatch.setattr(environment, "PACKAGES", ("torch", "no-such-package-here"))
    assert describe_environment(CPU)["packages"]["no-such-package-here"] is None


def test_without_git_there_is_no_commit(monkeypatch):
    def missing(*_, **__):
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", missing)
    assert describe_environment(CPU)["commit"] is None
