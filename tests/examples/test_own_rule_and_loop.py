"""The examples of a rule and of a loop of one's own: each in a process of its own, as a user runs it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*words, folder=ROOT):
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin", "HOME": str(folder)}
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )


def test_own_rule():
    done = run("examples/own_rule.py")
    assert done.returncode == 0, done.stderr
    largest, before, after = map(float, re.findall(r"[\d.]+", done.stdout))
    assert largest == 100 and after < before


def test_own_loop():
    done = run("examples/own_loop.py")
    assert done.returncode == 0, done.stderr
    own, fitted, average = map(float, re.findall(r"([\d.]+) %", done.stdout))
    assert own > 95 and fitted > 95 and average < 75  # the means of the two classes are alike


@pytest.fixture
def plugin_run(tmp_path):
    """A run of the rule as a plugin, in a folder that is not the project's."""
    shutil.copy(ROOT / "examples/own_rule.py", tmp_path)
    (tmp_path / "mine.yaml").write_text(
        "extends: digits/base\nplugins: [own_rule]\nhead: {name: svd_bounded, threshold: 40.0, dim: 8}\n"
        "data: {image_size: 8, in_chans: 1, per_class: 4}\nmodel: {backbone: resnet8_cifar}\ntrain: {epochs: 1}\n"
        "run: {name: mine, threads: 1, device: cpu}\n"
    )
    done = run("-m", "gcp", "train", "--config", "mine.yaml", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    return tmp_path


def test_a_plugin_is_imported_where_the_user_names_it_and_never_from_a_checkpoint(plugin_run):
    assert "plugins: [own_rule]" in (plugin_run / "runs/mine/config.yaml").read_text()
    resumed = run("-m", "gcp", "train", "resume=mine", folder=plugin_run)  # the run's own configuration is the user's
    assert resumed.returncode == 0 and "is finished" in resumed.stdout, resumed.stderr
    refused = run("-m", "gcp", "evaluate", "--checkpoint", "mine", folder=plugin_run)
    assert refused.returncode == 2 and "run.plugins=[own_rule]" in refused.stderr
    named = run("-m", "gcp", "evaluate", "--checkpoint", "mine", "run.plugins=[own_rule]", folder=plugin_run)
    assert named.returncode == 0 and "svd_bounded" in named.stdout, named.stderr


def test_a_plugin_that_is_not_there_is_one_message(tmp_path):
    done = run("-m", "gcp", "train", "--config", "digits/resnet", "plugins=[own_rul]", folder=tmp_path)
    assert done.returncode == 2 and "own_rul" in done.stderr and "Traceback" not in done.stderr
    (tmp_path / "broken.py").write_text("raise RuntimeError('no')\n")
    done = run("-m", "gcp", "train", "--config", "digits/resnet", "plugins=[broken]", folder=tmp_path)
    assert done.returncode == 2 and "cannot import broken" in done.stderr and "Traceback" not in done.stderr
