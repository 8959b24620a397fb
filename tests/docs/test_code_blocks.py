"""Every code block of README.md, CONTRIBUTING.md and docs/ runs, or is checked as far as it goes without a run.

Python runs, page by page. A command of bash goes through its own parser and the checks of its configuration up to the
point where it would read data, or miss the file that stands for one of the reader. A configuration is loaded. What
does none of that has a comment in the page that gives the reason: see `code_blocks`.
"""

import argparse
import re
import shutil
import sys
from importlib import import_module
from inspect import signature
from itertools import dropwhile
from pathlib import Path
from unittest import mock

import pytest
import torch
import yaml
from code_blocks import PAGES, ROOT, blocks, shell_commands

from gcp.cli.main import COMMANDS, find
from gcp.cli.main import run as run_command
from gcp.command import SCRIPTS
from gcp.config import load
from gcp.config.validate import key_schemas
from gcp.runs.flow.task import FLOW
from gcp.runs.task import CLASSIFIER
from gcp.studies.cells import check
from gcp.studies.study_file import load_study

NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
NO_CODE = ("", "text", "bibtex")  # what a command prints, and references
ALIASES = {script: command for command, script in SCRIPTS.items()}
SETTINGS = {
    f"{section}.{key}"
    for task in (CLASSIFIER, FLOW)
    for section, keys in key_schemas(task.schema).items()
    for key in keys
}
EXTRAS = re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.M)


class Checked(Exception):
    """A command has come to where its work would begin."""


def stop(*_, **__):
    raise Checked


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty folder with the recipes and what stands for the reader's own files, and commands that begin nothing."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    (tmp_path / "docs").mkdir()
    (tmp_path / "FILE").write_text("extends: digits/resnet\n")
    monkeypatch.chdir(tmp_path)
    for folder in ("scripts", "scripts/real"):
        monkeypatch.syspath_prepend(str(ROOT / folder))
    monkeypatch.setattr("gcp.drawing.curves.draw_curves", stop)
    for name in ("start", "start_or_resume", "begin"):
        monkeypatch.setattr(f"gcp.runs.launch.{name}", stop)
    monkeypatch.setattr(
        "gcp.studies.run.run_study", lambda study, folder, jobs, retry, faults: check_study(study, faults)
    )
    for name in ("parse_args", "parse_intermixed_args"):
        parse = getattr(argparse.ArgumentParser, name)
        monkeypatch.setattr(argparse.ArgumentParser, name, lambda *words, parse=parse: stop(parse(*words)))
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
def test_blocks_are_of_known_kinds_or_say_why_not(name):
    for block in blocks(ROOT / name):
        assert block.kind in (*NO_CODE, "python", "bash", "yaml"), f"{name}:{block.line}"
        assert block.reason is None or len(block.reason.split()) > 1, f"{name}:{block.line}: no reason"


@pytest.mark.parametrize("name", [name for name in NAMES if any(b.kind == "python" for b in blocks(ROOT / name))])
def test_python(name, tmp_path, monkeypatch, request):
    monkeypatch.chdir(tmp_path)
    if "runs/mine" in (ROOT / name).read_text():
        (tmp_path / "runs").mkdir()
        (tmp_path / "runs" / "mine").symlink_to(request.getfixturevalue("uninterrupted"))
    torch.manual_seed(0)
    names: dict = {"__name__": "page"}
    for block in blocks(ROOT / name):
        if block.kind == "python" and block.reason is None:
            if block.package:
                pytest.importorskip(block.package)
            for text in (block.given, block.text):
                lines = "\n" * (block.line - 1 if text is block.text else 0)
                exec(compile(lines + text, name, "exec"), names)


@pytest.mark.parametrize("name", [name for name in NAMES if any(b.kind == "bash" for b in blocks(ROOT / name))])
def test_commands(name, place, capsys):
    for block in blocks(ROOT / name):
        if block.kind == "bash" and block.reason is None:
            for words in shell_commands(block.text):
                fault = check_command(words, capsys)
                assert not fault, f"{name}:{block.line}: {' '.join(words)}: {fault}"


@pytest.mark.parametrize("name", [name for name in NAMES if any(b.kind == "yaml" for b in blocks(ROOT / name))])
def test_configurations(name, place):
    for block in blocks(ROOT / name):
        if block.kind == "yaml" and block.reason is None:
            study = "variants" in yaml.safe_load(block.text)
            path = place / "configs" / "studies" / "page.yaml" if study else place / "page.yaml"
            path.write_text(block.text)
            assert check(*load_study(path)) if study else load(path)


WHOLE = {
    "gcp predict RUN FOLDER": "predictions.csv",
    "gcp convert RUN FOLDER/": "model.safetensors",
    "gcp list recipes": "digits/resnet",
    "gcp list heads": "svd_pade",
    "gcp train --help": "optim.lr",
    "python scripts/compress.py --checkpoint RUN --params 0.25": "parameters",
}


@pytest.mark.parametrize("line", WHOLE)
def test_whole_commands(line, uninterrupted, image_folder, tmp_path, monkeypatch, capsys):
    """Those of a new user, on a small run and a folder of images."""
    assert any(line in block.text for page in PAGES for block in blocks(page) if block.kind == "bash")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "RUN").symlink_to(uninterrupted)
    (tmp_path / "FOLDER").symlink_to(image_folder if "predict" in line else tmp_path)
    program, *words = line.split()
    words = words if program == "gcp" else [ALIASES[words[0]], *words[1:]]
    assert run_command(find(words[0]), words[1:]) == 0
    assert WHOLE[line] in capsys.readouterr().out


def check_study(study, faults):
    assert check(study, faults)
    raise Checked


def check_command(words, capsys):
    """What is wrong with a command, None where nothing is."""
    program, *rest = words
    if program == "gcp":
        return check_gcp(rest, capsys)
    if program in ("python", "torchrun", "bash", "sbatch"):
        if program in ("torchrun", "sbatch"):  # their flags come before the script
            rest = list(dropwhile(lambda word: word.startswith("-"), rest))
        return check_script(*rest, capsys=capsys)
    if program == "pip":
        wanted = [word for word in rest if word not in ("install", "-r", "-e")]
        known = ["requirements.txt", ".", *(f"{name}[{extra}]" for extra in EXTRAS for name in (".", "gcp-suite"))]
        return next((f"no {word}" for word in wanted if word not in known and not word.isidentifier()), None)
    return (
        None
        if program in ("for", "done", "git", "pre-commit", "mkdocs")
        else "an unknown program: check it or say why not"
    )


def check_script(script, *words, capsys):
    """A script, or code after -c."""
    if script == "-c":
        return compile(words[0], "-c", "exec") and None
    if not (ROOT / script).is_file():
        return "no such file"
    if script in ("scripts/train.sh", "scripts/slurm.sbatch"):
        config = ["--config", *words] if words else ["--list", "recipes"]
        return check_gcp(["train", *config], capsys)
    if script in ALIASES:
        return check_gcp([ALIASES[script], *words], capsys)
    if script.endswith(".py"):
        try:
            module = import_module(script.removeprefix("scripts/").removesuffix(".py").replace("/", "."))
            with mock.patch.object(sys, "argv", [script, *words]):
                module.main(*[list(words)][: len(signature(module.main).parameters)])
        except Checked:
            return None
        except SystemExit as end:
            return end.code and capsys.readouterr().err
        return "has not parsed its words"
    return None  # of bash: their words are tested in tests/configs/test_scripts.py


def check_gcp(words, capsys):
    """A command of `gcp`: it comes to its work, or misses a file of the reader, or an extra that is not installed."""
    command, *rest = words
    if command not in COMMANDS:
        return f"no command {command}"
    if command == "doctor":
        return rest and "takes nothing"
    unknown = {word.partition("=")[0] for word in rest if "." in word.partition("=")[0] and "=" in word} - SETTINGS
    if unknown - {"--config"}:
        return f"unknown keys {unknown}"
    try:
        code = run_command(find(command), rest)
    except Checked:
        return None
    said = capsys.readouterr().err
    if code == 2 and ("needs the package" in said or any(missing(word) in said for word in rest if missing(word))):
        return None
    return said if code else None


def missing(word):
    """The file that a word of a command names and that is not there, "" where it names none."""
    path = word.removeprefix("resume=")
    return "" if path.startswith("-") or "=" in path or Path(path).exists() else path
